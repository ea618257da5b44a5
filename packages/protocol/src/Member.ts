/**
 * A node as the cluster publishes it.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { NodeId } from "./NodeId.ts"
import { PeerId } from "./PeerId.ts"

const none = Effect.succeed(Option.none())

/** A member of the cluster. What a node has not published yet is absent, and may be left out when one is made. */
export class Member extends Schema.Class<Member>("@gantry/protocol/Member")({
  /** Ranks the node; the same after a restart. */
  nodeId: NodeId,
  /** Authorizes the node and names it in a dial. */
  peerId: Schema.Option(PeerId).pipe(Schema.withConstructorDefault(none)),
  /** libp2p multiaddrs, each with or without a trailing `/p2p/<id>`. */
  addresses: Schema.Array(Schema.String).pipe(Schema.withConstructorDefault(Effect.succeed([]))),
  /** `host:port` of the endpoint that hands out blobs. */
  contentAddress: Schema.Option(Schema.NonEmptyString).pipe(Schema.withConstructorDefault(none)),
  /** Topology zone. */
  zone: Schema.Option(Schema.NonEmptyString).pipe(Schema.withConstructorDefault(none))
}) {}
