/**
 * Which digests recently failed at the origin.
 */
import {
  type ContentKind,
  type Digest,
  type FailureClass,
  type OriginRef,
  type Timestamp,
  timestampFromMillis
} from "@gantry/protocol"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { Metrics } from "./Metrics.ts"
import * as MonotonicClock from "./MonotonicClock.ts"
import type { SettingError } from "./SettingError.ts"
import * as Settings from "./Settings.ts"

/** A cooldown that runs. */
export interface NegativeEntry {
  readonly cooldownUntil: Timestamp
  readonly failureClass: FailureClass
}

/**
 * Failures per origin reference, in memory (parts, NegativeCache). The cooldown
 * grows with every consecutive failure, also across its own end.
 */
export class NegativeCache extends Context.Service<
  NegativeCache,
  {
    /** The active entry of any reference of the digest, the longest-lasting first: a hint, not a verdict. */
    readonly lookup: (digest: Digest) => Effect.Effect<Option.Option<NegativeEntry>>
    /** The active entry of exactly this reference, asked for as this kind: what a pump decides by. */
    readonly lookupRef: (ref: OriginRef, kind: ContentKind) => Effect.Effect<Option.Option<NegativeEntry>>
    /** Begins a cooldown, at least as long as the origin asked for, within the cap. */
    readonly recordFailure: (
      ref: OriginRef,
      kind: ContentKind,
      failureClass: FailureClass,
      retryAfter?: Duration.Duration
    ) => Effect.Effect<NegativeEntry>
    /** Forgets the reference. */
    readonly recordSuccess: (ref: OriginRef, kind: ContentKind) => Effect.Effect<void>
    /** How many references are remembered, in cooldown or after it. */
    readonly size: Effect.Effect<number>
  }
>()("@gantry/coord/NegativeCache") {}

/** Remembers nothing. */
export const layerNone: Layer.Layer<NegativeCache> = Layer.succeed(NegativeCache, {
  lookup: () => Effect.succeedNone,
  lookupRef: () => Effect.succeedNone,
  recordFailure: (_ref, _kind, failureClass) =>
    Effect.map(Clock.currentTimeMillis, (now) => ({ cooldownUntil: timestampFromMillis(now), failureClass })),
  recordSuccess: () => Effect.void,
  size: Effect.succeed(0)
})

/** Settings of the cooldown; one that is not positive is ignored. */
export interface Options {
  /** The cooldown after the first failure; 10 seconds. */
  readonly initial?: Duration.Input | undefined
  /** What each further failure multiplies it by; 3. */
  readonly multiplier?: number | undefined
  /** The longest cooldown, and how long after one a failure is still remembered; 10 minutes. */
  readonly cap?: Duration.Input | undefined
  /** The most references remembered; the oldest leave first; 100,000. */
  readonly capacity?: number | undefined
}

/**
 * A registry answers for manifests and for blobs apart: a peer that asks for a
 * layer as a manifest finds nothing there, and must not block the layer.
 */
const keyOf = (ref: OriginRef, kind: ContentKind) => `${ref} ${kind === "manifest" ? "manifest" : "blob"}`

interface Remembered {
  readonly digest: Digest
  readonly failures: number
  /** Of the monotonic clock: a wall clock that is set back must not prolong a cooldown. */
  readonly cooldownUntilMillis: number
  readonly failureClass: FailureClass
}

/** How often what is forgotten is swept out. Only memory depends on it. */
const sweepInterval = Duration.minutes(1)

