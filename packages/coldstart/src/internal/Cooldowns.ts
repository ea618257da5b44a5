/**
 * Passing failures that pullers reported, for as long as nobody needs to ask
 * again.
 */
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import type { OriginRef } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Setback } from "./Setback.ts"

/** Setbacks per origin reference. */
export interface Cooldowns {
  /** The setback that is remembered. */
  readonly lookup: (ref: OriginRef) => Effect.Effect<Option.Option<Setback>>
  /** Keeps a setback until it is to be tried again. */
  readonly remember: (ref: OriginRef, setback: Setback) => Effect.Effect<void>
}

/** The most references that are remembered; the oldest leave first. */
const capacity = 10_000

/**
 * Remembers each setback until it is to be tried again, and never longer than
 * the cap: when that is comes from another clock, and those are off by up to an
 * hour.
 */
export const make = (cap: Duration.Duration): Cooldowns => {
  const longest = Duration.toMillis(cap)
  const setbacks = new Map<string, { readonly setback: Setback; readonly until: number }>()

  return {
    lookup: (ref) =>
      Effect.map(MonotonicClock.millis, (at) => {
        const remembered = setbacks.get(ref.toString())
        return remembered !== undefined && at < remembered.until ? Option.some(remembered.setback) : Option.none()
      }),
    remember: (ref, setback) =>
      Effect.map(MonotonicClock.millis, (at) => {
        for (const [oldest, { until }] of setbacks) {
          if (until <= at || setbacks.size >= capacity) setbacks.delete(oldest)
        }
        const key = ref.toString()
        setbacks.delete(key)
        setbacks.set(key, { setback, until: Math.min(setback.retryAt, at + longest) })
      })
  }
}
