import { assert, describe, it } from "@effect/vitest"
import { FetchError, Inflight, Metrics, NegativeCache, PullLog, Pump, Store } from "@gantry/coord"
import {
  type ContentKind,
  type Digest,
  OriginRef,
  Registry,
  Repository,
  Timestamp,
  timestampToMillis
} from "@gantry/protocol"
import { Fixtures } from "@gantry/testkit"
import {
  Clock,
  Context,
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

const registry = Registry.make("registry.example.com")
const repository = Repository.make("library/nginx")
const refOf = (index: number, at: Registry = registry) =>
  new OriginRef({ registry: at, repository, digest: Fixtures.digestOf(`layer ${index}`) })
const ref = refOf(0)
const requestOf = (ref: OriginRef, kind: ContentKind = "layer"): Pump.PullRequest => ({
  ref,
  kind,
  reason: { rule: "please_pull", requester: "peer", rank: 1 }
})

/** A fetch that a test scripts, and the digests of the store that it brings them to. */
type Fetch = (
  request: Pump.PullRequest,
  pull: Pump.RunningPull,
  stored: Set<Digest>
) => Effect.Effect<unknown, unknown, Scope.Scope>

const size = 20
const progress = (receivedBytes: number, totalBytes: Option.Option<number> = Option.some(size)) => ({
  receivedBytes,
  totalBytes
})

const failure = (
  failureClass: FetchError.OriginFailure["failureClass"],
  retryAfter?: Duration.Input
): FetchError.FetchError =>
  new FetchError.FetchError({
    reason: new FetchError.OriginFailure({
      failureClass,
      ...(retryAfter === undefined ? {} : { retryAfter: Duration.fromInputUnsafe(retryAfter) })
    }),
    detail: `scripted: ${failureClass}`
  })
const storeFault = new FetchError.FetchError({ reason: new FetchError.StoreFault(), detail: "scripted: no space" })
const accessFault = new FetchError.FetchError({ reason: new FetchError.AccessFault(), detail: "scripted: no route" })

/** An origin that has everything. */
const full: Fetch = ({ ref }, { report }, stored) =>
  Effect.sync(() => {
    report(progress(size))
    stored.add(ref.digest)
  })

/** An origin that does not answer. */
const silent: Fetch = () => Effect.never

/** What a test reads from its pump. */
interface Bench {
  readonly pull: (ref?: OriginRef, kind?: ContentKind) => Effect.Effect<Pump.PumpResult>
  readonly pulls: PullLog.PullLog["Service"]["pulls"]
  /** The same, as a test reads them. */
  readonly records: Queue.Dequeue<PullLog.PullRecord>
  readonly events: ReadonlyArray<string>
  readonly inflight: Inflight.Inflight["Service"]
  readonly negative: NegativeCache.NegativeCache["Service"]
  readonly stored: Set<Digest>
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
  readonly options?: Omit<Pump.Options<never>, "fetch">
  readonly stored?: ReadonlyArray<Digest>
  readonly inflight?: (inflight: Inflight.Inflight["Service"]) => Inflight.Inflight["Service"]
  readonly has?: Store.Store["Service"]["has"]
}

/** A pump over ports in memory. The ports outlive it. */
const bench = Effect.fnUntraced(function* ({ fetch, has, inflight = identity, options, stored: digests }: Setting) {
  const events: Array<string> = []
  const event = (name: string) => Effect.sync(() => void events.push(name))
  const metrics = Layer.mock(Metrics.Metrics, {
    inflightPulls: (count) => event(`inflight ${count}`),
    negativeCacheEntries: () => Effect.void,
    negativeCacheEnter: () => Effect.void,
    negativeCacheHit: () => Effect.void,
    nodeFault: (fault) => event(`fault ${fault}`),
    originPull: (kind) => event(`pull ${kind}`),
    originPullSuccess: (kind) => event(`success ${kind}`),
    originPullFailure: (kind, failureClass) => event(`failure ${kind} ${failureClass}`)
  })
  const stored = new Set(digests)
  const ports = Layer.mergeAll(
    Layer.effect(Inflight.Inflight, Effect.map(Inflight.Inflight, inflight)).pipe(
      Layer.provide(Inflight.layer),
      Layer.provide(metrics)
    ),
    NegativeCache.layer().pipe(Layer.provide(metrics)),
    Layer.succeed(Store.Store, { has: has ?? ((digest) => Effect.sync(() => stored.has(digest))) }),
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
  const layer = Pump.layerBackground({ ...options, fetch: (request, pull) => fetch(request, pull, stored) })
  const pumpContext = yield* Layer.buildWithScope(layer, scope).pipe(Effect.provide(context))
  const pump = Context.get(pumpContext, Pump.Pump)
  const { pulls } = Context.get(pumpContext, PullLog.PullLog)
  const records = yield* Queue.unbounded<PullLog.PullRecord>()
  yield* Effect.forkScoped(
    Stream.runForEach(pulls, (record) => Queue.offer(records, record)),
    { startImmediately: true }
  )
  const bench: Bench = {
    pull: (at = ref, kind = "layer") => pump.pull(requestOf(at, kind)),
    pulls,
    records,
    events,
    inflight: Context.get(context, Inflight.Inflight),
    negative: Context.get(context, NegativeCache.NegativeCache),
    stored,
    close
  }
  return bench
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
        stored: [ref.digest],
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
      const testBench = yield* bench({ fetch: (...pull) => Effect.andThen(Deferred.await(gate), full(...pull)) })
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
        has: (digest) => (error === undefined ? Effect.succeed(false) : error(digest))
      })
      assert.strictEqual(tagOf(yield* pull()), "Started")
    })
  )

  it.effect.each([
    ["is slow", Effect.never],
    ["cannot be interrupted", Effect.uninterruptible(Effect.never)]
  ] as const)("goes on after 100 milliseconds when the store %s", ([, answer]) =>
    Effect.gen(function* () {
      const { pull } = yield* bench({ fetch: silent, has: () => answer })
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
        has: () => Effect.as(Effect.yieldNow, false)
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
        has: () => Effect.as(Effect.yieldNow, false)
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
        const { inflight, pull, records, stored } = testBench
        // The caller gives way after every third operation, so that it can be interrupted nearly anywhere.
        const fiber = yield* Effect.forkChild(Effect.provideService(pull(), Scheduler.MaxOpsBeforeYield, 3))
        for (let turn = 0; turn < step; turn++) yield* Effect.yieldNow
        const isDone = fiber.pollUnsafe() !== undefined
        yield* Fiber.interrupt(fiber)
        if ((yield* inflight.size) > 0 || stored.has(ref.digest)) {
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
        has: () => Effect.sync(() => looks++ > 0)
      })
      assert.strictEqual(tagOf(yield* testBench.pull()), "Started")
      yield* idle(testBench)
      assert.deepStrictEqual(testBench.events, ["inflight 1", "inflight 0"])
    })
  )

  it.effect.each([
    ["success", full, "success layer"],
    ["failure", () => failure("not_found"), "failure layer not_found"],
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

/** What one attempt of a fetch does. */
type Step = Fetch
const whole: Step = full
const fails =
  (failureClass: FetchError.OriginFailure["failureClass"], retryAfter?: Duration.Input): Step =>
  () =>
    Effect.fail(failure(failureClass, retryAfter))
/** Brings the blob up to a byte, and is cut there. */
const cutAt =
  (byte: number): Step =>
  (_request, { report }) =>
    Effect.andThen(
      Effect.sync(() => report(progress(byte))),
      Effect.fail(failure("transient"))
    )
/** The same of a delivery that begins again with the first byte. */
const againTo =
  (byte: number): Step =>
  (request, pull, stored) =>
    Effect.andThen(
      Effect.sync(() => pull.report(progress(0))),
      cutAt(byte)(request, pull, stored)
    )

/** A fetch that attempts step by step, the last step for ever, and when it began each, in seconds. */
const origin = (...steps: ReadonlyArray<Step>) => {
  const asked: Array<number> = []
  const fetch: Fetch = (request, pull, stored) =>
    pull.retry(
      Effect.gen(function* () {
        const step = steps[Math.min(asked.length, steps.length - 1)] as Step
        asked.push((yield* Clock.currentTimeMillis) / 1000)
        return yield* step(request, pull, stored)
      })
    )
  return { asked, fetch }
}

const times = (count: number, step: Step) => Array.from({ length: count }, () => step)

describe("a pull", () => {
  it.effect.each([
    ["takes the whole", [whole], 1, "Stored", size],
    ["goes on where it was cut", [cutAt(5), cutAt(8), whole], 3, "Stored", size],
    ["begins again where nothing is resumed", [cutAt(5), againTo(3), whole], 3, "Stored", 5 + size],
    ["asks five times for an origin that is not there", [fails("transient")], 5, "transient", 0],
    [
      "has five vain attempts anew after every byte",
      [...times(4, fails("transient")), cutAt(1), ...times(4, fails("transient")), cutAt(2), whole],
      11,
      "Stored",
      size
    ],
    ["counts the same bytes once more as none", [againTo(5)], 6, "transient", 30],
    ["waits as long as it is asked to", [fails("transient", "10 seconds"), whole], 2, "Stored", size],
    ["waits as long as a limit asks it to", [fails("rate_limited", "29 seconds"), whole], 2, "Stored", size],
    [
      "gives up where it is asked to wait for all its time",
      [fails("rate_limited", "30 seconds")],
      1,
      "rate_limited",
      0
    ],
    ["gives up at a limit that does not say how long", [fails("rate_limited")], 1, "rate_limited", 0],
    ["takes not_found for the answer", [fails("not_found")], 1, "not_found", 0],
    ["takes auth for the answer", [fails("auth")], 1, "auth", 0],
    ["takes the answer also half-way", [cutAt(5), fails("not_found")], 2, "not_found", 5],
    ["asks again where there was no way to the registry", [() => Effect.fail(accessFault), whole], 2, "Stored", size],
    ["fails on a defect", [() => Effect.die(new Error("a bug"))], 1, "transient", 0],
    ["fails on an error that it does not know", [() => Effect.fail("a string")], 1, "transient", 0],
    ["fails on a fetch that interrupts itself", [() => Effect.interrupt], 1, "transient", 0],
    ["fails on a fetch that stores nothing", [() => Effect.void], 1, "transient", 0]
  ] satisfies ReadonlyArray<readonly [string, ReadonlyArray<Step>, number, string, number]>)(
    "%s",
    ([, steps, attempts, end, bytes]) =>
      Effect.gen(function* () {
        const { asked, fetch } = origin(...steps)
        const testBench = yield* bench({ fetch })
        yield* testBench.pull()
        const record = yield* nextRecord(testBench)
        const { outcome } = record
        assert.strictEqual(outcome._tag === "Failed" ? outcome.failureClass : outcome._tag, end)
        assert.strictEqual(asked.length, attempts)
        assert.strictEqual(record.bytes, bytes)

        const isStored = end === "Stored"
        const result = isStored ? "success layer" : `failure layer ${end}`
        assert.deepStrictEqual(testBench.events, ["inflight 1", "pull layer", result, "inflight 0"])
        assert.strictEqual(testBench.stored.has(ref.digest), isStored)
        const remembered = yield* testBench.negative.lookupRef(ref, "layer")
        assert.strictEqual(Option.getOrUndefined(remembered)?.failureClass, isStored ? undefined : end)
      })
  )

  it.effect("doubles its pauses from half a second, a fifth more or less", () =>
    Effect.gen(function* () {
      const { asked, fetch } = origin(fails("transient"))
      const testBench = yield* bench({ fetch, options: { maxAttempts: 8, stallTimeout: "1 minute" } })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      const pauses = asked.slice(1).map((seconds, index) => seconds - (asked[index] ?? 0))
      for (const [index, expected] of [0.5, 1, 2, 4, 8, 10, 10].entries()) {
        assert.isAtLeast(pauses[index] ?? 0, expected * 0.799)
        assert.isAtMost(pauses[index] ?? 0, expected * 1.201)
      }
      assert.isAbove(new Set(pauses.map((pause, index) => pause / 2 ** index)).size, 4)
    })
  )

  it.effect("waits for Retry-After at least", () =>
    Effect.gen(function* () {
      const { asked, fetch } = origin(fails("rate_limited", "7 seconds"), fails("rate_limited", "1 millis"), whole)
      const testBench = yield* bench({ fetch })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      assert.strictEqual(asked[1], 7)
      assert.isAtLeast(asked[2] ?? 0, 7.799)
    })
  )

  it.effect("records a Retry-After that it did not wait for", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: origin(fails("rate_limited", "95 seconds")).fetch })
      yield* testBench.pull()
      yield* Queue.take(testBench.records)
      const entry = Option.getOrThrow(yield* testBench.negative.lookupRef(ref, "layer"))
      assert.strictEqual(timestampToMillis(entry.cooldownUntil), 95_000)
    })
  )

  it.effect("forgets earlier failures when it succeeds", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: origin(fails("not_found"), whole).fetch })
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

  it.effect("goes on when its caller is gone", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const testBench = yield* bench({ fetch: (...pull) => Effect.andThen(Deferred.await(gate), full(...pull)) })
      const caller = yield* Effect.forkChild(Effect.andThen(testBench.pull(), Effect.never), { startImmediately: true })
      while ((yield* testBench.inflight.size) === 0) yield* Effect.yieldNow
      yield* Fiber.interrupt(caller)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Queue.take(testBench.records)).outcome._tag, "Stored")
    })
  )

  class Mirror extends Context.Service<Mirror, { readonly name: string }>()("test/Mirror") {}

  it.effect("has the services that its fetch asks the layer for", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<string>()
      const layer = Pump.layerBackground({
        fetch: () => Mirror.use(({ name }) => Deferred.succeed(asked, name))
      }).pipe(
        Layer.provide([
          Layer.succeed(Mirror, { name: "the mirror" }),
          Store.layerMemory(),
          Inflight.layer,
          NegativeCache.layer()
        ]),
        Layer.provide(Metrics.layerNoop)
      )
      const pump = Context.get(yield* Layer.build(layer), Pump.Pump)
      yield* pump.pull(requestOf(ref))
      assert.strictEqual(yield* Deferred.await(asked), "the mirror")
    })
  )
})

