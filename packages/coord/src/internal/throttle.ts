/**
 * Lets an effect run now and then.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as MonotonicClock from "../MonotonicClock.ts"

/** The first call runs, and then each that comes at least `interval` after the last one that ran; others do nothing. */
export const makeThrottle = (interval: Duration.Duration) => {
  const millis = Duration.toMillis(interval)
  let last = Number.NEGATIVE_INFINITY
  return (effect: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.flatMap(MonotonicClock.millis, (now) => {
      if (now - last < millis) return Effect.void
      last = now
      return effect
    })
}
