/**
 * Metrics that a test can read.
 */
import { Metrics } from "@gantry/coord/Metrics"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * What the {@link Metrics} of the same layer counted. The key of an event is
 * its name in `Metrics`, followed by its labels in the order of the call:
 * `pullIntentServed`, `streamError:read`, `originPullFailure:layer:auth`.
 * `inflightPulls` and `negativeCacheEntries` hold the last value.
 */
export class RecordingMetrics extends Context.Service<
  RecordingMetrics,
  {
    /** Every event that is not zero, so that a test can compare the whole. */
    readonly counts: Effect.Effect<Record<string, number>>
  }
>()("@gantry/testkit/RecordingMetrics") {}

const make = Effect.sync(() => {
  const counts = new Map<string, number>()
  const count = (...key: ReadonlyArray<string>) => countMany(1, ...key)
  const countMany = (amount: number, ...key: ReadonlyArray<string>) =>
    Effect.sync(() => {
      const event = key.join(":")
      counts.set(event, (counts.get(event) ?? 0) + amount)
    })
  const hold = (event: string) => (value: number) =>
    Effect.sync(() => {
      counts.set(event, value)
    })
  const metrics = Metrics.of({
    pullIntentServed: count("pullIntentServed"),
    pullIntentStorageUnavailable: count("pullIntentStorageUnavailable"),
    pleasePullServed: count("pleasePullServed"),
    pleasePullStarted: count("pleasePullStarted"),
    pleasePullDeclined: count("pleasePullDeclined"),
    pleasePullMalformedDigest: count("pleasePullMalformedDigest"),
    streamError: (reason) => count("streamError", reason),
    unauthorizedPeer: (reason) => count("unauthorizedPeer", reason),
    foreignOutcomes: (amount) => countMany(amount, "foreignOutcomes"),
    hrwRankMismatch: (kind) => count("hrwRankMismatch", kind),
    inflightPulls: hold("inflightPulls"),
    negativeCacheEntries: hold("negativeCacheEntries"),
    negativeCacheHit: (failure) => count("negativeCacheHit", failure),
    negativeCacheEnter: (failure) => count("negativeCacheEnter", failure),
    originPull: (kind) => count("originPull", kind),
    originPullSuccess: (kind) => count("originPullSuccess", kind),
    originPullFailure: (kind, failure) => count("originPullFailure", kind, failure),
    nodeFault: (fault) => count("nodeFault", fault)
  })
  const recording = RecordingMetrics.of({
    counts: Effect.sync(() => Object.fromEntries([...counts].filter(([, value]) => value !== 0)))
  })
  return Context.make(Metrics, metrics).pipe(Context.add(RecordingMetrics, recording))
})

/** Metrics that count in memory, and what they counted. */
export const layer: Layer.Layer<Metrics | RecordingMetrics> = Layer.effectContext(make)