/** Whether a pull has ended by now, and how. */
const ended = ({ records }: Bench) =>
  Effect.map(
    Queue.poll(records),
    Option.map(({ outcome }) => outcome)
  )

describe("a pull's time", () => {
  it.effect.each([
    ["30 seconds", undefined, 30],
    ["what the setting says", { stallTimeout: "3 seconds" }, 3],
    ["30 seconds if the setting is none", { stallTimeout: 0 }, 30]
  ] as const)("is over after %s without a byte, and the failure recorded", ([, options, seconds]) =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: silent, ...(options === undefined ? {} : { options }) })
      yield* testBench.pull()
      yield* TestClock.adjust(Duration.millis(seconds * 1000 - 1))
      assert.deepStrictEqual(yield* ended(testBench), Option.none())
      yield* TestClock.adjust("1 millis")
      const outcome = Option.getOrThrow(yield* ended(testBench))
      assert.deepStrictEqual(
        outcome,
        PullLog.PullOutcome.Failed({
          failureClass: "transient",
          detail: `no new byte of ${ref} came for ${seconds}s`
        })
      )
      assert.strictEqual(tagOf(yield* testBench.pull()), "RecentlyFailed")
      assert.deepStrictEqual(testBench.events, ["inflight 1", "pull layer", "failure layer transient", "inflight 0"])
    })
  )

  it.effect("is never over while bytes come, however slowly", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({
        fetch: Effect.fnUntraced(function* ({ ref }, { report }, stored) {
          for (let byte = 1; byte <= size; byte++) {
            yield* Effect.sleep("29 seconds")
            report(progress(byte))
          }
          stored.add(ref.digest)
        })
      })
      yield* testBench.pull()
      yield* TestClock.adjust(Duration.seconds(29 * size))
      assert.deepStrictEqual(yield* ended(testBench), Option.some(PullLog.PullOutcome.Stored()))
    })
  )

  it.effect("is spent by attempts, pauses and Retry-After together", () =>
    Effect.gen(function* () {
      const slow = fails("rate_limited", "8 seconds")
      const { asked, fetch } = origin((...pull) => Effect.delay(slow(...pull), "1 seconds"))
      const testBench = yield* bench({ fetch })
      yield* testBench.pull()
      // The fourth answer comes after 28 seconds: what is left is less than it asks for.
      yield* TestClock.adjust("28 seconds")
      const outcome = Option.getOrThrow(yield* ended(testBench))
      assert.strictEqual(outcome._tag === "Failed" && outcome.failureClass, "rate_limited")
      assert.deepStrictEqual(asked, [0, 9, 18, 27])
      const entry = Option.getOrThrow(yield* testBench.negative.lookupRef(ref, "layer"))
      assert.strictEqual(timestampToMillis(entry.cooldownUntil), 38_000)
    })
  )

  it.effect("begins anew with every new byte", () =>
    Effect.gen(function* () {
      const slow: Step = (request, pull, stored) => Effect.delay(cutAt(pulled++)(request, pull, stored), "20 seconds")
      let pulled = 1
      const { asked, fetch } = origin(slow, slow, slow, fails("rate_limited", "29 seconds"), whole)
      const testBench = yield* bench({ fetch })
      yield* testBench.pull()
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(yield* ended(testBench), Option.some(PullLog.PullOutcome.Stored()))
      assert.lengthOf(asked, 5)
    })
  )

  it.effect("is not prolonged by bytes that come again", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({
        fetch: Effect.fnUntraced(function* (_request, { report }) {
          report(progress(10))
          while (true) {
            report(progress(0))
            for (let byte = 1; byte <= 10; byte++) {
              yield* Effect.sleep("1 seconds")
              report(progress(byte))
            }
          }
        })
      })
      yield* testBench.pull()
      yield* TestClock.adjust("29999 millis")
      assert.deepStrictEqual(yield* ended(testBench), Option.none())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(Option.getOrThrow(yield* ended(testBench))._tag, "Failed")
    })
  )

  it.effect("does not run while the store takes its time over what has come", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({
        fetch: Effect.fnUntraced(function* ({ ref }, { report }, stored) {
          report(progress(size))
          yield* Effect.sleep("5 minutes")
          stored.add(ref.digest)
        })
      })
      yield* testBench.pull()
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(yield* ended(testBench), Option.some(PullLog.PullOutcome.Stored()))
    })
  )

  it.effect("ends with a word about what was wrong before", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: origin(fails("transient"), () => Effect.never).fetch })
      yield* testBench.pull()
      const { outcome } = yield* nextRecord(testBench)
      assert.match(outcome._tag === "Failed" ? outcome.detail : "", /before that: scripted: transient$/)
    })
  )
})

