import { assert, describe, it } from "@effect/vitest"
import { Inflight, Metrics, NegativeCache, Pump, Store } from "@gantry/coord"
import {
  type ContentKind,
  type Digest,
  OriginRef,
  Registry,
  Repository,
  Timestamp,
  timestampToMillis
} from "@gantry/protocol"
import {
  Clock,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  identity,
  Layer,
  Logger,
  Option,
  Queue,
  References,
  Scheduler,
  Scope,
  Stream
} from "effect"
import { TestClock } from "effect/testing"
import * as BlobStore from "../src/BlobStore.ts"
import * as OriginPump from "../src/OriginPump.ts"
import * as RegistryClient from "../src/RegistryClient.ts"

const registry = Registry.make("registry.example.com")
const repository = Repository.make("library/nginx")
const blobOf = (index: number) => new TextEncoder().encode(`the bytes of layer ${index}`)
const refOf = (index: number, at: Registry = registry) =>
  new OriginRef({ registry: at, repository, digest: BlobStore.digestOf(blobOf(index)) })
const blob = blobOf(0)
const ref = refOf(0)
const requestOf = (ref: OriginRef, kind: ContentKind = "layer") =>
  new Pump.PullRequest({ ref, kind, reason: new Pump.PullReason({ rule: "please_pull", requester: "peer", rank: 1 }) })

type Fetch = RegistryClient.RegistryClient["Service"]["fetch"]

const delivery = (
  offset: number,
  stream: RegistryClient.Delivery["stream"],
  totalSize: Option.Option<number> = Option.none()
): RegistryClient.Delivery => ({ offset, totalSize, contentType: Option.none(), stream })

const registryError = (
  reason: RegistryClient.RegistryReason,
  fields: Partial<{ retryAfter: Duration.Duration }> = {},
  at: OriginRef = ref
) =>
  new RegistryClient.RegistryError({
    reason,
    registry: at.registry,
    repository: at.repository,
    reference: at.digest,
    detail: "scripted",
    ...fields
  })

/** An origin that has every blob, and resumes. */
const full: Fetch = ({ offset = 0, ref }) =>
  Effect.sync(() => {
    for (let index = 0; index < 1000; index++) {
      if (refOf(index).digest !== ref.digest) continue
      const bytes = blobOf(index)
      return delivery(offset, Stream.succeed(bytes.subarray(offset)), Option.some(bytes.length))
    }
    throw new Error("asked for a digest that the test does not know")
  })

/** An origin that does not answer. */
const silent: Fetch = () => Effect.never

/** What a test reads from its pump. */
interface Bench {
  readonly pull: (ref?: OriginRef, kind?: ContentKind) => Effect.Effect<Pump.PumpResult>
  readonly pulls: OriginPump.PullLog["Service"]["pulls"]
  /** The same, as a test reads them. */
  readonly records: Queue.Dequeue<OriginPump.PullRecord>
  readonly events: ReadonlyArray<string>
  readonly inflight: Inflight.Inflight["Service"]
  readonly negative: NegativeCache.NegativeCache["Service"]
  readonly store: BlobStore.BlobStore["Service"]
  /** Closes the pump's scope. */
  readonly close: Effect.Effect<void>
}

/** An in-flight table that lets others run before and after whatever it does. */
const yielding = ({ lookup, size, start }: Inflight.Inflight["Service"]): Inflight.Inflight["Service"] => {
  const around = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.tap(Effect.andThen(Effect.yieldNow, effect), Effect.yieldNow)
  return { lookup: (digest) => around(lookup(digest)), start: (...claim) => around(start(...claim)), size }
}

interface Setting {
  readonly fetch: Fetch
  readonly options?: OriginPump.Options
  readonly blobs?: ReadonlyArray<Uint8Array>
  readonly inflight?: (inflight: Inflight.Inflight["Service"]) => Inflight.Inflight["Service"]
  readonly store?: (store: BlobStore.BlobStore["Service"]) => Partial<BlobStore.BlobStore["Service"]>
}

