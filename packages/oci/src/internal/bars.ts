/**
 * Who is left alone for a while, and for longer each time.
 */
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import { RecentMap } from "@gantry/coord/RecentMap"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** The most that are remembered. */
const capacity = 10_000

/** Bars of what keys name. */
export interface Bars {
  /** For how long it is still barred; zero if it is not. */
  readonly remaining: (key: string) => Effect.Effect<Duration.Duration>
  /** Bars it: for twice as long as the time before, if it was not cleared since. */
  readonly raise: (key: string) => Effect.Effect<void>
  readonly clear: (key: string) => Effect.Effect<void>
}

/** Bars that last from `first` to `longest`. */
export const make = (first: Duration.Input, longest: Duration.Input): Bars => {
  const bars = new RecentMap<string, { readonly until: number; readonly lasts: number }>(capacity)
  const [shortestMillis, longestMillis] = [Duration.toMillis(first), Duration.toMillis(longest)]
  return {
    remaining: (key) =>
      Effect.map(MonotonicClock.millis, (now) => Duration.millis(Math.max((bars.get(key)?.until ?? now) - now, 0))),
    raise: (key) =>
      Effect.map(MonotonicClock.millis, (now) => {
        const lasts = Math.min((bars.get(key)?.lasts ?? shortestMillis / 2) * 2, longestMillis)
        bars.set(key, { until: now + lasts, lasts })
      }),
    clear: (key) => Effect.sync(() => bars.delete(key))
  }
}
