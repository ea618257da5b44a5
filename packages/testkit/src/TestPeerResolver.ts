/**
 * A resolver that knows what a test tells it.
 */
import { type PeerAddress, PeerResolver } from "@gantry/coord/PeerResolver"
import type { NodeId } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/** Governs the {@link PeerResolver} of the same layer. */
export class TestPeerResolver extends Context.Service<
  TestPeerResolver,
  {
    readonly set: (nodeId: NodeId, address: PeerAddress) => Effect.Effect<void>
    readonly remove: (nodeId: NodeId) => Effect.Effect<void>
    /** The node ids asked for so far, in order. */
    readonly asked: Effect.Effect<ReadonlyArray<NodeId>>
  }
>()("@gantry/testkit/TestPeerResolver") {}

const make = (known: Iterable<readonly [NodeId, PeerAddress]>) =>
  Effect.sync(() => {
    const addresses = new Map(known)
    const asked: Array<NodeId> = []
    const resolver = PeerResolver.of({
      resolve: (nodeId) =>
        Effect.sync(() => {
          asked.push(nodeId)
          return Option.fromUndefinedOr(addresses.get(nodeId))
        })
    })
    const control = TestPeerResolver.of({
      set: (nodeId, address) => Effect.sync(() => addresses.set(nodeId, address)),
      remove: (nodeId) => Effect.sync(() => addresses.delete(nodeId)),
      asked: Effect.sync(() => [...asked])
    })
    return Context.make(PeerResolver, resolver).pipe(Context.add(TestPeerResolver, control))
  })

/** A resolver that knows the given nodes. */
export const layer = (
  known: Iterable<readonly [NodeId, PeerAddress]> = []
): Layer.Layer<PeerResolver | TestPeerResolver> => Layer.effectContext(make(known))