const make = Effect.fnUntraced(function* (options: Options = {}) {
  const metrics = yield* Metrics
  const { cap, capacity, initial, multiplier } = yield* Settings.read(options, (settings) => ({
    initial: Duration.toMillis(settings.duration("initial", "10 seconds")),
    multiplier: settings.number("multiplier", 3),
    cap: Duration.toMillis(settings.duration("cap", "10 minutes")),
    capacity: settings.integer("capacity", 100_000)
  }))

  /** By reference, the longest unchanged first. */
  const remembered = new Map<string, Remembered>()
  /** Of each digest. Nearly all have one, which needs no list. */
  const references = new Map<Digest, string | ReadonlyArray<string>>()
  const referencesOf = (digest: Digest): ReadonlyArray<string> => Arr.ensure(references.get(digest) ?? [])

  const forget = (key: string) => {
    const entry = remembered.get(key)
    if (entry === undefined) return
    remembered.delete(key)
    const others = referencesOf(entry.digest).filter((other) => other !== key)
    if (others.length === 0) references.delete(entry.digest)
    else references.set(entry.digest, others)
  }
  const remember = (key: string, entry: Remembered) => {
    forget(key)
    remembered.set(key, entry)
    const others = referencesOf(entry.digest)
    references.set(entry.digest, others.length === 0 ? key : [...others, key])
    if (remembered.size > capacity) forget(remembered.keys().next().value as string)
  }
  const isForgotten = (entry: Remembered, now: number) => now >= entry.cooldownUntilMillis + cap
  const active = (key: string, now: number) => {
    const entry = remembered.get(key)
    return entry !== undefined && now < entry.cooldownUntilMillis ? entry : undefined
  }
  /** What peers are told is an instant of the wall clock. */
  const publicEntry = (entry: Remembered, now: number): Effect.Effect<NegativeEntry> =>
    Effect.map(Clock.currentTimeMillis, (wall) => ({
      cooldownUntil: timestampFromMillis(wall + entry.cooldownUntilMillis - now),
      failureClass: entry.failureClass
    }))
  const report = Effect.suspend(() => metrics.negativeCacheEntries(remembered.size))

  const sweep = Effect.gen(function* () {
    const now = yield* MonotonicClock.millis
    for (const [key, entry] of remembered) {
      if (isForgotten(entry, now)) forget(key)
    }
    yield* report
  })
  yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(sweepInterval)))

  /** Hardly any digest has failed, and every query asks. */
  const lookup = (digest: Digest) =>
    Effect.suspend(() => (references.has(digest) ? longestOf(digest) : Effect.succeedNone))

  const longestOf = Effect.fnUntraced(function* (digest: Digest) {
    const now = yield* MonotonicClock.millis
    let longest: Remembered | undefined
    for (const key of referencesOf(digest)) {
      const entry = active(key, now)
      if (entry !== undefined && entry.cooldownUntilMillis > (longest?.cooldownUntilMillis ?? 0)) longest = entry
    }
    return longest === undefined ? Option.none() : Option.some(yield* publicEntry(longest, now))
  })

  const lookupRef = Effect.fnUntraced(function* (ref: OriginRef, kind: ContentKind) {
    const now = yield* MonotonicClock.millis
    const entry = active(keyOf(ref, kind), now)
    if (entry === undefined) return Option.none()
    yield* metrics.negativeCacheHit(entry.failureClass)
    return Option.some(yield* publicEntry(entry, now))
  })

  const recordFailure = Effect.fnUntraced(function* (
    ref: OriginRef,
    kind: ContentKind,
    failureClass: FailureClass,
    retryAfter: Duration.Duration = Duration.zero
  ) {
    const now = yield* MonotonicClock.millis
    const key = keyOf(ref, kind)
    const last = remembered.get(key)
    const failures = last === undefined || isForgotten(last, now) ? 1 : last.failures + 1
    const ladder = initial * multiplier ** (failures - 1)
    const cooldown = Math.min(Math.max(ladder, Duration.toMillis(retryAfter)), cap)
    const entry = { digest: ref.digest, failures, cooldownUntilMillis: now + cooldown, failureClass }
    remember(key, entry)
    yield* metrics.negativeCacheEnter(failureClass)
    yield* report
    return yield* publicEntry(entry, now)
  })

  const recordSuccess = (ref: OriginRef, kind: ContentKind) =>
    Effect.andThen(
      Effect.sync(() => forget(keyOf(ref, kind))),
      report
    )

  return NegativeCache.of({
    lookup,
    lookupRef,
    recordFailure,
    recordSuccess,
    size: Effect.sync(() => remembered.size)
  })
})

/** Remembers failures with growing cooldowns, within a bound. */
export const layer = (options?: Options): Layer.Layer<NegativeCache, SettingError, Metrics> =>
  Layer.effect(NegativeCache, make(options))
