/**
 * Peers for the suites, on a network in memory.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { peerIdOf } from "../Fixtures.ts"
import * as MemoryNetwork from "../MemoryNetwork.ts"
import { PeerFaults, Peers } from "./CoordFixture.ts"

const make = Effect.map(MemoryNetwork.MemoryNetwork, (network) => {
  let joined = 0
  const peers = Peers.of({
    join: Effect.suspend(() => {
      const peerId = peerIdOf(joined++)
      return Effect.map(network.join(peerId), (transport) => ({ address: { peerId, addresses: [] }, transport }))
    })
  })
  const faults = PeerFaults.of({
    mute: ({ address }) => network.partition([address.peerId], undefined, { oneWay: true }),
    isolate: ({ address }) => network.partition([address.peerId]),
    sever: ({ address }) => network.sever(address.peerId)
  })
  return Context.make(Peers, peers).pipe(Context.add(PeerFaults, faults))
})

/** Each peer gets an identity of its own. The network stays at hand for other faults. */
export const layer: Layer.Layer<Peers | PeerFaults | MemoryNetwork.MemoryNetwork> = Layer.effectContext(make).pipe(
  Layer.provideMerge(MemoryNetwork.layer)
)
