/**
 * Many timers of one length, which one fiber watches: `Effect.timeout` begins
 * two fibers and a timer, which costs a busy node more than what they guard.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as MonotonicClock from "./MonotonicClock.ts"

/**
 * Starts a timer on a fiber's clock. Once its time is up it calls back, unless
 * what it gave was called before.
 */
export type Timers = (fiber: Fiber.Fiber<unknown, unknown>, isUp: () => void) => () => void

interface Timer {
  /** In milliseconds of the monotonic clock. */
  readonly end: number
  readonly isUp: () => void
}

/** Timers of this length. The end of the scope stops them all. */
export const make = (duration: Duration.Duration): Effect.Effect<Timers, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const groups = new WeakMap<Clock.Clock, Timers>()
    return (fiber, isUp) => {
      const clock = fiber.getRef(Clock.Clock)
      const known = groups.get(clock)
      if (known !== undefined) return known(fiber, isUp)
      const group = makeGroup(clock, Duration.toMillis(duration), scope)
      groups.set(clock, group)
      return group(fiber, isUp)
    }
  })

/** The timers on one clock. */
const makeGroup = (clock: Clock.Clock, millis: number, scope: Scope.Scope): Timers => {
  // In a set or a map that lives long, the garbage collector takes every timer for one that stays.
  const timers: Array<Timer | undefined> = []
  const vacant: Array<number> = []
  let isWatched = false

  const vacate = (place: number) => {
    timers[place] = undefined
    vacant.push(place)
  }

  const watch = Effect.gen(function* () {
    while (true) {
      const now = MonotonicClock.millisUnsafe(clock)
      for (const [place, timer] of timers.entries()) {
        if (timer === undefined || timer.end > now) continue
        vacate(place)
        timer.isUp()
      }
      // Those that have started in the meantime are among them.
      const next = timers.reduce((first, timer) => Math.min(first, timer?.end ?? first), Number.POSITIVE_INFINITY)
      if (next === Number.POSITIVE_INFINITY) break
      yield* Effect.sleep(next - now)
    }
    isWatched = false
  })

  return (fiber, isUp) => {
    const timer = { end: MonotonicClock.millisUnsafe(clock) + millis, isUp }
    const place = vacant.pop() ?? timers.length
    timers[place] = timer
    // It sleeps until the first of them ends; those that start later end later.
    if (!isWatched) {
      isWatched = true
      Fiber.runIn(Effect.runForkWith(fiber.context)(watch), scope)
    }
    return () => {
      if (timers[place] === timer) vacate(place)
    }
  }
}
