/**
 * Starts pulls from the origin.
 */
import { type FailureClass, type OriginRef, Timestamp } from "@gantry/protocol"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { FetchError, OriginFailure } from "./FetchError.ts"
import { type Claim, Inflight, type InflightEntry } from "./Inflight.ts"
import * as NodeFaults from "./internal/nodeFaults.ts"
import * as RunningPulls from "./internal/runningPull.ts"
import { Metrics } from "./Metrics.ts"
import { NegativeCache } from "./NegativeCache.ts"
import { make as makePullLog, PullLog, PullOutcome, type PullRecord } from "./PullLog.ts"
import type { PullRequest } from "./PullRequest.ts"
import type { SettingError } from "./SettingError.ts"
import * as Settings from "./Settings.ts"
import { Store } from "./Store.ts"

export type { RunningPull } from "./internal/runningPull.ts"
export type { PullReason, PullRequest } from "./PullRequest.ts"

/** What a pump did about one digest (protocol, section 4). */
export type PumpResult = Data.TaggedEnum<{
  Started: { readonly startedAt: Timestamp }
  AlreadyPulling: { readonly startedAt: Timestamp }
  RecentlyFailed: { readonly cooldownUntil: Timestamp; readonly failureClass: FailureClass }
  /** At the ceiling, or shutting down. */
  Declined: {}
  /** This node pulls nothing, by its composition. */
  NoPump: {}
}>
export const PumpResult = Data.taggedEnum<PumpResult>()

/** Decides about a pull at once, and runs it in the background. */
export class Pump extends Context.Service<
  Pump,
  {
    /**
     * Answers promptly: the reply to a peer waits for it. The pull itself outlives
     * the call. Interruption is safe at any point: either nothing began, or a pull
     * runs in the pump's own scope.
     */
    readonly pull: (request: PullRequest) => Effect.Effect<PumpResult>
  }
>()("@gantry/coord/Pump") {}

/** A node that pulls nothing from any origin. */
export const layerNone: Layer.Layer<Pump> = Layer.succeed(Pump, {
  pull: () => Effect.succeed(PumpResult.NoPump())
})

/** How a node pulls from its origins. A number or duration that is not positive is ignored. */
export interface Options<R> {
  /**
   * Brings one digest from its origin into the store, and succeeds once it is
   * there. What it needs of services the layer asks for; its scope ends with the
   * pull. It may fail with anything: a `FetchError` says whether the registry
   * refused or this node cannot; all else, a defect too, counts as transient.
   */
  readonly fetch: (request: PullRequest, pull: RunningPulls.RunningPull) => Effect.Effect<unknown, unknown, R>
  /** The registries that may be pulled from, as references name them; any, if not given. */
  readonly registries?: ReadonlyArray<string> | undefined
  /** Pulls at once; one more is declined; 16. */
  readonly maxConcurrentPulls?: number | undefined
  /** How long the store may take to say what it has; 100 milliseconds. */
  readonly storeTimeout?: Duration.Input | undefined
  /**
   * How long a pull may go without a new byte, attempts and pauses together; 30
   * seconds. Requesters lose patience after 40.
   */
  readonly stallTimeout?: Duration.Input | undefined
  /** How many attempts in a row may bring nothing new; 5. */
  readonly maxAttempts?: number | undefined
  /** How long running pulls may go on when the pump's scope closes; 10 seconds. */
  readonly shutdownGrace?: Duration.Input | undefined
}

const alreadyPulling = ({ startedAt }: Pick<InflightEntry, "startedAt">): PumpResult => ({
  _tag: "AlreadyPulling",
  startedAt
})

