/**
 * How a node that misses a digest obtains it.
 */
import type { CoordClient } from "@gantry/coord/CoordClient"
import type { CoordServer } from "@gantry/coord/CoordServer"
import type { Members } from "@gantry/coord/Members"
import type { Metrics } from "@gantry/coord/Metrics"
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import type { SettingError } from "@gantry/coord/SettingError"
import { Store } from "@gantry/coord/Store"
import type { Transfer } from "@gantry/coord/Transfer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Fiber from "effect/Fiber"
import * as Hash from "effect/Hash"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { BlobRequest, BlobSource } from "./BlobRequest.ts"
import { ColdStartError, TimedOut } from "./ColdStartError.ts"
import * as Cooldowns from "./internal/Cooldowns.ts"
import * as Pursuit from "./internal/Pursuit.ts"
import type { Setback } from "./internal/Setback.ts"
import * as Settings from "./internal/settings.ts"
import type { ObtainOptions, Options } from "./Options.ts"

export type { BlobRequest, BlobSource } from "./BlobRequest.ts"
export * from "./ColdStartError.ts"
export type { ObtainOptions, Options } from "./Options.ts"

/** The requester's side of coordination (parts, asking for a digest). */
export class ColdStart extends Context.Service<
  ColdStart,
  {
    /**
     * Succeeds once the digest is verified and in this node's store; fails at the
     * latest when the deadline passes. Concurrent calls for one digest share the
     * work, which stops when the last of them is interrupted. A failure that may
     * pass is waited for if the call's patience reaches that far; otherwise the
     * call fails at once, and the error says after what time it may succeed.
     */
    readonly obtain: (request: BlobRequest, options?: ObtainOptions) => Effect.Effect<BlobSource, ColdStartError>
  }
>()("@gantry/coldstart/ColdStart") {}

/** What the calls for one digest share. Whoever comes first says how it is pursued. */
class Flight implements Equal.Equal {
  readonly key: string
  readonly request: BlobRequest
  constructor(key: string, request: BlobRequest) {
    this.key = key
    this.request = request
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof Flight && that.key === this.key
  }
  [Hash.symbol](): number {
    return Hash.string(this.key)
  }
}

/** One call. */
interface Caller {
  readonly request: BlobRequest
  /** Until when it waits for failures to pass, in milliseconds of the monotonic clock. */
  readonly patientUntil: number
  /** What it is doing now. */
  doing: () => string
}

const make = Effect.fnUntraced(function* (options?: Options) {
  const settings = yield* Settings.make(options)
  const store = yield* Store
  const cooldowns = Cooldowns.make(settings.cooldownCap)
  const pursue = yield* Pursuit.make(settings, cooldowns)

  const flights = yield* RcMap.make({
    lookup: Effect.fnUntraced(function* ({ request }: Flight) {
      const progress: Pursuit.Progress = {
        doing: "starting",
        setback: yield* SubscriptionRef.make(Option.none<Setback>())
      }
      return { request, progress, fiber: yield* Effect.forkScoped(pursue(request, progress)) }
    })
  })

  /** A store that cannot say is not known to have it. */
  const isHere = ({ ref }: BlobRequest) =>
    store.has(ref.digest).pipe(
      Effect.tapError((error) => Effect.logDebug(error.message)),
      Effect.orElseSucceed(() => false)
    )

  /** Fails with a setback that lasts longer than the caller waits. */
  const endure = Effect.fnUntraced(function* (setback: Option.Option<Setback>, patientUntil: number) {
    if (Option.isNone(setback) || setback.value.retryAt <= patientUntil) return
    return yield* setback.value.errorAt(yield* MonotonicClock.millis)
  })

  /** Waits for what is shared, as long as the caller's own patience lasts. */
  const join = (key: string, caller: Caller) =>
    Effect.gen(function* () {
      const { fiber, progress, request } = yield* RcMap.get(flights, new Flight(key, caller.request))
      caller.doing = () => progress.doing
      // A setback of another reference is none of ours, and not to be waited for.
      const patientUntil = Equal.equals(request.ref, caller.request.ref)
        ? caller.patientUntil
        : Number.NEGATIVE_INFINITY
      const setbacks = SubscriptionRef.changes(progress.setback)
      const impatience = Stream.runForEach(setbacks, (setback) => endure(setback, patientUntil))
      return yield* Effect.raceFirst(Fiber.join(fiber), Effect.andThen(impatience, Effect.never))
    }).pipe(Effect.scoped)

  /** A failure of another reference says nothing about ours, which is then pursued apart. */
  const share = (caller: Caller) => {
    const { ref } = caller.request
    return Effect.catchIf(
      join(ref.digest, caller),
      (error) => !Equal.equals(error.ref, ref),
      () => join(ref.toString(), caller)
    )
  }

  const seek = Effect.fnUntraced(function* (caller: Caller) {
    if (yield* isHere(caller.request)) return { _tag: "Local" } satisfies BlobSource
    yield* endure(yield* cooldowns.lookup(caller.request.ref), caller.patientUntil)
    return yield* share(caller)
  })

  const timedOut = ({ doing, request: { kind, ref } }: Caller) =>
    new ColdStartError({ ref, kind, reason: new TimedOut({ deadline: settings.deadline, doing: doing() }) })

  const obtain = Effect.fn("ColdStart.obtain")(function* (request: BlobRequest, options: ObtainOptions = {}) {
    yield* Effect.annotateCurrentSpan({ ref: request.ref.toString(), kind: request.kind })
    // What ends after the deadline is waited for in vain.
    const patience = Duration.min(Duration.fromInputUnsafe(options.patience ?? settings.patience), settings.deadline)
    const caller: Caller = {
      request,
      patientUntil: (yield* MonotonicClock.millis) + Duration.toMillis(patience),
      doing: () => "asking our own store"
    }
    return yield* Effect.timeoutOrElse(seek(caller), {
      duration: settings.deadline,
      orElse: () => Effect.fail(timedOut(caller))
    })
  })

  return ColdStart.of({ obtain })
})

/** Obtains digests through the cluster. */
export const layer = (
  options?: Options
): Layer.Layer<ColdStart, SettingError, Members | CoordClient | CoordServer | Store | Transfer | Metrics> =>
  Layer.effect(ColdStart, make(options))