describe("the progress of a pull", () => {
  const reported = Effect.fnUntraced(function* (...reports: ReadonlyArray<ReturnType<typeof progress>>) {
    const { inflight, pull } = yield* bench({
      fetch: (_request, { report }) =>
        Effect.andThen(
          Effect.sync(() => reports.forEach(report)),
          Effect.never
        )
    })
    yield* pull()
    return Option.getOrThrow(yield* inflight.lookup(ref.digest)).progress
  })

  it.effect("is told to who asks, with the total once it is known", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* reported(), progress(0, Option.none()))
      assert.deepStrictEqual(yield* reported(progress(3, Option.none())), progress(3, Option.none()))
      assert.deepStrictEqual(yield* reported(progress(3, Option.none()), progress(7)), progress(7))
    })
  )

  it.effect("never falls back, though the delivery does", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* reported(progress(9), progress(0), progress(4)), progress(9))
    })
  )

  it.effect("is a number of bytes, whatever is reported", () =>
    Effect.gen(function* () {
      for (const wrong of [Number.NaN, -1, 1.5, Number.POSITIVE_INFINITY]) {
        assert.deepStrictEqual(yield* reported(progress(3), progress(wrong)), progress(3))
        assert.deepStrictEqual(yield* reported(progress(3, Option.some(wrong))), progress(3, Option.none()))
      }
    })
  )
})