/** A pump over ports in memory. The ports outlive it. */
const bench = Effect.fnUntraced(function* ({ blobs, fetch, inflight = identity, options, store: change }: Setting) {
  const events: Array<string> = []
  const event = (name: string) => Effect.sync(() => void events.push(name))
  const metrics = Layer.mock(Metrics.Metrics, {
    inflightPulls: (count) => event(`inflight ${count}`),
    negativeCacheEntries: () => Effect.void,
    negativeCacheEnter: () => Effect.void,
    negativeCacheHit: () => Effect.void,
    originPull: (kind) => event(`pull ${kind}`),
    originPullSuccess: (kind) => event(`success ${kind}`),
    originPullFailure: (kind, failureClass) => event(`failure ${kind} ${failureClass}`)
  })
  const ports = Layer.mergeAll(
    Layer.mock(RegistryClient.RegistryClient, { fetch }),
    Layer.effect(Inflight.Inflight, Effect.map(Inflight.Inflight, inflight)).pipe(
      Layer.provide(Inflight.layer),
      Layer.provide(metrics)
    ),
    NegativeCache.layer().pipe(Layer.provide(metrics)),
    Layer.effect(
      BlobStore.BlobStore,
      Effect.map(BlobStore.BlobStore, (store) => ({ ...store, ...change?.(store) }))
    ).pipe(Layer.provide(BlobStore.layerMemory(blobs))),
    metrics
  )
  const context = yield* Layer.build(ports)
  const scope = yield* Scope.make()
  const close = Scope.close(scope, Exit.void)
  // What still runs when the test ends is not waited for.
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
    })
  )
  const pumpContext = yield* Layer.buildWithScope(OriginPump.layer(options), scope).pipe(Effect.provide(context))

  return yield* Effect.gen(function* () {
    const pump = yield* Pump.Pump
    const { pulls } = yield* OriginPump.PullLog
    const records = yield* Queue.unbounded<OriginPump.PullRecord>()
    yield* Effect.forkScoped(
      Stream.runForEach(pulls, (record) => Queue.offer(records, record)),
      { startImmediately: true }
    )
    const bench: Bench = {
      pull: (at = ref, kind = "layer") => pump.pull(requestOf(at, kind)),
      pulls,
      records,
      events,
      inflight: yield* Inflight.Inflight,
      negative: yield* NegativeCache.NegativeCache,
      store: yield* BlobStore.BlobStore,
      close
    }
    return bench
  }).pipe(Effect.provide(pumpContext), Effect.provide(context))
})

const tagOf = ({ _tag }: Pump.PumpResult) => _tag

/** Waits until no pull runs. */
const idle = Effect.fnUntraced(function* ({ inflight }: Bench) {
  while ((yield* inflight.size) > 0) yield* Effect.yieldNow
})

/** Lets the clock run until a pull has ended. */
const nextRecord = Effect.fnUntraced(function* (bench: Bench) {
  while (true) {
    const record = yield* Queue.poll(bench.records)
    if (Option.isSome(record)) {
      yield* idle(bench)
      return record.value
    }
    yield* TestClock.adjust("100 millis")
  }
})

