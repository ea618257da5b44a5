/**
 * Time for nodes that share a processor.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * A clock whose seconds are `factor` seconds long. A cluster's timeouts, pauses
 * and thresholds are made for nodes with a machine each. Where many of them
 * share one they get less done in a second, and by this clock they are given
 * the time for it: all that they wait for keeps its proportions.
 */
export const make = (clock: Clock.Clock, factor: number): Clock.Clock => {
  const millisAtStart = clock.currentTimeMillisUnsafe()
  const nanosAtStart = clock.currentTimeNanosUnsafe()
  const monotonicAtStart = clock.monotonicTimeNanosUnsafe()
  const slowedNanos = (now: bigint, start: bigint) => start + BigInt(Math.round(Number(now - start) / factor))

  const currentTimeMillisUnsafe = () =>
    Math.round(millisAtStart + (clock.currentTimeMillisUnsafe() - millisAtStart) / factor)
  const currentTimeNanosUnsafe = () => slowedNanos(clock.currentTimeNanosUnsafe(), nanosAtStart)
  const monotonicTimeNanosUnsafe = () => slowedNanos(clock.monotonicTimeNanosUnsafe(), monotonicAtStart)
  return {
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe,
    currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    monotonicTimeNanosUnsafe,
    monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe),
    sleep: (duration) => clock.sleep(Duration.times(duration, factor))
  }
}

/** Slows the clock that is there. */
export const layer = (factor: number): Layer.Layer<never> =>
  Layer.effect(
    Clock.Clock,
    Clock.clockWith((clock) => Effect.sync(() => make(clock, factor)))
  )
