/**
 * Peers for the suites, on a network in memory.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { peerIdOf } from "../Fixtures.ts"
import * as MemoryNetwork from "../MemoryNetwork.ts"
import { Peers } from "./CoordFixture.ts"

/** Each peer gets an identity of its own. The network stays at hand for faults. */
export const layer: Layer.Layer<Peers | MemoryNetwork.MemoryNetwork> = Layer.effect(
  Peers,
  Effect.gen(function* () {
    const network = yield* MemoryNetwork.MemoryNetwork
    let joined = 0
    return Peers.of({
      join: Effect.suspend(() => {
        const peerId = peerIdOf(joined++)
        return Effect.map(network.join(peerId), (transport) => ({ address: { peerId, addresses: [] }, transport }))
      })
    })
  })
).pipe(Layer.provideMerge(MemoryNetwork.layer))
