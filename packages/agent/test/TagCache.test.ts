import { assert, describe, it } from "@effect/vitest"
import { Digest, Repository } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import { TestClock } from "effect/testing"
import * as TagCache from "../src/mirror/TagCache.ts"

const digest = (letter: string) => Digest.make(`sha256:${letter.repeat(64)}`)
const latest: TagCache.TagRef = { registry: "docker.io", repository: Repository.make("library/nginx"), tag: "latest" }

const failure = (reason: TagCache.TagError["reason"]) => new TagCache.TagError({ reason, tag: "t", detail: "no" })

/** A registry whose tag can be moved, and a store that holds what was obtained. */
const makeWorld = Effect.gen(function* () {
  const world = {
    names: Effect.succeed(digest("a")) as Effect.Effect<Digest, TagCache.TagError>,
    asked: 0,
    stored: new Set<Digest>(),
    obtainable: true,
    policy: {
      ttl: () => Duration.seconds(30),
      staleIfError: Duration.hours(24),
      isImmutable: () => false,
      isPassed: () => false
    } as TagCache.Policy
  }
  const sources: TagCache.Sources = {
    digestOf: () =>
      Effect.suspend(() => {
        world.asked += 1
        return world.names
      }),
    obtain: (_place, digest) =>
      Effect.suspend(() => {
        if (!world.obtainable) return Effect.fail(failure("Unavailable"))
        world.stored.add(digest)
        return Effect.succeed({ digest, mediaType: "application/vnd.oci.image.index.v1+json", size: 3 })
      }),
    has: (digest) => Effect.sync(() => world.stored.has(digest))
  }
  const start = TagCache.make(
    sources,
    Effect.sync(() => world.policy)
  )
  return { world, start }
})

const test = (name: string, body: Effect.Effect<void, unknown, KeyValueStore.KeyValueStore>) =>
  it.effect(name, () => Effect.provide(body, KeyValueStore.layerMemory))

describe("a tag", () => {
  test(
    "is asked about once in its time to live, and again after it",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      assert.strictEqual((yield* tags.resolve(latest)).how, "revalidated")
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual((yield* tags.resolve(latest)).how, "fresh")
      assert.strictEqual(world.asked, 1)
      world.names = Effect.succeed(digest("b"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* tags.resolve(latest)).manifest.digest, digest("b"))
    })
  )

  test(
    "is asked about once by callers that come together",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      const answered = yield* Latch.make()
      world.names = Effect.as(answered.await, digest("a"))
      const calls = yield* Effect.forkChild(
        Effect.all([tags.resolve(latest), tags.resolve({ ...latest })], { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 second")
      yield* answered.open
      assert.strictEqual((yield* Fiber.join(calls)).length, 2)
      assert.strictEqual(world.asked, 1)
    })
  )

  test(
    "is answered from memory while the registry fails, but not for ever",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      yield* tags.resolve(latest)
      world.names = Effect.fail(failure("Unavailable"))
      yield* TestClock.adjust("24 hours")
      const answer = yield* tags.resolve(latest)
      assert.deepStrictEqual([answer.how, answer.checkedAt, answer.manifest.digest], ["stale", 0, digest("a")])
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(tags.resolve(latest))).reason, "Unavailable")
    })
  )

  test(
    "is answered from memory where the registry is silent for five seconds",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      yield* tags.resolve(latest)
      yield* TestClock.adjust("1 minute")
      world.names = Effect.never
      const call = yield* Effect.forkChild(tags.resolve(latest))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Fiber.join(call)).how, "stale")
    })
  )

  test(
    "is never answered once the registry refuses this node, and known again later",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      yield* tags.resolve(latest)
      yield* TestClock.adjust("1 minute")
      world.names = Effect.fail(failure("Unauthorized"))
      assert.strictEqual((yield* Effect.flip(tags.resolve(latest))).reason, "Unauthorized")
      world.names = Effect.fail(failure("Unavailable"))
      assert.strictEqual((yield* tags.resolve(latest)).how, "stale")
    })
  )

  test(
    "is forgotten once the registry has it no more",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      yield* tags.resolve(latest)
      yield* TestClock.adjust("1 minute")
      world.names = Effect.fail(failure("NotFound"))
      assert.strictEqual((yield* Effect.flip(tags.resolve(latest))).reason, "NotFound")
      world.names = Effect.fail(failure("Unavailable"))
      assert.strictEqual((yield* Effect.flip(tags.resolve(latest))).reason, "Unavailable")
    })
  )

  test(
    "is answered only with a manifest that is in the store",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      world.obtainable = false
      assert.strictEqual((yield* Effect.flip(tags.resolve(latest))).reason, "Unavailable")
      world.obtainable = true
      yield* tags.resolve(latest)
      // Evicted: neither fresh nor stale answers name it.
      world.stored.clear()
      assert.strictEqual((yield* tags.resolve(latest)).how, "revalidated")
      world.stored.clear()
      world.names = Effect.fail(failure("Unavailable"))
      assert.strictEqual((yield* Effect.flip(tags.resolve(latest))).reason, "Unavailable")
    })
  )

  test(
    "keeps its old manifest where the new one cannot be had",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      const tags = yield* start
      yield* tags.resolve(latest)
      yield* TestClock.adjust("1 minute")
      world.names = Effect.succeed(digest("b"))
      world.obtainable = false
      const answer = yield* tags.resolve(latest)
      assert.deepStrictEqual([answer.how, answer.manifest.digest], ["stale", digest("a")])
    })
  )

  test(
    "that never changes is asked about once",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      world.policy = { ...world.policy, isImmutable: ({ tag }) => tag === "v1" }
      const tags = yield* start
      yield* tags.resolve({ ...latest, tag: "v1" })
      yield* TestClock.adjust("1000 days")
      assert.strictEqual((yield* tags.resolve({ ...latest, tag: "v1" })).how, "immutable")
      assert.strictEqual(world.asked, 1)
    })
  )

  test(
    "is known after a restart, and asked about anew after a clock that was set back",
    Effect.gen(function* () {
      const { start, world } = yield* makeWorld
      yield* TestClock.adjust("1 hour")
      yield* (yield* start).resolve(latest)
      const tags = yield* start
      assert.strictEqual((yield* tags.resolve(latest)).how, "fresh")
      yield* TestClock.setTime(0)
      assert.strictEqual((yield* tags.resolve(latest)).how, "revalidated")
      assert.strictEqual(world.asked, 2)
    })
  )
})