describe("the decision", () => {
  const startedAt = (millis: number) => Timestamp.make(BigInt(millis) * 1_000_000n)
  const other = refOf(1)

  it.effect("is AlreadyPulling, started now, for what the store has, whatever else is true", () =>
    Effect.gen(function* () {
      const { close, events, negative, pull } = yield* bench({
        fetch: silent,
        blobs: [blob],
        options: { maxConcurrentPulls: 1, registries: ["elsewhere.example.com"] }
      })
      yield* negative.recordFailure(ref, "layer", "auth")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* pull(), Pump.PumpResult.AlreadyPulling({ startedAt: startedAt(5000) }))
      yield* close
      assert.deepStrictEqual(tagOf(yield* pull()), "AlreadyPulling")
      assert.deepStrictEqual(events, [])
    })
  )

  it.effect("is RecentlyFailed for a reference that cools down, even if its digest is in flight", () =>
    Effect.gen(function* () {
      const { negative, pull } = yield* bench({ fetch: silent, options: { maxConcurrentPulls: 1 } })
      yield* pull()
      const entry = yield* negative.recordFailure(ref, "layer", "not_found")
      assert.deepStrictEqual(yield* pull(), Pump.PumpResult.RecentlyFailed(entry))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(tagOf(yield* pull()), "AlreadyPulling")
    })
  )

  it.effect("does not regard the failure of another reference of the digest", () =>
    Effect.gen(function* () {
      const { negative, pull } = yield* bench({ fetch: silent })
      yield* negative.recordFailure(refOf(0, Registry.make("bogus.example.com")), "layer", "not_found")
      assert.strictEqual(tagOf(yield* pull()), "Started")
    })
  )

  it.effect("is AlreadyPulling with the start of the running pull, at the ceiling and of whatever reference", () =>
    Effect.gen(function* () {
      const { pull } = yield* bench({
        fetch: silent,
        options: { maxConcurrentPulls: 1, registries: [registry] }
      })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* pull(), Pump.PumpResult.Started({ startedAt: startedAt(5000) }))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* pull(), Pump.PumpResult.AlreadyPulling({ startedAt: startedAt(5000) }))
      const elsewhere = refOf(0, Registry.make("elsewhere.example.com"))
      assert.deepStrictEqual(yield* pull(elsewhere), Pump.PumpResult.AlreadyPulling({ startedAt: startedAt(5000) }))
    })
  )

  it.effect("is AlreadyPulling for a claim that is not the pump's, and costs no slot", () =>
    Effect.gen(function* () {
      const { inflight, pull } = yield* bench({ fetch: silent, options: { maxConcurrentPulls: 1 } })
      yield* inflight.start(ref.digest, "layer", Option.none())
      assert.strictEqual(tagOf(yield* pull()), "AlreadyPulling")
      assert.strictEqual(tagOf(yield* pull(other)), "Started")
    })
  )

  it.effect("is Declined at the ceiling, and never queued", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const testBench = yield* bench({ fetch: (request) => Effect.andThen(Deferred.await(gate), full(request)) })
      const { inflight, pull } = testBench
      for (let index = 0; index < 16; index++) assert.strictEqual(tagOf(yield* pull(refOf(index))), "Started")
      assert.strictEqual(tagOf(yield* pull(refOf(16))), "Declined")
      assert.strictEqual(yield* inflight.size, 16)
      yield* Deferred.succeed(gate, undefined)
      yield* idle(testBench)
      assert.strictEqual(tagOf(yield* pull(refOf(16))), "Started")
    })
  )

  it.effect("is Declined for a registry that is not configured, and not recorded", () =>
    Effect.gen(function* () {
      const { events, inflight, negative, pull } = yield* bench({
        fetch: silent,
        options: { registries: ["Registry.example.com"] }
      })
      assert.strictEqual(tagOf(yield* pull(refOf(0, Registry.make("other.example.com")))), "Declined")
      assert.deepStrictEqual([yield* inflight.size, yield* negative.size, events], [0, 0, []])
      assert.strictEqual(tagOf(yield* pull()), "Started")
    })
  )

  it.effect.each([
    ["cannot be reached", (digest: Digest) => new Store.StoreError({ reason: "Unavailable", digest, cause: "down" })],
    ["fails", (digest: Digest) => new Store.StoreError({ reason: "Failed", digest, cause: "down" })],
    ["is absent-minded", undefined]
  ] as const)("goes on as if the digest were absent when the store %s", ([, error]) =>
    Effect.gen(function* () {
      const { pull } = yield* bench({
        fetch: silent,
        store: () => ({ has: (digest) => (error === undefined ? Effect.succeed(false) : error(digest)) })
      })
      assert.strictEqual(tagOf(yield* pull()), "Started")
    })
  )

  it.effect.each([
    ["is slow", Effect.never],
    ["cannot be interrupted", Effect.uninterruptible(Effect.never)]
  ] as const)("goes on after 100 milliseconds when the store %s", ([, answer]) =>
    Effect.gen(function* () {
      const { pull } = yield* bench({ fetch: silent, store: () => ({ has: () => answer }) })
      const fiber = yield* Effect.forkChild(pull(), { startImmediately: true })
      yield* TestClock.adjust("99 millis")
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(tagOf(yield* Fiber.join(fiber)), "Started")
    })
  )
})

