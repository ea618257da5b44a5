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
  return {
    ended,
    start: (name: string) => Effect.withFiber((fiber) => Effect.succeed(timers(fiber, () => void ended.push(name))))
  }
})

it.effect("calls back when a timer's time is up, and not before", () =>
  Effect.gen(function* () {
    const { ended, start } = yield* setting
    yield* start("first")
    yield* TestClock.adjust("4 seconds")
    yield* start("second")
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
    const stop = yield* start("stopped")
    yield* start("kept")
    yield* TestClock.adjust("9999 millis")
    stop()
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(ended, ["kept"])
  })
)

it.effect("stops no other timer when one is stopped twice, or after its end", () =>
  Effect.gen(function* () {
    const { ended, start } = yield* setting
    const stopTwice = yield* start("stopped")
    stopTwice()
    yield* start("in its place")
    stopTwice()
    yield* TestClock.adjust("10 seconds")
    assert.deepStrictEqual(ended, ["in its place"])

    const stopLate = yield* start("ended")
    yield* TestClock.adjust("10 seconds")
    yield* start("after it")
    stopLate()
    yield* TestClock.adjust("10 seconds")
    assert.deepStrictEqual(ended, ["in its place", "ended", "after it"])
  })
)

it.effect("takes timers up again after a time without any, and while it calls back", () =>
  Effect.withFiber((fiber) =>
    Effect.gen(function* () {
      const timers = yield* Timers.make(Duration.seconds(10))
      let count = 0
      const startAgain = () => {
        count++
        if (count % 3 > 0) timers(fiber, startAgain)
      }
      for (const total of [3, 6]) {
        timers(fiber, startAgain)
        for (let seconds = 0; seconds < 60; seconds++) yield* TestClock.adjust("1 second")
        assert.strictEqual(count, total)
      }
    })
  )
)

it.effect("goes by the clock of whoever starts a timer", () =>
  Effect.gen(function* () {
    const { ended, start } = yield* TestClock.withLive(setting)
    yield* TestClock.withLive(start("on the other clock"))
    yield* start("on this clock")
    yield* TestClock.adjust("9999 millis")
    assert.deepStrictEqual(ended, [])
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(ended, ["on this clock"])
  })
)

it.effect("stops all with its scope", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { ended, start } = yield* Scope.provide(setting, scope)
    yield* start("orphan")
    yield* Scope.close(scope, Exit.void)
    yield* start("latecomer")
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(ended, [])
  })
)
