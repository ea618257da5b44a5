import { assert, describe, it } from "@effect/vitest"
import { Metrics, NegativeCache } from "@gantry/coord"
import { Digest, OriginRef, Registry, Repository, timestampToMillis } from "@gantry/protocol"
import { Clock, Duration, Effect, Layer, Option } from "effect"
import { TestClock } from "effect/testing"

const digestOf = (index: number) => Digest.make(`sha256:${index.toString(16).padStart(64, "0")}`)
const refOf = (index: number, repository = "library/nginx") =>
  new OriginRef({
    registry: Registry.make("registry.example.com"),
    repository: Repository.make(repository),
    digest: digestOf(index)
  })
const ref = refOf(1)

const provideCache = (options?: NegativeCache.Options) =>
  Effect.provide(NegativeCache.layer(options).pipe(Layer.provide(Metrics.layerNoop)))

/** Records a failure, and gives the cooldown in seconds. */
const fail = Effect.fnUntraced(function* (
  failed: OriginRef = ref,
  failureClass: "auth" | "transient" = "transient",
  retryAfter?: Duration.Duration
) {
  const cache = yield* NegativeCache.NegativeCache
  const now = yield* Clock.currentTimeMillis
  const entry = yield* cache.recordFailure(failed, "layer", failureClass, retryAfter)
  return (timestampToMillis(entry.cooldownUntil) - now) / 1000
})

describe("NegativeCache", () => {
  it.effect("climbs from 10 seconds to 10 minutes, by a factor of 3, and stays there", () =>
    Effect.gen(function* () {
      const cooldowns: Array<number> = []
      for (let failure = 0; failure < 7; failure++) {
        const cooldown = yield* fail()
        cooldowns.push(cooldown)
        yield* TestClock.adjust(Duration.seconds(cooldown))
      }
      assert.deepStrictEqual(cooldowns, [10, 30, 90, 270, 600, 600, 600])
    }).pipe(provideCache())
  )

  it.effect("follows its settings, and ignores those that are not positive", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual([yield* fail(), yield* fail(), yield* fail()], [1, 2, 3])
    }).pipe(provideCache({ initial: "1 second", multiplier: 2, cap: "3 seconds", capacity: -1 }))
  )

  it.effect("keeps to the length of a cooldown though the wall clock is set back", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      yield* TestClock.adjust("2 hours")
      yield* fail()
      yield* TestClock.setTime(3_600_000)
      const now = yield* Clock.currentTimeMillis
      const entry = Option.getOrThrow(yield* cache.lookupRef(ref, "layer"))
      assert.strictEqual(timestampToMillis(entry.cooldownUntil) - now, 10_000)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* cache.lookupRef(ref, "layer"), Option.none())
    }).pipe(provideCache())
  )

  it.effect("does not report an entry whose cooldown is over", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      yield* fail()
      yield* TestClock.adjust("9999 millis")
      assert.isTrue(Option.isSome(yield* cache.lookup(ref.digest)))
      assert.isTrue(Option.isSome(yield* cache.lookupRef(ref, "layer")))
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* cache.lookup(ref.digest), Option.none())
      assert.deepStrictEqual(yield* cache.lookupRef(ref, "layer"), Option.none())
    }).pipe(provideCache())
  )

  it.effect("remembers the count after the cooldown, until it has been quiet for the cap", () =>
    Effect.gen(function* () {
      yield* fail()
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.adjust("599999 millis")
      assert.strictEqual(yield* fail(), 30)
      yield* TestClock.adjust("30 seconds")
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* fail(), 10)
    }).pipe(provideCache())
  )

  it.effect("begins anew after a success", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      yield* fail()
      yield* fail()
      yield* cache.recordSuccess(ref, "layer")
      assert.deepStrictEqual(yield* cache.lookupRef(ref, "layer"), Option.none())
      assert.strictEqual(yield* cache.size, 0)
      assert.strictEqual(yield* fail(), 10)
    }).pipe(provideCache())
  )

  it.effect("decides by exactly the reference, and hints by the digest", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      yield* fail(refOf(1, "bogus/repository"), "auth")
      assert.deepStrictEqual(yield* cache.lookupRef(ref, "layer"), Option.none())
      const hint = yield* cache.lookup(ref.digest)
      assert.deepStrictEqual(
        Option.map(hint, (entry) => entry.failureClass),
        Option.some("auth")
      )
    }).pipe(provideCache())
  )

  it.effect("does not let a failure as a manifest block the blob", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      yield* cache.recordFailure(ref, "manifest", "not_found")
      assert.deepStrictEqual(yield* cache.lookupRef(ref, "layer"), Option.none())
      assert.isTrue(Option.isSome(yield* cache.lookupRef(ref, "manifest")))
      yield* cache.recordSuccess(ref, "layer")
      assert.isTrue(Option.isSome(yield* cache.lookupRef(ref, "manifest")))
    }).pipe(provideCache())
  )

  it.effect("hints with the longest cooldown of a digest's references", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      yield* fail(refOf(1, "a"), "auth", Duration.seconds(60))
      yield* fail(refOf(1, "b"), "transient")
      const hint = Option.getOrThrow(yield* cache.lookup(ref.digest))
      assert.strictEqual(hint.failureClass, "auth")
      assert.strictEqual(timestampToMillis(hint.cooldownUntil), 60_000)
    }).pipe(provideCache())
  )

  it.effect("raises the cooldown to what the origin asks for, within the cap", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* fail(ref, "transient", Duration.seconds(45)), 45)
      assert.strictEqual(yield* fail(ref, "transient", Duration.seconds(2)), 30)
      assert.strictEqual(yield* fail(ref, "transient", Duration.hours(5)), 600)
    }).pipe(provideCache())
  )

  it.effect("holds no more than its capacity, and the oldest leave first", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      for (const index of [1, 2, 3, 1, 4]) yield* fail(refOf(index))
      assert.strictEqual(yield* cache.size, 3)
      assert.deepStrictEqual(yield* cache.lookup(digestOf(2)), Option.none())
      for (const index of [1, 3, 4]) assert.isTrue(Option.isSome(yield* cache.lookup(digestOf(index))))
    }).pipe(provideCache({ capacity: 3 }))
  )

  it.effect("sweeps out what is forgotten", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      yield* fail()
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* cache.size, 1)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* cache.size, 0)
    }).pipe(provideCache())
  )

  it.effect("is not built from a setting that cannot be read", () =>
    Effect.gen(function* () {
      for (const setting of ["initial", "multiplier", "cap", "capacity"]) {
        const layer = NegativeCache.layer({ [setting]: "banana" } as NegativeCache.Options)
        const error = yield* Effect.flip(Layer.build(Layer.provide(layer, Metrics.layerNoop)))
        assert.strictEqual(error.setting, setting)
      }
    })
  )
})