describe("a claim", () => {
  it.effect.each([
    ["a hundred concurrent calls", identity, 16],
    ["a hundred that take turns", yielding, 16],
    ["a hundred, with the last slot", yielding, 1]
  ] as const)("goes to exactly one of %s", ([, inflight, maxConcurrentPulls]) =>
    Effect.gen(function* () {
      let asked = 0
      const testBench = yield* bench({
        fetch: () =>
          Effect.andThen(
            Effect.sync(() => asked++),
            Effect.never
          ),
        inflight,
        options: { maxConcurrentPulls },
        store: () => ({ has: () => Effect.as(Effect.yieldNow, false) })
      })
      const results = yield* Effect.all(
        Array.from({ length: 100 }, () => testBench.pull()),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(results.filter(({ _tag }) => _tag === "Started").length, 1)
      assert.strictEqual(results.filter(({ _tag }) => _tag === "AlreadyPulling").length, 99)
      assert.strictEqual(yield* testBench.inflight.size, 1)
      while (asked === 0) yield* Effect.yieldNow
      assert.strictEqual(asked, 1)
    })
  )

  it.effect("that another makes at the same moment costs no slot", () =>
    Effect.gen(function* () {
      const { inflight, pull } = yield* bench({
        fetch: silent,
        inflight: (real) => ({ ...real, lookup: () => Effect.succeedNone }),
        options: { maxConcurrentPulls: 1 }
      })
      const { entry } = yield* inflight.start(ref.digest, "layer", Option.none())
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* pull(), Pump.PumpResult.AlreadyPulling({ startedAt: entry.startedAt }))
      assert.strictEqual(tagOf(yield* pull(refOf(1))), "Started")
    })
  )

  it.effect("is never above the ceiling, however many ask at once", () =>
    Effect.gen(function* () {
      const { inflight, pull } = yield* bench({
        fetch: silent,
        store: () => ({ has: () => Effect.as(Effect.yieldNow, false) })
      })
      const results = yield* Effect.all(
        Array.from({ length: 100 }, (_, index) => pull(refOf(index))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(results.filter(({ _tag }) => _tag === "Started").length, 16)
      assert.strictEqual(results.filter(({ _tag }) => _tag === "Declined").length, 84)
      assert.strictEqual(yield* inflight.size, 16)
    })
  )

  it.effect("either starts a pull or is not made, wherever the caller is interrupted", () =>
    Effect.gen(function* () {
      let interrupted = 0
      for (let step = 0; ; step++) {
        const testBench = yield* bench({ fetch: full, inflight: yielding, options: { maxConcurrentPulls: 1 } })
        const { inflight, pull, records, store } = testBench
        // The caller gives way after every third operation, so that it can be interrupted nearly anywhere.
        const fiber = yield* Effect.forkChild(Effect.provideService(pull(), Scheduler.MaxOpsBeforeYield, 3))
        for (let turn = 0; turn < step; turn++) yield* Effect.yieldNow
        const isDone = fiber.pollUnsafe() !== undefined
        yield* Fiber.interrupt(fiber)
        if ((yield* inflight.size) > 0 || (yield* store.has(ref.digest))) {
          assert.strictEqual((yield* Queue.take(records)).outcome._tag, "Stored")
        } else interrupted++
        yield* idle(testBench)
        // The only slot is free again.
        assert.strictEqual(tagOf(yield* pull(refOf(1))), "Started")
        assert.strictEqual((yield* Queue.take(records)).ref.digest, refOf(1).digest)
        if (isDone) return assert.isAbove(interrupted, 10)
      }
    })
  )

  it.effect("is not used to pull what another pull stored in the meantime", () =>
    Effect.gen(function* () {
      let looks = 0
      const testBench = yield* bench({
        fetch: full,
        blobs: [blob],
        store: () => ({ has: () => Effect.sync(() => looks++ > 0) })
      })
      assert.strictEqual(tagOf(yield* testBench.pull()), "Started")
      yield* idle(testBench)
      assert.deepStrictEqual(testBench.events, ["inflight 1", "inflight 0"])
    })
  )

  it.effect.each([
    ["success", full, "success layer"],
    ["failure", () => registryError("NotFound"), "failure layer not_found"],
    ["a defect", () => Effect.die(new Error("a bug")), "failure layer transient"]
  ] satisfies ReadonlyArray<readonly [string, Fetch, string]>)(
    "ends last, with the slot, after %s",
    ([, fetch, event]) =>
      Effect.gen(function* () {
        const testBench = yield* bench({ fetch, options: { maxConcurrentPulls: 1 } })
        yield* testBench.pull()
        yield* Queue.take(testBench.records)
        yield* idle(testBench)
        assert.deepStrictEqual(testBench.events, ["inflight 1", "pull layer", event, "inflight 0"])
        assert.strictEqual(tagOf(yield* testBench.pull(refOf(1))), "Started")
      })
  )
})

/** One answer of an origin to a question from a byte on. */
type Step = (offset: number) => Effect.Effect<RegistryClient.Delivery, RegistryClient.RegistryError>

const bytesFrom = (offset: number, end: number = blob.length) => Stream.succeed(blob.subarray(offset, end))
const whole: Step = (offset) => Effect.succeed(delivery(offset, bytesFrom(offset), Option.some(blob.length)))
const wholeFromZero: Step = () => whole(0)
const cutAfter =
  (count: number): Step =>
  (offset) =>
    Effect.succeed(
      delivery(offset, Stream.concat(bytesFrom(offset, offset + count), Stream.fail(registryError("Truncated"))))
    )
const cutAfterFromZero =
  (count: number): Step =>
  () =>
    cutAfter(count)(0)
const wrong: Step = (offset) => Effect.succeed(delivery(offset, Stream.succeed(blobOf(7).subarray(offset))))
const tooMuch: Step = () => Effect.succeed(delivery(0, Stream.make(blob, blob)))
const refuse =
  (reason: RegistryClient.RegistryReason, retryAfter?: Duration.Input): Step =>
  () =>
    registryError(reason, retryAfter === undefined ? {} : { retryAfter: Duration.fromInputUnsafe(retryAfter) })

/** An origin that answers step by step, the last step for ever, and what it was asked. */
const origin = (...steps: ReadonlyArray<Step>) => {
  const asked: Array<{ readonly seconds: number; readonly offset: number }> = []
  const fetch: Fetch = Effect.fnUntraced(function* ({ offset = 0 }) {
    const step = steps[Math.min(asked.length, steps.length - 1)] as Step
    asked.push({ seconds: (yield* Clock.currentTimeMillis) / 1000, offset })
    return yield* step(offset)
  })
  return { asked, fetch }
}

const times = (count: number, step: Step) => Array.from({ length: count }, () => step)

const full503 = refuse("Refused", "11 seconds")

describe("a pull", () => {
  const length = blob.length
  it.effect.each([
    ["takes the whole", [whole], [0], "Stored", length],
    ["goes on where it was cut", [cutAfter(5), cutAfter(3), whole], [0, 5, 8], "Stored", length],
    ["begins again where the origin resumes nothing", [cutAfter(5), wholeFromZero], [0, 5], "Stored", 5 + length],
    ["asks five times for an origin that is not there", [refuse("Unreachable")], [0, 0, 0, 0, 0], "transient", 0],
    [
      "has five vain attempts anew after every byte",
      [...times(4, refuse("Refused")), cutAfter(1), ...times(4, refuse("TimedOut")), cutAfter(1), whole],
      [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2],
      "Stored",
      length
    ],
    ["counts the same bytes once more as none", [cutAfterFromZero(5)], [0, 5, 5, 5, 5, 5], "transient", 30],
    ["waits as long as it is asked to", [refuse("Refused", "10 seconds"), whole], [0, 0], "Stored", length],
    ["gives up where it is asked to wait longer", [full503], [0], "transient", 0],
    ["waits as long as a limit asks it to", [refuse("RateLimited", "2 seconds"), whole], [0, 0], "Stored", length],
    ["gives up at a limit that does not say how long", [refuse("RateLimited")], [0], "rate_limited", 0],
    ["takes not_found for the answer", [refuse("NotFound")], [0], "not_found", 0],
    ["takes auth for the answer", [refuse("Unauthorized")], [0], "auth", 0],
    ["takes the answer also half-way", [cutAfter(5), refuse("NotFound")], [0, 5], "not_found", 5],
    ["begins once more after wrong bytes", [wrong, cutAfter(5), whole], [0, 0, 5], "Stored", length + length],
    ["fails after wrong bytes twice", [wrong], [0, 0], "transient", length + length],
    ["takes no more than is allowed", [tooMuch], [0], "transient", length + length],
    ["fails on a defect", [() => Effect.die(new Error("a bug"))], [0], "transient", 0]
  ] satisfies ReadonlyArray<readonly [string, ReadonlyArray<Step>, ReadonlyArray<number>, string, number]>)(
    "%s",
    ([, steps, offsets, end, bytes]) =>
      Effect.gen(function* () {
        const { asked, fetch } = origin(...steps)
        const testBench = yield* bench({ fetch, options: { maxBlobSize: length } })
        yield* testBench.pull()
        const record = yield* nextRecord(testBench)
        const { outcome } = record
        assert.strictEqual(outcome._tag === "Failed" ? outcome.failureClass : outcome._tag, end)
        assert.deepStrictEqual(
          asked.map(({ offset }) => offset),
          offsets
        )
        assert.strictEqual(record.bytes, bytes)

        const isStored = end === "Stored"
        const result = isStored ? "success layer" : `failure layer ${end}`
        assert.deepStrictEqual(testBench.events, ["inflight 1", "pull layer", result, "inflight 0"])
        assert.strictEqual(yield* testBench.store.has(ref.digest), isStored)
        const remembered = yield* testBench.negative.lookupRef(ref, "layer")
        assert.strictEqual(Option.getOrUndefined(remembered)?.failureClass, isStored ? undefined : end)
      })
  )

  it.effect("doubles its pauses from half a second, a fifth more or less", () =>
    Effect.gen(function* () {
      const { asked, fetch } = origin(refuse("Unreachable"))
      const testBench = yield* bench({ fetch, options: { maxAttempts: 8 } })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      const pauses = asked.slice(1).map(({ seconds }, index) => seconds - (asked[index]?.seconds ?? 0))
      for (const [index, expected] of [0.5, 1, 2, 4, 8, 10, 10].entries()) {
        assert.isAtLeast(pauses[index] ?? 0, expected * 0.799)
        assert.isAtMost(pauses[index] ?? 0, expected * 1.201)
      }
      assert.isAbove(new Set(pauses.map((pause, index) => pause / 2 ** index)).size, 4)
    })
  )

  it.effect("waits for Retry-After at least", () =>
    Effect.gen(function* () {
      const { asked, fetch } = origin(refuse("Refused", "7 seconds"), refuse("Refused", "1 millis"), whole)
      const testBench = yield* bench({ fetch })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      assert.strictEqual(asked[1]?.seconds, 7)
      assert.isAtLeast(asked[2]?.seconds ?? 0, 7.799)
    })
  )

  it.effect("records a Retry-After that it did not wait for", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: origin(refuse("RateLimited", "95 seconds")).fetch })
      yield* testBench.pull()
      yield* Queue.take(testBench.records)
      const entry = Option.getOrThrow(yield* testBench.negative.lookupRef(ref, "layer"))
      assert.strictEqual(timestampToMillis(entry.cooldownUntil), 95_000)
    })
  )

  it.effect("forgets earlier failures when it succeeds", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: origin(refuse("NotFound"), whole).fetch })
      yield* testBench.pull()
      yield* Queue.take(testBench.records)
      yield* idle(testBench)
      assert.strictEqual(tagOf(yield* testBench.pull()), "RecentlyFailed")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(tagOf(yield* testBench.pull()), "Started")
      yield* Queue.take(testBench.records)
      assert.strictEqual(yield* testBench.negative.size, 0)
    })
  )

  const mebi = 1024 ** 2
  it.effect.each([
    ["a manifest of 4 MiB", "manifest", 4 * mebi, true],
    ["a manifest of a byte more", "manifest", 4 * mebi + 1, false],
    ["a config of 5 MiB", "config", 5 * mebi, true],
    ["a layer of 64 GiB", "layer", 65536 * mebi, true],
    ["a layer of a byte more", "layer", 65536 * mebi + 1, false]
  ] as const)("decides by what is announced whether to take %s", ([, kind, size, allowed]) =>
    Effect.gen(function* () {
      const drawn = yield* Deferred.make<void>()
      const body = Stream.fromEffect(Effect.andThen(Deferred.succeed(drawn, undefined), Effect.never))
      const testBench = yield* bench({ fetch: () => Effect.succeed(delivery(0, body, Option.some(size))) })
      yield* testBench.pull(ref, kind)
      if (allowed) return yield* Deferred.await(drawn)
      const { outcome } = yield* Queue.take(testBench.records)
      assert.match(outcome._tag === "Failed" ? outcome.detail : "", new RegExp(`announces ${size} bytes`))
      assert.isFalse(yield* Deferred.isDone(drawn))
    })
  )

  it.effect.each([
    ["begin", { writer: true }],
    ["take the bytes", { append: true }],
    ["commit", { commit: true }]
  ] as const)("fails at once when the store cannot %s", ([, broken]) =>
    Effect.gen(function* () {
      const full = new BlobStore.BlobWriteError({ reason: "Failed", digest: ref.digest, detail: "no space left" })
      const { asked, fetch } = origin(whole)
      const testBench = yield* bench({
        fetch,
        store: (store) => ({
          writer: (digest, options) =>
            "writer" in broken
              ? full
              : Effect.map(store.writer(digest, options), (writer) => ({
                  ...writer,
                  ...("append" in broken ? { append: () => full } : {}),
                  ...("commit" in broken ? { commit: full } : {})
                }))
        })
      })
      yield* testBench.pull()
      const { outcome } = yield* Queue.take(testBench.records)
      const detail = `cannot store ${ref.digest}: no space left`
      assert.deepStrictEqual(outcome, OriginPump.PullOutcome.Failed({ failureClass: "transient", detail }))
      assert.isAtMost(asked.length, 1)
    })
  )

  it.effect("goes on when its caller is gone", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const testBench = yield* bench({ fetch: (request) => Effect.andThen(Deferred.await(gate), full(request)) })
      const caller = yield* Effect.forkChild(Effect.andThen(testBench.pull(), Effect.never), { startImmediately: true })
      while ((yield* testBench.inflight.size) === 0) yield* Effect.yieldNow
      yield* Fiber.interrupt(caller)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Queue.take(testBench.records)).outcome._tag, "Stored")
    })
  )
})

