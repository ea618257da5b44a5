/**
 * A client in a process of its own, so that its memory can be measured. It asks
 * the peer in its first argument as often as it is told to, and answers each
 * message with what it has to show.
 */
import { CoordClient, CoordConfig, Metrics, PeerResolver } from "@gantry/coord"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { libp2pOf } from "@gantry/libp2p/internal/libp2pOf"
import { NodeId } from "@gantry/protocol"
import { digestOf } from "@gantry/testkit/Fixtures"
import { Effect, Layer } from "effect"
import type { Order, Report } from "./ClientProcess.ts"
import { measure } from "./MeasuredProcess.ts"

const address = JSON.parse(process.argv[2] as string) as PeerResolver.PeerAddress

const layer = CoordClient.layer.pipe(
  Layer.provide([
    // Whoever measures decides when it is enough.
    CoordConfig.layer({ dialTimeout: "1 hour", rpcTimeout: "1 hour" }),
    Metrics.layerNoop,
    Layer.succeed(PeerResolver.PeerResolver, { resolve: () => Effect.succeedSome(address) }),
    Libp2pTransport.layer
  ]),
  Layer.provideMerge(Host.layer({ listen: [] })),
  Layer.provide(Identity.layerEphemeral)
)

const program = Effect.gen(function* () {
  const client = yield* CoordClient.CoordClient
  const node = libp2pOf(yield* Host.Host)
  const reasons: Record<string, number> = {}
  const ask = client.pullIntentQuery(NodeId.make("hostile"), digestOf("wanted")).pipe(
    Effect.catch(({ reason }) =>
      Effect.sync(() => {
        reasons[reason] = (reasons[reason] ?? 0) + 1
      })
    )
  )
  const report = Effect.map(measure, (memory) => {
    const streams = node.getConnections().flatMap((connection) => connection.streams).length
    process.send?.({ ...memory, streams, reasons } satisfies Report)
  })
  const run = Effect.runForkWith(yield* Effect.context<never>())
  process.on("message", ({ asks, atOnce, waits }: Order) => {
    const asking = Effect.forEach(Array.from({ length: asks }), () => ask, { concurrency: atOnce, discard: true })
    run(waits ? Effect.andThen(asking, report) : Effect.andThen(report, Effect.asVoid(Effect.forkDetach(asking))))
  })
  process.on("disconnect", () => process.exit())
  yield* report
  return yield* Effect.never
})

Effect.runFork(Effect.provide(program, layer))
