/**
 * The nodes of a benchmark: real ones, on the loopback interface.
 */
import * as Coord from "@gantry/coord/Coord"
import * as CoordClient from "@gantry/coord/CoordClient"
import * as CoordConfig from "@gantry/coord/CoordConfig"
import * as Members from "@gantry/coord/Members"
import * as Metrics from "@gantry/coord/Metrics"
import * as PeerResolver from "@gantry/coord/PeerResolver"
import * as Pump from "@gantry/coord/Pump"
import * as Store from "@gantry/coord/Store"
import { StreamTransport } from "@gantry/coord/StreamTransport"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { libp2pOf } from "@gantry/libp2p/internal/libp2pOf"
import type { NodeId } from "@gantry/protocol"
import { nodeIdOf } from "@gantry/testkit/Fixtures"
import type { Libp2p } from "@libp2p/interface"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** The server's name in every membership. */
export const serverId: NodeId = nodeIdOf(0)

/** A thousand peers share one address here, which no cluster's nodes do. */
const crowded = { maxConnectionsPerSecondPerHost: 1_000_000 }

const layerHost = (listen: ReadonlyArray<string>) =>
  Libp2pTransport.layer.pipe(
    Layer.provideMerge(Host.layer({ listen, ...crowded })),
    Layer.provide(Identity.layerEphemeral),
    Layer.fresh
  )

/** The most digests that are ever asked for. */
const claims = 4_096

/** A coordination server with an empty store, over a transport. Its pulls never end: deciding is measured, pulling is not. */
export const layerServer = Coord.layer({
  pump: Pump.layerBackground({ fetch: () => Effect.never, maxConcurrentPulls: claims, stallTimeout: "1 hour" })
}).pipe(
  Layer.provide(Layer.succeed(Store.Store, { has: () => Effect.succeed(false) })),
  Layer.provideMerge(Members.layerDynamic(serverId)),
  Layer.orDie
)

/** A server on a port of its own. */
export const layerListening = layerServer.pipe(Layer.provideMerge(layerHost(["/ip4/127.0.0.1/tcp/0"])))

/** A node that asks, and its own libp2p node for what goes past us. */
export interface Client {
  readonly host: Host.Host["Service"]
  readonly libp2p: Libp2p
  readonly transport: StreamTransport["Service"]
  readonly coord: CoordClient.CoordClient["Service"]
}

/** How long a call may take here. A thousand handshakes share two processors: they take seconds. */
const patience = "60 seconds"

/** A new node that knows one server; the scope ends it. */
export const startClient = (server: PeerResolver.PeerAddress): Effect.Effect<Client, never, Scope.Scope> =>
  Layer.build(
    CoordClient.layer.pipe(
      Layer.provide([
        CoordConfig.layer({ dialTimeout: patience, rpcTimeout: patience }),
        Layer.succeed(PeerResolver.PeerResolver, { resolve: () => Effect.succeedSome(server) }),
        Metrics.layer
      ]),
      Layer.provideMerge(layerHost([])),
      Layer.fresh
    )
  ).pipe(
    Effect.orDie,
    Effect.map((context) => {
      const host = Context.get(context, Host.Host)
      return {
        host,
        libp2p: libp2pOf(host),
        transport: Context.get(context, StreamTransport),
        coord: Context.get(context, CoordClient.CoordClient)
      }
    })
  )