describe("the record", () => {
  const logged = Effect.fnUntraced(function* (fetch: Fetch) {
    const lines: Array<Record<string, unknown>> = []
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      lines.push({ level: logLevel, message: String(message), ...fiber.getRef(References.CurrentLogAnnotations) })
    })
    const record = yield* Effect.gen(function* () {
      const testBench = yield* bench({ fetch })
      yield* TestClock.adjust("5 seconds")
      yield* testBench.pull(ref, "config")
      return yield* Queue.take(testBench.records)
    }).pipe(Effect.provide(Logger.layer([logger])))
    return { record, line: lines.at(-1) }
  })
  const told = { kind: "config", rule: "please_pull", requester: "peer", rank: 1, ref: ref.toString() }

  it.effect("tells who asked for what, why, since when, and what came of it", () =>
    Effect.gen(function* () {
      const { line, record } = yield* logged(full)
      assert.deepStrictEqual(record, {
        ref,
        kind: "config",
        reason: requestOf(ref).reason,
        startedAt: Timestamp.make(5_000_000_000n),
        outcome: OriginPump.PullOutcome.Stored(),
        bytes: blob.length
      })
      assert.deepStrictEqual(line, {
        level: "Info",
        message: `Stored ${ref} from the origin`,
        ...told,
        outcome: "Stored",
        bytes: blob.length
      })
    })
  )

  it.effect("tells why a pull failed, and warns of it", () =>
    Effect.gen(function* () {
      const error = registryError("NotFound")
      const { line, record } = yield* logged(() => error)
      const outcome = OriginPump.PullOutcome.Failed({ failureClass: "not_found", detail: error.message })
      assert.deepStrictEqual(record.outcome, outcome)
      assert.deepStrictEqual(line, {
        level: "Warn",
        message: error.message,
        ...told,
        outcome: "Failed",
        failureClass: "not_found",
        bytes: 0
      })
    })
  )

  it.effect("does not wait for a reader that is slow, who loses the oldest", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: () => registryError("NotFound"), options: { maxConcurrentPulls: 1 } })
      const reading = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const read: Array<Digest> = []
      const reader = Stream.runForEach(testBench.pulls, ({ ref }) => {
        read.push(ref.digest)
        return Effect.andThen(Deferred.succeed(reading, undefined), Deferred.await(gate))
      })
      yield* Effect.forkScoped(reader, { startImmediately: true })
      for (let index = 0; index < 1100; index++) {
        assert.strictEqual(tagOf(yield* testBench.pull(refOf(index))), "Started")
        yield* idle(testBench)
        if (index === 0) yield* Deferred.await(reading)
      }
      yield* Deferred.succeed(gate, undefined)
      while (read.at(-1) !== refOf(1099).digest) yield* Effect.yieldNow
      assert.deepStrictEqual([read.length, read[0], read[1]], [1025, refOf(0).digest, refOf(76).digest])
    })
  )
})

