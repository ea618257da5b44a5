import { assert, it } from "@effect/vitest"
import * as Timers from "@gantry/coord/Timers"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

/** Timers of ten seconds, and the names of those that went off. */
const setting = Effect.gen(function* () {
  const timers = yield* Timers.make(Duration.seconds(10))
  const ended: Array<string> = []
  return { ended, start: (name: string) => timers(() => void ended.push(name)) }
})

it.effect("calls back when a timer's time is up, and not before", () =>
  Effect.gen(function* () {
    const { ended, start } = yield* setting
    start("first")
    yield* TestClock.adjust("4 seconds")
    start("second")
    yield* TestClock.adjust("5999 millis")
    assert.deepStrictEqual(ended, [])
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(ended, ["first"])
    yield* TestClock.adjust("3999 millis")
    assert.deepStrictEqual(ended, ["first"])
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(ended, ["first", "second"])
  })
)

it.effect("does not call back for a timer that was stopped", () =>
  Effect.gen(function* () {
    const { ended, start } = yield* setting
    const stop = start("stopped")
    start("kept")
    yield* TestClock.adjust("9999 millis")
    stop()
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(ended, ["kept"])
  })
)

it.effect("stops no other timer when one is stopped twice, or after its end", () =>
  Effect.gen(function* () {
    const { ended, start } = yield* setting
    const stopTwice = start("stopped")
    stopTwice()
    start("in its place")
    stopTwice()
    yield* TestClock.adjust("10 seconds")
    assert.deepStrictEqual(ended, ["in its place"])

    const stopLate = start("ended")
    yield* TestClock.adjust("10 seconds")
    start("after it")
    stopLate()
    yield* TestClock.adjust("10 seconds")
    assert.deepStrictEqual(ended, ["in its place", "ended", "after it"])
  })
)

it.effect("takes timers up again after a time without any, and while it calls back", () =>
  Effect.gen(function* () {
    const timers = yield* Timers.make(Duration.seconds(10))
    let count = 0
    const startAgain = () => {
      count++
      if (count % 3 > 0) timers(startAgain)
    }
    for (const total of [3, 6]) {
      timers(startAgain)
      for (let seconds = 0; seconds < 60; seconds++) yield* TestClock.adjust("1 second")
      assert.strictEqual(count, total)
    }
  })
)

it.effect("stops all with its scope", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { ended, start } = yield* Scope.provide(setting, scope)
    start("orphan")
    yield* Scope.close(scope, Exit.void)
    start("latecomer")
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(ended, [])
  })
)
