/**
 * Time for measuring, which no correction of the wall clock bends.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Milliseconds of the monotonic clock; only their differences mean anything. */
export const millisUnsafe = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)

/** Milliseconds of the monotonic clock; only their differences mean anything. */
export const millis: Effect.Effect<number> = Clock.clockWith((clock) => Effect.sync(() => millisUnsafe(clock)))
