/**
 * Pulls digests from their origin into this node's store.
 */
import { Inflight } from "@gantry/coord/Inflight"
import { Metrics } from "@gantry/coord/Metrics"
import { NegativeCache } from "@gantry/coord/NegativeCache"
import { type PullReason, type PullRequest, Pump, PumpResult } from "@gantry/coord/Pump"
import { positiveDuration, positiveInteger } from "@gantry/coord/Settings"
import { type ContentKind, type FailureClass, type OriginRef, Timestamp } from "@gantry/protocol"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type * as Take from "effect/Take"
import { BlobStore, BlobWriteError, type BlobWriter } from "./BlobStore.ts"
import * as Manifest from "./Manifest.ts"
import { RegistryClient, type RegistryError } from "./RegistryClient.ts"

/** How a pull ended. `Interrupted`: this node shut down before the origin had delivered. */
export type PullOutcome = Data.TaggedEnum<{
  Stored: {}
  Failed: { readonly failureClass: FailureClass; readonly detail: string }
  Interrupted: {}
}>
export const PullOutcome = Data.taggedEnum<PullOutcome>()

/** One pull from the origin, and why there was one (parts, asking for a digest). */
export interface PullRecord {
  readonly ref: OriginRef
  readonly kind: ContentKind
  readonly reason: PullReason
  readonly startedAt: Timestamp
  readonly outcome: PullOutcome
  /** What came from the origin, in bytes; more than the blob has if some came twice. */
  readonly bytes: number
}

/** The record of pulls from the origin, each as it ends. */
export class PullLog extends Context.Service<
  PullLog,
  {
    /** From now on, until the pump's scope closes. A reader that falls 1,024 behind loses the oldest. */
    readonly pulls: Stream.Stream<PullRecord>
  }
>()("@gantry/oci/PullLog") {}

/** Settings; a number or duration that is not positive is ignored. */
export interface Options {
  /** The registries that may be pulled from, as references name them; any, if not given. */
  readonly registries?: ReadonlyArray<string> | undefined
  /** Pulls at once; one more is declined; 16. */
  readonly maxConcurrentPulls?: number | undefined
  /** How long the store may take to say what it has; 100 milliseconds. */
  readonly storeTimeout?: Duration.Input | undefined
  /** How often the origin is asked in vain, one time after the other, until a pull fails; 5. */
  readonly maxAttempts?: number | undefined
  /** The largest manifest, in bytes; 4 MiB. */
  readonly maxManifestSize?: number | undefined
  /** The largest config or layer, in bytes; 64 GiB. */
  readonly maxBlobSize?: number | undefined
  /** How long running pulls may go on when the pump's scope closes; 10 seconds. */
  readonly shutdownGrace?: Duration.Input | undefined
}

/** The pauses between attempts double from the first to the longest, each a fifth shorter or longer by chance. */
const firstPause = Duration.millis(500)
const longestPause = Duration.seconds(10)

/** An origin that asks for a longer pause than this is not waited for: the cooldown is for that. */
const longestRetryAfter = longestPause

const logCapacity = 1024

type PullError = RegistryError | BlobWriteError

/** Whether another attempt may fare better. What the store refuses, it would refuse again. */
const isRetryable = (error: PullError): error is RegistryError => {
  if (error._tag !== "RegistryError") return false
  if (error.retryAfter !== undefined) return Duration.isLessThanOrEqualTo(error.retryAfter, longestRetryAfter)
  return error.failureClass === "transient"
}

const isWrongDigest = (error: PullError): error is BlobWriteError =>
  error._tag === "BlobWriteError" && error.reason === "WrongDigest"

const pauseAfter = Effect.fnUntraced(function* (error: RegistryError, setbacks: number) {
  const backoff = Duration.min(Duration.times(firstPause, 2 ** Math.max(setbacks - 1, 0)), longestPause)
  const jittered = Duration.times(backoff, yield* Random.nextBetween(0.8, 1.2))
  return Duration.max(jittered, error.retryAfter ?? Duration.zero)
})

