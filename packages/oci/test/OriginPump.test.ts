import { assert, describe, it } from "@effect/vitest"
import { Inflight, Metrics, NegativeCache, PullLog, Pump } from "@gantry/coord"
import { type ContentKind, OriginRef, Registry, Repository } from "@gantry/protocol"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Queue, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as BlobStore from "../src/BlobStore.ts"
import * as OriginPump from "../src/OriginPump.ts"
import * as RegistryClient from "../src/RegistryClient.ts"
import * as RegistryError from "../src/RegistryError.ts"

const registry = Registry.make("registry.example.com")
const repository = Repository.make("library/nginx")
const blobOf = (index: number) => new TextEncoder().encode(`the bytes of layer ${index}`)
const blob = blobOf(0)
const ref = new OriginRef({ registry, repository, digest: BlobStore.digestOf(blob) })
const requestOf = (ref: OriginRef, kind: ContentKind = "layer"): Pump.PullRequest => ({
  ref,
  kind,
  reason: { rule: "please_pull", requester: "peer", rank: 1 }
})

type Fetch = RegistryClient.RegistryClient["Service"]["fetch"]

const delivery = (
  offset: number,
  stream: RegistryClient.Delivery["stream"],
  totalSize: Option.Option<number> = Option.none()
): RegistryClient.Delivery => ({ offset, totalSize, stream })

const {
  CredentialsUnknown,
  Malformed,
  NoNetwork,
  NotFound,
  RateLimited,
  Refused,
  StorageRefused,
  TimedOut,
  Truncated,
  Unauthorized,
  Unreachable
} = RegistryError
const reasons = {
  CredentialsUnknown,
  Malformed,
  NoNetwork,
  NotFound,
  RateLimited,
  Refused,
  StorageRefused,
  TimedOut,
  Truncated,
  Unauthorized,
  Unreachable
}
type Tag = keyof typeof reasons

/** Fails for the reason of that name; those that may tell how long to wait do if asked to. */
const registryError = (tag: Tag, retryAfter?: Duration.Duration) =>
  new RegistryError.RegistryError({
    reason: new reasons[tag]({
      detail: "scripted",
      status: 500,
      ...(retryAfter === undefined ? {} : { retryAfter })
    }),
    registry: ref.registry,
    repository: ref.repository,
    reference: ref.digest
  })

/** What a test reads from its pump. */
interface Bench {
  readonly pull: (kind?: ContentKind) => Effect.Effect<Pump.PumpResult>
  /** Every pull, as it ends. */
  readonly records: Queue.Dequeue<PullLog.PullRecord>
  readonly events: ReadonlyArray<string>
  readonly inflight: Inflight.Inflight["Service"]
  readonly negative: NegativeCache.NegativeCache["Service"]
  readonly store: BlobStore.BlobStore["Service"]
}

interface Setting {
  readonly fetch: Fetch
  readonly options?: OriginPump.Options
  readonly store?: (store: BlobStore.BlobStore["Service"]) => Partial<BlobStore.BlobStore["Service"]>
}

/** A pump over a registry that a test scripts, and a store in memory. */
const bench = Effect.fnUntraced(function* ({ fetch, options, store: change }: Setting) {
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
  const store = Layer.effect(
    BlobStore.BlobStore,
    Effect.map(BlobStore.BlobStore, (store) => ({ ...store, ...change?.(store) }))
  ).pipe(Layer.provideMerge(BlobStore.layerMemory()))
  const scope = yield* Scope.make()
  // What still runs when the test ends is not waited for.
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
    })
  )
  const context = yield* Layer.buildWithScope(
    OriginPump.layer(options).pipe(
      Layer.provide(Layer.mock(RegistryClient.RegistryClient, { fetch })),
      Layer.provideMerge(Layer.mergeAll(store, Inflight.layer, NegativeCache.layer())),
      Layer.provide(metrics)
    ),
    scope
  )
  const records = yield* Queue.unbounded<PullLog.PullRecord>()
  yield* Effect.forkScoped(
    Stream.runForEach(Context.get(context, PullLog.PullLog).pulls, (record) => Queue.offer(records, record)),
    { startImmediately: true }
  )
  const bench: Bench = {
    pull: (kind = "layer") => Context.get(context, Pump.Pump).pull(requestOf(ref, kind)),
    records,
    events,
    inflight: Context.get(context, Inflight.Inflight),
    negative: Context.get(context, NegativeCache.NegativeCache),
    store: Context.get(context, BlobStore.BlobStore)
  }
  return bench
})

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

/** One answer of an origin to a question from a byte on. */
type Step = (offset: number) => Effect.Effect<RegistryClient.Delivery, RegistryError.RegistryError>

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
  (reason: Tag, retryAfter?: Duration.Input): Step =>
  () =>
    registryError(reason, retryAfter === undefined ? undefined : Duration.fromInputUnsafe(retryAfter))

