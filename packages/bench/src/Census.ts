/**
 * What a process has of everything that must not grow.
 */
import type { Libp2p } from "@libp2p/interface"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"

/** Counts at one moment, and the memory that is in use then. */
export const Census = Schema.Struct({
  fibers: Schema.Int,
  streams: Schema.Int,
  connections: Schema.Int,
  /** Listeners to the ends of connections. */
  listeners: Schema.Int,
  liveBytes: Schema.Finite
})
export type Census = typeof Census.Type

/** Counts the fibers of an effect, and gives it what takes the census of a node after a collection. */
export const counting = <A, E, R>(
  use: (take: (node: Libp2p) => Effect.Effect<Census>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    let fibers = 0
    const take = (node: Libp2p) =>
      Effect.gen(function* () {
        globalThis.gc?.()
        // What the first collection has finalized goes with the second.
        yield* Effect.sleep("50 millis")
        globalThis.gc?.()
        const { external, heapUsed } = process.memoryUsage()
        const connections = node.getConnections()
        return {
          fibers,
          streams: connections.flatMap(({ streams }) => streams).length,
          connections: connections.length,
          listeners: connections.reduce((sum, connection) => sum + connection.listenerCount("close"), 0),
          liveBytes: heapUsed + external
        }
      })
    return Effect.provideService(use(take), Metric.FiberRuntimeMetrics, {
      recordFiberStart: () => void fibers++,
      recordFiberEnd: () => void fibers--
    })
  })
