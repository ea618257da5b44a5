/**
 * The nodes of a benchmark: real ones, on the loopback interface.
 */
import * as CoordClient from "@gantry/coord/CoordClient"
import * as CoordConfig from "@gantry/coord/CoordConfig"
import * as CoordServer from "@gantry/coord/CoordServer"
import * as Inflight from "@gantry/coord/Inflight"
import * as Members from "@gantry/coord/Members"
import type { MembersView } from "@gantry/coord/MembersView"
import * as Metrics from "@gantry/coord/Metrics"
import * as NegativeCache from "@gantry/coord/NegativeCache"
import * as PeerResolver from "@gantry/coord/PeerResolver"
import * as Pump from "@gantry/coord/Pump"
import * as Store from "@gantry/coord/Store"
import { StreamTransport } from "@gantry/coord/StreamTransport"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import type { NodeId } from "@gantry/protocol"
import { nodeIdOf } from "@gantry/testkit/Fixtures"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type * as SubscriptionRef from "effect/SubscriptionRef"

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

/** Claims every digest for a pull that never ends: deciding is measured, pulling is not. */
const layerPump = Layer.effect(
  Pump.Pump,
  Effect.gen(function* () {
    const inflight = yield* Inflight.Inflight
    const failures = yield* NegativeCache.NegativeCache
    const scope = yield* Effect.scope
    const claim = ({ kind, ref }: Pump.PullRequest) =>
      Effect.map(Scope.provide(inflight.start(ref.digest, kind, Option.none()), scope), ({ entry, owned }) =>
        owned ? Pump.PumpResult.Started(entry) : Pump.PumpResult.AlreadyPulling(entry)
      )
    return {
      pull: Effect.fnUntraced(function* (request) {
        const failure = yield* failures.lookupRef(request.ref, request.kind)
        if (Option.isSome(failure)) return Pump.PumpResult.RecentlyFailed(failure.value)
        const running = yield* inflight.lookup(request.ref.digest)
        return Option.isSome(running) ? Pump.PumpResult.AlreadyPulling(running.value) : yield* claim(request)
      })
    }
  })
)

/** A coordination server with an empty store, over a transport. */
export const layerServer = (view: SubscriptionRef.SubscriptionRef<MembersView>) =>
  CoordServer.layer.pipe(
    Layer.provide([
      layerPump,
      Layer.succeed(Store.Store, { has: () => Effect.succeed(false) }),
      Members.layerRef(serverId, view)
    ]),
    Layer.provide(Inflight.layer),
    Layer.provideMerge(NegativeCache.layer()),
    Layer.provide(Metrics.layer)
  )

/** A server on a port of its own. */
export const layerListening = (view: SubscriptionRef.SubscriptionRef<MembersView>) =>
  layerServer(view).pipe(Layer.provideMerge(layerHost(["/ip4/127.0.0.1/tcp/0"])))

/** A node that asks, and its own libp2p node for what goes past us. */
export interface Client {
  readonly host: Host.Host["Service"]
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
    Effect.map((context) => ({
      host: Context.get(context, Host.Host),
      transport: Context.get(context, StreamTransport),
      coord: Context.get(context, CoordClient.CoordClient)
    }))
  )
