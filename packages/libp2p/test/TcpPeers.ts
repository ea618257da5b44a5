import { type Peer, PeerFaults, Peers } from "@gantry/testkit/suites/CoordFixture"
import { Context, Effect, Layer } from "effect"
import { startNode, startWire, type Wire } from "./support.ts"

/** Peers for the suites: each a libp2p host of its own on this machine. */
export const layer: Layer.Layer<Peers> = Layer.succeed(Peers, { join: Effect.orDie(startNode()) })

const makeWired = Effect.sync(() => {
  const wires = new WeakMap<Peer, Wire>()
  const wireOf = (peer: Peer) => wires.get(peer) as Wire
  const peers = Peers.of({
    join: Effect.gen(function* () {
      const node = yield* Effect.orDie(startNode())
      const wire = yield* startWire(node)
      const peer = { address: wire.address, transport: node.transport }
      wires.set(peer, wire)
      return peer
    })
  })
  const faults = PeerFaults.of({
    mute: (peer) => wireOf(peer).hold("from"),
    isolate: (peer) => wireOf(peer).hold("to", "from"),
    sever: (peer) => wireOf(peer).sever
  })
  return Context.make(Peers, peers).pipe(Context.add(PeerFaults, faults))
})

/** The same, each at the end of a wire. */
export const layerWired: Layer.Layer<Peers | PeerFaults> = Layer.effectContext(makeWired)
