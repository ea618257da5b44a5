/**
 * What is to happen at instants of Effect's clock.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Lets something happen at an instant, in milliseconds, or now if that has gone by. */
export type Calendar = (instant: number, happen: () => void) => Effect.Effect<void>

/**
 * A calendar that sleeps once per instant, however much is to happen then: a
 * simulation of thousands of peers has far fewer instants than events.
 */
export const makeCalendar = (scope: Scope.Scope): Calendar => {
  const entries = new Map<number, Array<() => void>>()

  const wake = (instant: number) => {
    const due = entries.get(instant) ?? []
    entries.delete(instant)
    for (const happen of due) happen()
  }

  return Effect.fnUntraced(function* (instant, happen) {
    const entry = entries.get(instant)
    if (entry !== undefined) {
      entry.push(happen)
      return
    }
    entries.set(instant, [happen])
    const delay = instant - (yield* Clock.currentTimeMillis)
    const waking = Effect.andThen(
      Effect.sleep(delay),
      Effect.sync(() => wake(instant))
    )
    yield* Effect.forkIn(waking, scope, { startImmediately: true })
  })
}
