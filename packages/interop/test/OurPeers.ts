/**
 * Gantry's own nodes, on the loopback interface.
 */
import { StreamTransport } from "@gantry/coord/StreamTransport"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { libp2pOf } from "@gantry/libp2p/internal/libp2pOf"
import { ioTurn, type Peer, Peers } from "@gantry/testkit/suites/CoordFixture"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** A node, and the streams that it has open. */
export interface OurPeer extends Peer {
  readonly libp2p: ReturnType<typeof libp2pOf>
}

const layerHost = Libp2pTransport.layer.pipe(
  Layer.provideMerge(Host.layer({ listen: ["/ip4/127.0.0.1/tcp/0"] })),
  Layer.provide(Identity.layerEphemeral)
)

/** A new node, until the scope closes. */
export const join: Effect.Effect<OurPeer, never, Scope.Scope> = Effect.map(
  Effect.orDie(Layer.build(Layer.fresh(layerHost))),
  (context) => {
    const host = Context.get(context, Host.Host)
    return {
      address: { peerId: host.peerId, addresses: host.multiaddrs },
      transport: Context.get(context, StreamTransport),
      libp2p: libp2pOf(host)
    }
  }
)

/** Nodes for the fixtures of server and client. */
export const layer: Layer.Layer<Peers> = Layer.succeed(Peers, { join })

/** How many streams a node has open, of any protocol, on all its connections. */
export const openStreams = ({ libp2p }: OurPeer): number =>
  libp2p.getConnections().reduce((count, { streams }) => count + streams.length, 0)

/** Lets input and output happen until a condition holds; the test's own limit bounds it. */
export const eventually = (isMet: () => boolean): Effect.Effect<void> =>
  Effect.whileLoop({ while: () => !isMet(), body: () => ioTurn, step: () => {} })