const make = Effect.fnUntraced(function* (options: Options = {}) {
  const store = yield* BlobStore
  const registry = yield* RegistryClient
  const inflight = yield* Inflight
  const negative = yield* NegativeCache
  const metrics = yield* Metrics

  const registries = options.registries && new Set(options.registries.map((name) => name.toLowerCase()))
  const storeTimeout = positiveDuration(options.storeTimeout, Duration.millis(100))
  const maxAttempts = positiveInteger(options.maxAttempts, 5)
  const maxManifestSize = positiveInteger(options.maxManifestSize, Manifest.maxBytes)
  const maxBlobSize = positiveInteger(options.maxBlobSize, 64 * 1024 ** 3)
  const shutdownGrace = positiveDuration(options.shutdownGrace, Duration.seconds(10))

  const log = yield* Effect.acquireRelease(PubSub.sliding<Take.Take<PullRecord>>(logCapacity), (log) =>
    PubSub.end(log, Exit.void)
  )
  const running = yield* FiberSet.make<void>()
  const runInBackground = yield* FiberSet.runtime(running)()
  const slots = yield* Semaphore.make(positiveInteger(options.maxConcurrentPulls, 16))
  const turn = yield* Semaphore.make(1)
  let isOpen = true

  yield* Effect.addFinalizer(() =>
    turn
      .withPermit(Effect.sync(() => (isOpen = false)))
      .pipe(Effect.andThen(FiberSet.awaitEmpty(running)), Effect.timeoutOption(shutdownGrace))
  )

  /** Only a definite yes counts. */
  const isStored = Effect.fnUntraced(function* ({ digest }: OriginRef) {
    // Opening a file cannot be interrupted on a disk that hangs: the answer is not waited for beyond its time.
    const look = yield* Effect.forkDetach(store.has(digest), { startImmediately: true })
    return yield* Fiber.join(look).pipe(
      Effect.timeoutOption(storeTimeout),
      Effect.map(Option.getOrElse(() => false)),
      Effect.catch((error) => Effect.as(Effect.logWarning(error.message), false)),
      Effect.ensuring(Effect.sync(() => look.interruptUnsafe()))
    )
  })

  /** Brings the whole blob to the writer, in as many attempts as make headway. */
  const receive = Effect.fnUntraced(function* (
    { kind, ref }: PullRequest,
    writer: BlobWriter,
    maxSize: number,
    count: (chunk: Uint8Array) => void
  ) {
    const attempt = Effect.gen(function* () {
      const offset = yield* writer.offset
      const delivery = yield* registry.fetch({ ref, kind, offset })
      if (Option.exists(delivery.totalSize, (size) => size > maxSize)) {
        const detail = `the registry announces ${Option.getOrThrow(delivery.totalSize)} bytes, and ${maxSize} are allowed`
        return yield* new BlobWriteError({ reason: "TooLarge", digest: ref.digest, detail })
      }
      if (delivery.offset !== offset) yield* writer.restart
      yield* Stream.runForEach(delivery.stream, (chunk) => {
        count(chunk)
        return writer.append(chunk)
      })
    }).pipe(Effect.scoped)

    let furthest = 0
    let setbacks = 0
    while (true) {
      const result = yield* Effect.result(attempt)
      if (Result.isSuccess(result)) return
      // Only new ground counts: an origin that resumes nothing could begin again for ever.
      const reached = yield* writer.offset
      setbacks = reached > furthest ? 0 : setbacks + 1
      furthest = Math.max(furthest, reached)
      const error = result.failure
      if (!isRetryable(error) || setbacks >= maxAttempts) return yield* error
      const pause = yield* pauseAfter(error, setbacks)
      yield* Effect.logDebug(`${error.message}; asking again in ${Duration.format(pause)}`)
      yield* Effect.sleep(pause)
    }
  })

  const deliver = Effect.fnUntraced(function* (request: PullRequest, count: (chunk: Uint8Array) => void) {
    const maxSize = request.kind === "manifest" ? maxManifestSize : maxBlobSize
    const writer = yield* store.writer(request.ref.digest, { maxSize })
    const whole = Effect.andThen(receive(request, writer, maxSize, count), writer.commit)
    // Wrong bytes may be the fault of one transfer, or of one of its parts.
    yield* Effect.catchIf(whole, isWrongDigest, () => Effect.andThen(writer.restart, whole))
  }, Effect.scoped)

  const settle = Effect.fnUntraced(function* ({ kind, ref }: PullRequest, exit: Exit.Exit<void, PullError>) {
    if (Exit.isSuccess(exit)) {
      yield* negative.recordSuccess(ref, kind)
      yield* metrics.originPullSuccess(kind)
      return PullOutcome.Stored()
    }
    if (Cause.hasInterruptsOnly(exit.cause)) {
      yield* metrics.originPullFailure(kind, "unspecified")
      return PullOutcome.Interrupted()
    }
    const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
    const refusal = error?._tag === "RegistryError" ? error : undefined
    const failureClass = refusal?.failureClass ?? "transient"
    yield* negative.recordFailure(ref, kind, failureClass, refusal?.retryAfter)
    yield* metrics.originPullFailure(kind, failureClass)
    return PullOutcome.Failed({ failureClass, detail: error?.message ?? Cause.pretty(exit.cause) })
  })

  const record = Effect.fnUntraced(function* (pull: PullRecord) {
    yield* PubSub.publish(log, [pull])
    const { bytes, kind, outcome, reason, ref } = pull
    const isFailure = outcome._tag === "Failed"
    yield* Effect.annotateLogs(
      isFailure ? Effect.logWarning(outcome.detail) : Effect.logInfo(`${outcome._tag} ${ref} from the origin`),
      {
        ref: ref.toString(),
        kind,
        outcome: outcome._tag,
        ...(isFailure ? { failureClass: outcome.failureClass } : {}),
        bytes,
        rule: reason.rule,
        requester: reason.requester,
        rank: reason.rank
      }
    )
  })

  const pullFromOrigin = Effect.fnUntraced(function* (request: PullRequest, startedAt: Timestamp) {
    // Between the first look at the store and the claim another pull may have ended.
    if (yield* isStored(request.ref)) return
    yield* metrics.originPull(request.kind)
    let bytes = 0
    const count = (chunk: Uint8Array) => {
      bytes += chunk.length
    }
    const { kind, reason, ref } = request
    yield* Effect.onExit(deliver(request, count), (exit) =>
      Effect.flatMap(settle(request, exit), (outcome) => record({ ref, kind, reason, startedAt, outcome, bytes }))
    )
  })

  /** Starts the pull if this node may. Claim and slot belong to the pull from then on. */
  const start = Effect.fnUntraced(function* (request: PullRequest) {
    const { digest, registry } = request.ref
    const now = yield* inflight.lookup(digest)
    if (Option.isSome(now)) return PumpResult.AlreadyPulling({ startedAt: now.value.startedAt })
    // A registry that is not configured here may be elsewhere: declining sends the requester to the next rank.
    const isRefused = registries !== undefined && !registries.has(registry.toLowerCase())
    if (!isOpen || isRefused || !(yield* slots.takeIfAvailable(1))) return PumpResult.Declined()

    const held = yield* Scope.make()
    const free = Scope.close(held, Exit.void)
    yield* Scope.addFinalizer(held, slots.release(1))
    const { entry, owned } = yield* inflight.start(digest, request.kind, Option.none()).pipe(
      Scope.provide(held),
      Effect.onError(() => free)
    )
    const { startedAt } = entry
    if (!owned) return yield* Effect.as(free, PumpResult.AlreadyPulling({ startedAt }))
    runInBackground(
      pullFromOrigin(request, startedAt).pipe(Effect.ignore, Effect.tapDefect(Effect.logError), Effect.ensuring(free))
    )
    return PumpResult.Started({ startedAt })
  }, Effect.uninterruptible)

  const pull = Effect.fn("OriginPump.pull")(function* (request: PullRequest) {
    if (yield* isStored(request.ref)) {
      return PumpResult.AlreadyPulling({ startedAt: Timestamp.make(yield* Clock.currentTimeNanos) })
    }
    const failed = yield* negative.lookupRef(request.ref, request.kind)
    if (Option.isSome(failed)) return PumpResult.RecentlyFailed(failed.value)
    return yield* turn.withPermit(start(request))
  })

  return Context.make(Pump, { pull }).pipe(Context.add(PullLog, { pulls: Stream.fromPubSubTake(log) }))
})

/**
 * Pulls from the origin, in the order of decision that parts (Pump) lays down.
 * When its scope closes it declines what is new, lets running pulls finish for
 * the grace period, and interrupts the rest, which leave nothing behind.
 */
export const layer = (
  options?: Options
): Layer.Layer<Pump | PullLog, never, BlobStore | RegistryClient | Inflight | NegativeCache | Metrics> =>
  Layer.effectContext(make(options))
