/**
 * A server in a process of its own, so that its memory can be measured. It
 * tells its address, and answers each message with its memory.
 */
import { CoordConfig, CoordServer, Inflight, Members, Metrics, NegativeCache, Pump, Store } from "@gantry/coord"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { Effect, Layer } from "effect"
import { measure } from "./MeasuredProcess.ts"

const layer = CoordServer.layer.pipe(
  Layer.provide([
    // Whoever measures decides when it is enough.
    CoordConfig.layer({ streamHandshakeTimeout: "1 hour", maxConcurrentStreams: 1_024 }),
    Inflight.layer,
    Members.layerNone,
    NegativeCache.layer(),
    Pump.layerNone,
    Store.layerMemory()
  ]),
  Layer.provide(Metrics.layerNoop),
  Layer.provide(Libp2pTransport.layer),
  Layer.provideMerge(Host.layer({ listen: ["/ip4/127.0.0.1/tcp/0"] })),
  Layer.provide(Identity.layerEphemeral)
)

const program = Effect.gen(function* () {
  const { multiaddrs, peerId } = yield* Host.Host
  yield* CoordServer.CoordServer
  process.on("message", () => Effect.runFork(Effect.map(measure, (memory) => process.send?.(memory))))
  process.on("disconnect", () => process.exit())
  process.send?.({ peerId, addresses: multiaddrs })
  return yield* Effect.never
})

Effect.runFork(Effect.provide(program, layer))
