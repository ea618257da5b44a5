import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import * as SlowClock from "../src/demo/SlowClock.ts"

const now = Effect.all({ millis: Clock.currentTimeMillis, monotonic: Clock.monotonicTimeNanos })

describe("SlowClock", () => {
  it.effect("passes a second while the other clock passes as many as its factor", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      const slow = SlowClock.make(yield* Clock.clockWith(Effect.succeed), 4)
      const before = yield* Effect.provideService(now, Clock.Clock, slow)
      yield* TestClock.adjust("8 seconds")
      const after = yield* Effect.provideService(now, Clock.Clock, slow)
      assert.strictEqual(after.millis - before.millis, 2000)
      assert.strictEqual(after.monotonic - before.monotonic, 2_000_000_000n)
      assert.strictEqual(before.millis, 3_600_000)
    })
  )

  it.effect("lets timeouts wait longer by its factor", () =>
    Effect.gen(function* () {
      const waiting = yield* Effect.never.pipe(
        Effect.timeoutOption("2 seconds"),
        Effect.provide(SlowClock.layer(4)),
        Effect.forkChild({ startImmediately: true })
      )
      yield* TestClock.adjust("7999 millis")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(waiting.pollUnsafe(), Exit.succeed(Option.none()))
    })
  )
})
