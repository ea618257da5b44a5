import { StreamTransport } from "@gantry/coord/StreamTransport"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { Peers } from "@gantry/testkit/suites/CoordFixture"
import { Context, Effect, Layer } from "effect"

const host = Libp2pTransport.layer.pipe(
  Layer.provideMerge(Host.layer({ listen: ["/ip4/127.0.0.1/tcp/0"] })),
  Layer.provide(Identity.layerEphemeral)
)

/** Peers for the suites: each a libp2p host of its own on this machine. */
export const layer: Layer.Layer<Peers> = Layer.succeed(Peers, {
  join: Effect.map(Effect.orDie(Layer.build(Layer.fresh(host))), (context) => {
    const { multiaddrs, peerId } = Context.get(context, Host.Host)
    return { address: { peerId, addresses: multiaddrs }, transport: Context.get(context, StreamTransport) }
  })
})
