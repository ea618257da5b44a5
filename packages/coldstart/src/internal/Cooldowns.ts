/**
 * Passing failures that pullers reported, for as long as nobody needs to ask
 * again.
 */
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import { type OriginRef, type Timestamp, timestampToMillis } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ColdStartError } from "../ColdStartError.ts"

/** Failures per origin reference. */
export interface Cooldowns {
  /** The failure whose cooldown runs. */
  readonly lookup: (ref: OriginRef) => Effect.Effect<Option.Option<ColdStartError>>
  /** Keeps a failure until the puller tries again. Where it does not say when that is, nothing is kept. */
  readonly remember: (error: ColdStartError, cooldownUntil: Option.Option<Timestamp>) => Effect.Effect<void>
}

/**
 * Remembers each failure until its cooldown ends, and never longer than the cap:
 * the end is an instant of another clock, and those are off by up to an hour.
 */
export const make = (cap: Duration.Duration): Cooldowns => {
  const longest = Duration.toMillis(cap)
  const failures = new Map<string, { readonly error: ColdStartError; readonly until: number }>()

  const remaining = (cooldownUntil: Timestamp) =>
    Effect.map(Clock.currentTimeMillis, (wall) =>
      Math.min(Math.max(timestampToMillis(cooldownUntil) - wall, 0), longest)
    )

  const sweep = (at: number) => {
    for (const [ref, { until }] of failures) {
      if (until <= at) failures.delete(ref)
    }
  }

  return {
    lookup: (ref) =>
      Effect.map(MonotonicClock.millis, (at) => {
        const failure = failures.get(ref.toString())
        return failure !== undefined && at < failure.until ? Option.some(failure.error) : Option.none()
      }),
    remember: Effect.fnUntraced(function* (error, cooldownUntil) {
      if (Option.isNone(cooldownUntil)) return
      const at = yield* MonotonicClock.millis
      const until = at + (yield* remaining(cooldownUntil.value))
      sweep(at)
      failures.set(error.ref.toString(), { error, until })
    })
  }
}