describe("shutting down", () => {
  const gated = Effect.fnUntraced(function* (options?: OriginPump.Options) {
    const gate = yield* Deferred.make<void>()
    const half = (offset: number) =>
      Stream.concat(bytesFrom(offset, 5), Stream.fromEffect(Effect.as(Deferred.await(gate), blob.subarray(5))))
    const opened: Array<string> = []
    const testBench = yield* bench({
      fetch: ({ offset = 0 }) => Effect.succeed(delivery(offset, half(offset))),
      ...(options === undefined ? {} : { options }),
      store: (store) => ({
        writer: (digest, options) =>
          Effect.acquireRelease(
            Effect.tap(store.writer(digest, options), () => Effect.sync(() => opened.push("open"))),
            () => Effect.sync(() => opened.push("closed"))
          )
      })
    })
    yield* testBench.pull()
    const closing = yield* Effect.forkChild(testBench.close, { startImmediately: true })
    return { ...testBench, testBench, closing, gate, opened }
  })

  it.effect("declines what is new, still tells what runs, and waits for it", () =>
    Effect.gen(function* () {
      const { closing, gate, inflight, negative, pull, records, store } = yield* gated()
      assert.strictEqual(tagOf(yield* pull(refOf(1))), "Declined")
      assert.strictEqual(tagOf(yield* pull()), "AlreadyPulling")
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(closing.pollUnsafe(), undefined)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closing)
      assert.strictEqual((yield* Queue.take(records)).outcome._tag, "Stored")
      assert.isTrue(yield* store.has(ref.digest))
      assert.deepStrictEqual([yield* inflight.size, yield* negative.size], [0, 0])
    })
  )

  it.effect.each([
    ["after 10 seconds", undefined, 10],
    ["after the grace period", { shutdownGrace: "3 seconds" }, 3],
    ["after 10 seconds if the grace period is none", { shutdownGrace: 0 }, 10]
  ] as const)("interrupts what runs %s, and leaves nothing behind", ([, options, seconds]) =>
    Effect.gen(function* () {
      const { closing, events, inflight, negative, opened, pull, records, store } = yield* gated(options)
      yield* TestClock.adjust(Duration.millis(seconds * 1000 - 1))
      assert.strictEqual(closing.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      const record = yield* Queue.take(records)
      assert.deepStrictEqual([record.outcome._tag, record.bytes], ["Interrupted", 5])
      assert.deepStrictEqual(opened, ["open", "closed"])
      assert.isFalse(yield* store.has(ref.digest))
      assert.deepStrictEqual([yield* inflight.size, yield* negative.size], [0, 0])
      assert.deepStrictEqual(events, ["inflight 1", "pull layer", "failure layer unspecified", "inflight 0"])
      assert.strictEqual(tagOf(yield* pull()), "Declined")
    })
  )

  it.effect("interrupts a pause between attempts too", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({
        fetch: origin(refuse("Unreachable")).fetch,
        options: { maxAttempts: 1000, shutdownGrace: "1 seconds" }
      })
      yield* testBench.pull()
      const closing = yield* Effect.forkChild(testBench.close, { startImmediately: true })
      yield* TestClock.adjust("1 seconds")
      yield* Fiber.join(closing)
      assert.strictEqual((yield* Queue.take(testBench.records)).outcome._tag, "Interrupted")
    })
  )

  it.effect("ends the stream of records, after the last of them", () =>
    Effect.gen(function* () {
      const { close, pull, pulls } = yield* bench({ fetch: silent })
      const reader = yield* Effect.forkChild(Stream.runCollect(pulls), { startImmediately: true })
      yield* pull()
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
      const records = yield* Fiber.join(reader)
      assert.deepStrictEqual(
        records.map(({ outcome }) => outcome._tag),
        ["Interrupted"]
      )
      assert.deepStrictEqual(yield* Stream.runCollect(pulls), [])
    })
  )
})