const make = Effect.fnUntraced(function* <R>(options: Options<R>) {
  const store = yield* Store
  const inflight = yield* Inflight
  const negative = yield* NegativeCache
  const metrics = yield* Metrics
  const settings = yield* Settings.read(options, (settings) => ({
    maxConcurrentPulls: settings.integer("maxConcurrentPulls", 16),
    storeTimeout: settings.duration("storeTimeout", "100 millis"),
    stallTimeout: settings.duration("stallTimeout", "30 seconds"),
    maxAttempts: settings.integer("maxAttempts", 5),
    shutdownGrace: settings.duration("shutdownGrace", "10 seconds")
  }))
  const registries = options.registries && new Set(options.registries.map((name) => name.toLowerCase()))

  const { append, log } = yield* makePullLog
  const running = yield* FiberSet.make<void>()
  const runInBackground = yield* FiberSet.runtime(running)<Exclude<R, Scope.Scope>>()
  const slots = yield* Semaphore.make(settings.maxConcurrentPulls)
  const turn = yield* Semaphore.make(1)
  const faults = NodeFaults.make()
  let isOpen = true

  yield* Effect.addFinalizer(() =>
    turn
      .withPermit(Effect.sync(() => (isOpen = false)))
      .pipe(Effect.andThen(FiberSet.awaitEmpty(running)), Effect.timeoutOption(settings.shutdownGrace))
  )

  // The decision

  /**
   * What is in flight is not stored yet, and unless it has failed as well there
   * is nothing more to ask. So nearly all of a batch is decided that many ask for.
   */
  const pull = (request: PullRequest): Effect.Effect<PumpResult> =>
    Effect.flatMap(inflight.lookup(request.ref.digest), (running) =>
      Option.isNone(running)
        ? decide(request)
        : Effect.flatMap(negative.lookup(request.ref.digest), (failed) =>
            Option.isNone(failed) ? Effect.succeed(alreadyPulling(running.value)) : decide(request)
          )
    )

  const decide = Effect.fn("Pump.pull")(function* (request: PullRequest) {
    if (yield* isStored(request.ref)) {
      return alreadyPulling({ startedAt: Timestamp.make(yield* Clock.currentTimeNanos) })
    }
    const failed = yield* negative.lookupRef(request.ref, request.kind)
    if (Option.isSome(failed)) return PumpResult.RecentlyFailed(failed.value)
    return yield* turn.withPermit(start(request))
  })

  /** What the store says; none if it cannot say, or not in time. */
  const lookUp = Effect.fnUntraced(function* ({ digest }: OriginRef) {
    // Opening a file cannot be interrupted on a disk that hangs: the answer is not waited for beyond its time.
    const look = yield* Effect.forkDetach(store.has(digest), { startImmediately: true })
    return yield* Fiber.join(look).pipe(
      Effect.timeoutOption(settings.storeTimeout),
      Effect.catch((error) => Effect.as(Effect.logWarning(error.message), Option.none<boolean>())),
      Effect.ensuring(Effect.sync(() => look.interruptUnsafe()))
    )
  })
  const isStored = (ref: OriginRef) => Effect.map(lookUp(ref), Option.contains(true))

  /** Starts the pull if this node may. Claim and slot belong to the pull from then on. */
  const start = Effect.fnUntraced(function* (request: PullRequest) {
    const { digest, registry } = request.ref
    const now = yield* inflight.lookup(digest)
    if (Option.isSome(now)) return alreadyPulling(now.value)
    // What this node may not pull, or cannot, another one may: declining sends the requester to the next rank.
    const isRefused = registries !== undefined && !registries.has(registry.toLowerCase())
    if (!isOpen || isRefused || (yield* faults.prevents(registry))) return PumpResult.Declined()
    if (!(yield* slots.takeIfAvailable(1))) return PumpResult.Declined()

    const held = yield* Scope.make()
    const free = Scope.close(held, Exit.void)
    yield* Scope.addFinalizer(held, slots.release(1))
    const claim = yield* inflight.start(digest, request.kind, Option.none()).pipe(
      Scope.provide(held),
      Effect.onError(() => free)
    )
    const { startedAt } = claim.entry
    if (!claim.owned) return yield* Effect.as(free, alreadyPulling(claim.entry))
    runInBackground(
      pullFromOrigin(request, claim).pipe(Effect.ignore, Effect.tapDefect(Effect.logError), Effect.ensuring(free))
    )
    return PumpResult.Started({ startedAt })
  }, Effect.uninterruptible)

  // The pull

  const pullFromOrigin = Effect.fnUntraced(function* (request: PullRequest, { entry, report }: Claim) {
    // Between the first look at the store and the claim another pull may have ended.
    if (yield* isStored(request.ref)) return
    yield* metrics.originPull(request.kind)
    const { bytes, pull, supervise } = yield* RunningPulls.make(request.ref, settings, report)
    const fetch = Effect.scoped(Effect.suspend(() => options.fetch(request, pull)))
    const delivered = Effect.andThen(supervise(fetch), mustBeStored(request.ref))
    yield* Effect.onExit(delivered, (exit) =>
      Effect.flatMap(settle(request, exit), (outcome) =>
        record({ ...request, startedAt: entry.startedAt, outcome, bytes: bytes() })
      )
    )
  })

  /** A fetch that keeps nothing would be asked for the same again, and the origin with it. */
  const mustBeStored = (ref: OriginRef) =>
    Effect.flatMap(lookUp(ref), (stored) =>
      Option.contains(stored, false)
        ? new FetchError({
            reason: new OriginFailure({ failureClass: "transient" }),
            detail: `the fetch of ${ref} ended, and the store does not have it`
          })
        : Effect.void
    )

  /** What comes of a pull for those who ask next. Only what the registry said is remembered against the reference. */
  const settle = Effect.fnUntraced(function* ({ kind, ref }: PullRequest, exit: Exit.Exit<unknown, unknown>) {
    if (Exit.isSuccess(exit)) {
      yield* negative.recordSuccess(ref, kind)
      yield* metrics.originPullSuccess(kind)
      return PullOutcome.Stored()
    }
    if (Cause.hasInterruptsOnly(exit.cause) && !isOpen) {
      yield* metrics.originPullFailure(kind, "unspecified")
      return PullOutcome.Interrupted()
    }
    const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
    const detail = error instanceof Error && error.message !== "" ? error.message : Cause.pretty(exit.cause)
    const reason = error instanceof FetchError ? error.reason : undefined
    if (reason?._tag === "StoreFault" || reason?._tag === "AccessFault") {
      const fault = reason._tag === "StoreFault" ? "store" : "access"
      yield* fault === "store" ? faults.store : faults.access(ref.registry)
      yield* metrics.nodeFault(fault)
      yield* metrics.originPullFailure(kind, "unspecified")
      return PullOutcome.Unable({ fault, detail })
    }
    const failureClass = reason?.failureClass ?? "transient"
    yield* negative.recordFailure(ref, kind, failureClass, reason?.retryAfter)
    yield* metrics.originPullFailure(kind, failureClass)
    return PullOutcome.Failed({ failureClass, detail })
  })

  const record = Effect.fnUntraced(function* (pull: PullRecord) {
    yield* append(pull)
    const { bytes, kind, outcome, reason, ref } = pull
    const isFailure = outcome._tag === "Failed" || outcome._tag === "Unable"
    yield* Effect.annotateLogs(
      isFailure ? Effect.logWarning(outcome.detail) : Effect.logInfo(`${outcome._tag} ${ref} from the origin`),
      {
        ref: ref.toString(),
        kind,
        outcome: outcome._tag,
        ...(outcome._tag === "Failed" ? { failureClass: outcome.failureClass } : {}),
        ...(outcome._tag === "Unable" ? { fault: outcome.fault } : {}),
        bytes,
        rule: reason.rule,
        requester: reason.requester,
        rank: reason.rank
      }
    )
  })

  return Context.make(Pump, { pull }).pipe(Context.add(PullLog, log))
})

/**
 * Pulls in the background, in the order of decision that parts (Pump) lays
 * down: all that a pump is but for the way to the origin, which is its `fetch`.
 *
 * Who answers peers must look at the same claims, failures and counters:
 * `Coord.layer` takes this layer as an option and sees to it.
 *
 * When its scope closes it declines what is new, lets running pulls finish for
 * the grace period, and interrupts the rest.
 */
export const layerBackground = <R = never>(
  options: Options<R>
): Layer.Layer<Pump | PullLog, SettingError, Store | Inflight | NegativeCache | Metrics | Exclude<R, Scope.Scope>> =>
  Layer.effectContext(make(options))
