import { StreamTransport } from "@gantry/coord/StreamTransport"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { type Peer, PeerFaults, Peers } from "@gantry/testkit/suites/CoordFixture"
import { Context, Effect, Layer } from "effect"
import { startWire, type Wire } from "./support.ts"

const host = Libp2pTransport.layer.pipe(
  Layer.provideMerge(Host.layer({ listen: ["/ip4/127.0.0.1/tcp/0"] })),
  Layer.provide(Identity.layerEphemeral)
)

const make = Effect.sync(() => {
  const wires = new WeakMap<Peer, Wire>()
  const wireOf = (peer: Peer) => wires.get(peer) as Wire
  const peers = Peers.of({
    join: Effect.gen(function* () {
      const context = yield* Effect.orDie(Layer.build(Layer.fresh(host)))
      const { multiaddrs, peerId } = Context.get(context, Host.Host)
      const wire = yield* startWire({ address: { peerId, addresses: multiaddrs } })
      const peer = { address: wire.address, transport: Context.get(context, StreamTransport) }
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

/** Peers for the suites: each a libp2p host of its own on this machine, at the end of a wire. */
export const layer: Layer.Layer<Peers | PeerFaults> = Layer.effectContext(make)