/** An origin that answers step by step, the last step for ever, and what it was asked. */
const origin = (...steps: ReadonlyArray<Step>) => {
  const asked: Array<number> = []
  const fetch: Fetch = Effect.fnUntraced(function* ({ offset = 0 }) {
    const step = steps[Math.min(asked.length, steps.length - 1)] as Step
    asked.push(offset)
    return yield* step(offset)
  })
  return { asked, fetch }
}

const times = (count: number, step: Step) => Array.from({ length: count }, () => step)

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
    ["waits as long as it is asked to", [refuse("StorageRefused", "10 seconds"), whole], [0, 0], "Stored", length],
    ["gives up where it is asked to wait longer", [refuse("RateLimited", "31 seconds")], [0], "rate_limited", 0],
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
        assert.deepStrictEqual(asked, offsets)
        assert.strictEqual(record.bytes, bytes)

        const isStored = end === "Stored"
        const result = isStored ? "success layer" : `failure layer ${end}`
        assert.deepStrictEqual(testBench.events, ["inflight 1", "pull layer", result, "inflight 0"])
        assert.strictEqual(yield* testBench.store.has(ref.digest), isStored)
        const remembered = yield* testBench.negative.lookupRef(ref, "layer")
        assert.strictEqual(Option.getOrUndefined(remembered)?.failureClass, isStored ? undefined : end)
      })
  )

  it.effect("tells a registry that is to go on how large the blob was", () =>
    Effect.gen(function* () {
      const cutOfKnownSize: Step = (offset) =>
        Effect.map(cutAfter(5)(offset), (cut) => ({ ...cut, totalSize: Option.some(blob.length) }))
      const { fetch } = origin(cutOfKnownSize, whole)
      const sizes: Array<number | undefined> = []
      const testBench = yield* bench({
        fetch: (request) => {
          sizes.push(request.size)
          return fetch(request)
        }
      })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      assert.deepStrictEqual(sizes, [undefined, blob.length])
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
      yield* testBench.pull(kind)
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
  ] as const)("fails at once when the store cannot %s, which is no failure of the image", ([, broken]) =>
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
      const { outcome } = yield* nextRecord(testBench)
      const detail = `cannot store ${ref.digest}: no space left`
      assert.deepStrictEqual(outcome, PullLog.PullOutcome.Unable({ fault: "store", detail }))
      assert.isAtMost(asked.length, 1)
      assert.strictEqual(yield* testBench.negative.size, 0)
      assert.strictEqual((yield* testBench.pull())._tag, "Declined")
    })
  )

  it.effect.each(["NoNetwork", "CredentialsUnknown"] as const)("takes %s for a fault of this node", (reason) =>
    Effect.gen(function* () {
      const testBench = yield* bench({ fetch: origin(refuse(reason)).fetch })
      yield* testBench.pull()
      const { outcome } = yield* nextRecord(testBench)
      assert.deepStrictEqual(
        outcome,
        PullLog.PullOutcome.Unable({ fault: "access", detail: registryError(reason).message })
      )
      assert.strictEqual(yield* testBench.negative.size, 0)
      assert.strictEqual((yield* testBench.pull())._tag, "Declined")
    })
  )

  it.effect("tells how much has come, and how much there is once the registry has said so", () =>
    Effect.gen(function* () {
      const come = yield* Queue.unbounded<Uint8Array>()
      const { inflight, pull } = yield* bench({
        fetch: () => Effect.succeed(delivery(0, Stream.fromQueue(come), Option.some(length)))
      })
      const progress = Effect.map(inflight.lookup(ref.digest), (entry) => Option.getOrThrow(entry).progress)
      yield* pull()
      while (Option.isNone((yield* progress).totalBytes)) yield* Effect.yieldNow
      assert.deepStrictEqual(yield* progress, { receivedBytes: 0, totalBytes: Option.some(length) })
      yield* Queue.offer(come, blob.subarray(0, 5))
      while ((yield* progress).receivedBytes === 0) yield* Effect.yieldNow
      assert.deepStrictEqual(yield* progress, { receivedBytes: 5, totalBytes: Option.some(length) })
    })
  )

  it.effect("tells its store that the registry itself sends the bytes, and how many", () =>
    Effect.gen(function* () {
      const told: Array<unknown> = []
      const testBench = yield* bench({
        fetch: origin(whole).fetch,
        store: (store) => ({
          writer: (digest, options) =>
            Effect.map(store.writer(digest, options), (writer) => {
              told.push(options?.source)
              return { ...writer, announce: (size) => Effect.sync(() => told.push(size)) }
            })
        })
      })
      yield* testBench.pull()
      yield* nextRecord(testBench)
      assert.deepStrictEqual(told, ["origin", length])
    })
  )

  it.effect("has the store drop what did not hold together before it begins again", () =>
    Effect.gen(function* () {
      const { fetch } = origin(wrong, cutAfter(5), wholeFromZero)
      const testBench = yield* bench({ fetch })
      yield* testBench.pull()
      assert.strictEqual((yield* nextRecord(testBench)).outcome._tag, "Stored")
      assert.isTrue(yield* testBench.store.verify(ref.digest))
    })
  )
})
