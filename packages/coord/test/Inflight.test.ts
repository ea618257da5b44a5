import { assert, describe, it } from "@effect/vitest"
import { Inflight, Metrics } from "@gantry/coord"
import { Digest, type Timestamp } from "@gantry/protocol"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Option, Scope } from "effect"
import { TestClock } from "effect/testing"

const digest = Digest.make(`sha256:${"1".repeat(64)}`)
const layer = Inflight.layer.pipe(Layer.provide(Metrics.layerNoop))

describe("Inflight", () => {
  it.effect("lets exactly one of many concurrent claims own the pull", () =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      const claims = yield* Effect.all(
        Array.from({ length: 100 }, () => inflight.start(digest, "layer", Option.none())),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(claims.filter((claim) => claim.owned).length, 1)
      assert.strictEqual(new Set(claims.map((claim) => claim.entry)).size, 1)
      assert.strictEqual(yield* inflight.size, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("releases the claim with its owner's scope, however that ends", () =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      for (const end of [Effect.void, Effect.fail("no"), Effect.die("no"), Effect.interrupt]) {
        yield* inflight.start(digest, "layer", Option.none()).pipe(Effect.andThen(end), Effect.scoped, Effect.exit)
        assert.deepStrictEqual(yield* inflight.lookup(digest), Option.none())
      }
      assert.strictEqual(yield* inflight.size, 0)
    }).pipe(Effect.provide(layer))
  )

  it.effect("keeps the pull when a claim that does not own it is released", () =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      const owned = yield* inflight.start(digest, "manifest", Option.some(7))
      const other = yield* Effect.scoped(inflight.start(digest, "layer", Option.none()))
      assert.isFalse(other.owned)
      assert.strictEqual(other.entry, owned.entry)
      assert.deepStrictEqual(yield* inflight.lookup(digest), Option.some(owned.entry))
    }).pipe(Effect.provide(layer))
  )

  it.effect("says when the pull began, in nanoseconds of Effect's clock", () =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      yield* TestClock.setTime(1_750_000_000_123)
      const { entry } = yield* inflight.start(digest, "config", Option.none())
      assert.strictEqual(entry.startedAt, 1_750_000_000_123_000_000n as Timestamp)
    }).pipe(Effect.provide(layer))
  )

  it.effect("can be claimed again after a release, as a new pull", () =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(inflight.start(digest, "layer", Option.none()), scope)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 second")
      const second = yield* inflight.start(digest, "layer", Option.none())
      assert.isTrue(second.owned)
      assert.isTrue(second.entry.startedAt > first.entry.startedAt)
    }).pipe(Effect.provide(layer))
  )

  it.effect("releases the claim of a fiber that is interrupted", () =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      const claimed = yield* Deferred.make<void>()
      const pull = yield* inflight
        .start(digest, "layer", Option.none())
        .pipe(
          Effect.andThen(Deferred.succeed(claimed, undefined)),
          Effect.andThen(Effect.never),
          Effect.scoped,
          Effect.forkChild
        )
      yield* Deferred.await(claimed)
      assert.strictEqual(yield* inflight.size, 1)
      yield* Fiber.interrupt(pull)
      assert.strictEqual(yield* inflight.size, 0)
    }).pipe(Effect.provide(layer))
  )

  it.effect("reports the number of running pulls as a gauge", () =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      const gauge = Effect.map(Metric.snapshot, (metrics) =>
        metrics.filter(({ id }) => id === "p2p_in_flight_pulls").map(({ state }) => state)
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* inflight.start(digest, "layer", Option.none())
          assert.deepStrictEqual(yield* gauge, [{ value: 1 }])
        })
      )
      assert.deepStrictEqual(yield* gauge, [{ value: 0 }])
    }).pipe(
      Effect.provide(Inflight.layer.pipe(Layer.provide(Metrics.layer))),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  )
})