describe("a fault of this node", () => {
  const elsewhere = Registry.make("elsewhere.example.com")
  const other = refOf(1)

  it.effect.each([
    ["store", storeFault],
    ["access", accessFault]
  ] as const)("of its %s is counted, and not recorded against the image", ([fault, error]) =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: () => error })
      yield* testBench.pull()
      const { outcome } = yield* nextRecord(testBench)
      assert.deepStrictEqual(outcome, PullLog.PullOutcome.Unable({ fault, detail: error.detail }))
      assert.deepStrictEqual(testBench.events, [
        "inflight 1",
        "pull layer",
        `fault ${fault}`,
        "failure layer unspecified",
        "inflight 0"
      ])
      assert.strictEqual(yield* testBench.negative.size, 0)
    })
  )

  it.effect("that keeps its store from taking bytes makes it decline everything for 30 seconds", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: () => storeFault })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      assert.strictEqual(tagOf(yield* testBench.pull()), "Declined")
      assert.strictEqual(tagOf(yield* testBench.pull(refOf(1, elsewhere))), "Declined")
      yield* TestClock.adjust("29999 millis")
      assert.strictEqual(tagOf(yield* testBench.pull()), "Declined")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(tagOf(yield* testBench.pull()), "Started")
    })
  )

  it.effect("that keeps it from a registry makes it decline that registry for 30 seconds", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: () => accessFault })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      assert.strictEqual(tagOf(yield* testBench.pull(other)), "Declined")
      yield* TestClock.adjust("29999 millis")
      assert.strictEqual(tagOf(yield* testBench.pull(other)), "Declined")
      assert.strictEqual(tagOf(yield* testBench.pull(refOf(0, elsewhere))), "Started")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(tagOf(yield* testBench.pull(other)), "Started")
    })
  )

  it.effect("of many registries is forgotten first of the oldest, and that of the store of none", () =>
    Effect.gen(function* () {
      const registryOf = (index: number) => Registry.make(`registry-${index}.example.com`)
      const testBench = yield* bench({
        fetch: ({ ref }) => (ref.digest === other.digest ? storeFault : accessFault)
      })
      const pullFrom = (index: number) => testBench.pull(refOf(0, registryOf(index)))
      for (let index = 0; index <= 1024; index++) {
        yield* pullFrom(index)
        yield* idle(testBench)
      }
      assert.strictEqual(tagOf(yield* pullFrom(1)), "Declined")
      assert.strictEqual(tagOf(yield* pullFrom(0)), "Started")
      yield* idle(testBench)
      yield* testBench.pull(other)
      yield* idle(testBench)
      assert.strictEqual(tagOf(yield* pullFrom(2000)), "Declined")
    })
  )

  it.effect("outlasts an earlier one", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: ({ ref }) => (ref.registry === elsewhere ? storeFault : accessFault) })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      yield* TestClock.adjust("20 seconds")
      yield* testBench.pull(refOf(1, elsewhere))
      yield* nextRecord(testBench)
      yield* TestClock.adjust("29999 millis")
      assert.strictEqual(tagOf(yield* testBench.pull()), "Declined")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(tagOf(yield* testBench.pull()), "Started")
    })
  )

  it.effect("changes nothing about what is here, failed or in flight", () =>
    Effect.gen(function* () {
      const stored = refOf(2)
      const testBench = yield* bench({
        fetch: ({ ref }) => (ref.digest === other.digest ? Effect.never : storeFault),
        stored: [stored.digest]
      })
      yield* testBench.pull(other)
      yield* testBench.pull()
      yield* nextRecord({ ...testBench, inflight: { ...testBench.inflight, size: Effect.succeed(0) } })
      yield* testBench.negative.recordFailure(refOf(3), "layer", "auth")
      assert.strictEqual(tagOf(yield* testBench.pull(stored)), "AlreadyPulling")
      assert.strictEqual(tagOf(yield* testBench.pull(refOf(3))), "RecentlyFailed")
      assert.strictEqual(tagOf(yield* testBench.pull(other)), "AlreadyPulling")
      assert.strictEqual(tagOf(yield* testBench.pull(refOf(4))), "Declined")
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
        outcome: PullLog.PullOutcome.Stored(),
        bytes: size
      })
      assert.deepStrictEqual(line, {
        level: "Info",
        message: `Stored ${ref} from the origin`,
        ...told,
        outcome: "Stored",
        bytes: size
      })
    })
  )

  it.effect("tells why a pull failed, and warns of it", () =>
    Effect.gen(function* () {
      const error = failure("not_found")
      const { line, record } = yield* logged(() => error)
      const outcome = PullLog.PullOutcome.Failed({ failureClass: "not_found", detail: error.message })
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
      const testBench = yield* bench({ fetch: () => failure("not_found"), options: { maxConcurrentPulls: 1 } })
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
  const gated = Effect.fnUntraced(function* (options: Setting["options"] = {}) {
    const gate = yield* Deferred.make<void>()
    const opened: Array<string> = []
    const testBench = yield* bench({
      fetch: Effect.fnUntraced(function* ({ ref }, { report }, stored) {
        yield* Effect.acquireRelease(
          Effect.sync(() => opened.push("open")),
          () => Effect.sync(() => opened.push("closed"))
        )
        report(progress(5))
        yield* Deferred.await(gate)
        stored.add(ref.digest)
      }),
      options
    })
    yield* testBench.pull()
    const closing = yield* Effect.forkChild(testBench.close, { startImmediately: true })
    return { ...testBench, testBench, closing, gate, opened }
  })

  it.effect("declines what is new, still tells what runs, and waits for it", () =>
    Effect.gen(function* () {
      const { closing, gate, inflight, negative, pull, records, stored } = yield* gated()
      assert.strictEqual(tagOf(yield* pull(refOf(1))), "Declined")
      assert.strictEqual(tagOf(yield* pull()), "AlreadyPulling")
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(closing.pollUnsafe(), undefined)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closing)
      assert.strictEqual((yield* Queue.take(records)).outcome._tag, "Stored")
      assert.isTrue(stored.has(ref.digest))
      assert.deepStrictEqual([yield* inflight.size, yield* negative.size], [0, 0])
    })
  )

  it.effect.each([
    ["after 10 seconds", undefined, 10],
    ["after the grace period", { shutdownGrace: "3 seconds" }, 3],
    ["after 10 seconds if the grace period is none", { shutdownGrace: 0 }, 10]
  ] as const)("interrupts what runs %s, and leaves nothing behind", ([, options, seconds]) =>
    Effect.gen(function* () {
      const { closing, events, inflight, negative, opened, pull, records, stored } = yield* gated(options)
      yield* TestClock.adjust(Duration.millis(seconds * 1000 - 1))
      assert.strictEqual(closing.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      const record = yield* Queue.take(records)
      assert.deepStrictEqual([record.outcome._tag, record.bytes], ["Interrupted", 5])
      assert.deepStrictEqual(opened, ["open", "closed"])
      assert.isFalse(stored.has(ref.digest))
      assert.deepStrictEqual([yield* inflight.size, yield* negative.size], [0, 0])
      assert.deepStrictEqual(events, ["inflight 1", "pull layer", "failure layer unspecified", "inflight 0"])
      assert.strictEqual(tagOf(yield* pull()), "Declined")
    })
  )

  it.effect("interrupts a pause between attempts too", () =>
    Effect.gen(function* () {
      const testBench = yield* bench({
        fetch: origin(fails("transient")).fetch,
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

describe("the settings", () => {
  it.effect("have to be readable for the pump to be built", () =>
    Effect.gen(function* () {
      for (const setting of ["maxConcurrentPulls", "storeTimeout", "stallTimeout", "maxAttempts", "shutdownGrace"]) {
        const options = { [setting]: "banana" } as unknown as Setting["options"]
        const error = yield* Effect.flip(bench({ fetch: silent, ...(options === undefined ? {} : { options }) }))
        assert.strictEqual(error.setting, setting)
      }
    })
  )
})
