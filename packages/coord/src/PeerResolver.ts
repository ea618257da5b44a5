/**
 * From a node id to a peer that can be dialed.
 */
import type { NodeId, PeerId } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Members } from "./Members.ts"

/** A peer and where to dial it. Without addresses only a peer that is connected or known can be reached. */
export interface PeerAddress {
  readonly peerId: PeerId
  /** libp2p multiaddrs. */
  readonly addresses: ReadonlyArray<string>
}

/** Knows the peers behind node ids (protocol, sections 7 and 9). */
export class PeerResolver extends Context.Service<
  PeerResolver,
  {
    readonly resolve: (nodeId: NodeId) => Effect.Effect<Option.Option<PeerAddress>>
  }
>()("@gantry/coord/PeerResolver") {}

/** Knows nobody: only taught peers, and node ids that are peer ids, can be called. */
export const layerNone: Layer.Layer<PeerResolver> = Layer.succeed(PeerResolver, {
  resolve: () => Effect.succeedNone
})

/** Knows the members that have published their peer ids. */
export const layerMembers: Layer.Layer<PeerResolver, never, Members> = Layer.effect(
  PeerResolver,
  Effect.gen(function* () {
    const members = yield* Members
    return PeerResolver.of({
      resolve: (nodeId) =>
        Effect.map(members.view, (view) =>
          Option.flatMap(view.byNodeId(nodeId), (member) =>
            Option.map(member.peerId, (peerId) => ({ peerId, addresses: member.addresses }))
          )
        )
    })
  })
)
