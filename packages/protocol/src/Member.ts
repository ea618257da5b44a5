/**
 * A node as the cluster publishes it.
 */
import * as Schema from "effect/Schema"
import { NodeId } from "./NodeId.ts"
import { PeerId } from "./PeerId.ts"

/** A member of the cluster. What a node has not published yet is absent. */
export class Member extends Schema.Class<Member>("@gantry/protocol/Member")({
  /** Ranks the node; the same after a restart. */
  nodeId: NodeId,
  /** Authorizes the node and names it in a dial. */
  peerId: Schema.Option(PeerId),
  /** libp2p multiaddrs, each with or without a trailing `/p2p/<id>`. */
  addresses: Schema.Array(Schema.String),
  /** `host:port` of the endpoint that hands out blobs. */
  contentAddress: Schema.Option(Schema.NonEmptyString),
  /** Topology zone. */
  zone: Schema.Option(Schema.NonEmptyString)
}) {}
