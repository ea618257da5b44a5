/**
 * Lets an effect run now and then.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** The first call runs, and then each that comes at least `interval` after the last one that ran; others do nothing. */
export const makeThrottle = (interval: Duration.Duration) => {
  const millis = Duration.toMillis(interval)
  let last = Number.NEGATIVE_INFINITY
  return (effect: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (now - last < millis) return Effect.void
      last = now
      return effect
    })
}
