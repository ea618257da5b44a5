/**
 * A pull that runs: how far it is, what it may still try, and when it is given
 * up.
 */
import type { OriginRef, PullProgress } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import { FetchError, OriginFailure } from "../FetchError.ts"
import * as MonotonicClock from "../MonotonicClock.ts"

/** A pull that runs, as who fetches the bytes sees it. */
export interface RunningPull {
  /**
   * Tells how far it is: how many bytes of the blob have come, and how many
   * there are in all once that is known. To be called with every piece, and when
   * a delivery begins again further back, which is no new ground.
   */
  readonly report: (progress: PullProgress) => void
  /**
   * Runs an attempt, and runs it again after a `FetchError` that may pass: a
   * transient one, one for which the registry says how long to wait, or no way to the
   * registry. It pauses in between, and fails with the error of the last
   * attempt once a pause would not end in time, or too many brought nothing new.
   */
  readonly retry: <A, E, R>(attempt: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

export interface Settings {
  /** How long a pull may go without a new byte; attempts and pauses count. */
  readonly stallTimeout: Duration.Duration
  /** How many attempts in a row may bring nothing new. */
  readonly maxAttempts: number
}

/** The pauses between attempts double from the first to the longest, each a fifth shorter or longer by chance. */
const firstPause = Duration.millis(500)
const longestPause = Duration.seconds(10)

const mayPass = (error: unknown): error is FetchError => {
  if (!(error instanceof FetchError)) return false
  const { reason } = error
  if (reason._tag === "OriginFailure") return reason.retryAfter !== undefined || reason.failureClass === "transient"
  return reason._tag === "AccessFault"
}

const pauseAfter = Effect.fnUntraced(function* ({ reason }: FetchError, setbacks: number) {
  const backoff = Duration.min(Duration.times(firstPause, 2 ** Math.max(setbacks - 1, 0)), longestPause)
  const jittered = Duration.times(backoff, yield* Random.nextBetween(0.8, 1.2))
  const asked = reason._tag === "OriginFailure" ? reason.retryAfter : undefined
  return Duration.max(jittered, asked ?? Duration.zero)
})

const isCount = (bytes: number) => Number.isSafeInteger(bytes) && bytes >= 0

/** Begins to watch a pull. What it reports is told on, as one that never falls back. */
export const make = Effect.fnUntraced(function* (
  ref: OriginRef,
  { maxAttempts, stallTimeout }: Settings,
  tell: (progress: PullProgress) => void
) {
  const clock = yield* Clock.Clock
  const now = () => MonotonicClock.millisUnsafe(clock)
  const budget = Duration.toMillis(stallTimeout)

  let here = 0
  let furthest = 0
  let total = Option.none<number>()
  let grownAt = now()
  let bytes = 0
  let setback: string | undefined

  const report = (progress: PullProgress) => {
    // What is told to peers has to be a number of bytes.
    if (!isCount(progress.receivedBytes)) return
    bytes += Math.max(progress.receivedBytes - here, 0)
    here = progress.receivedBytes
    total = Option.filter(progress.totalBytes, isCount)
    if (here > furthest) {
      furthest = here
      grownAt = now()
    }
    tell({ receivedBytes: furthest, totalBytes: total })
  }

  /** In milliseconds. */
  const remaining = () => grownAt + budget - now()

  const retry: RunningPull["retry"] = Effect.fnUntraced(function* (attempt) {
    let setbacks = 0
    while (true) {
      const before = furthest
      const result = yield* Effect.result(attempt)
      if (Result.isSuccess(result)) return result.success
      const error = result.failure
      // Only new ground counts: an origin that resumes nothing could begin again for ever.
      setbacks = furthest > before ? 0 : setbacks + 1
      if (!mayPass(error) || setbacks >= maxAttempts) return yield* Effect.fail(error)
      const pause = yield* pauseAfter(error, setbacks)
      if (Duration.toMillis(pause) >= remaining()) return yield* error
      setback = error.detail
      yield* Effect.logDebug(`${error.detail}; asking again in ${Duration.format(pause)}`)
      yield* Effect.sleep(pause)
    }
  })

  /** When all has come the pull waits for the store, not for the registry. */
  const isComplete = () => Option.exists(total, (total) => here >= total)

  /** Fails once no new byte has come for too long. */
  const stalled = Effect.gen(function* () {
    while (true) {
      if (isComplete()) yield* Effect.sleep(stallTimeout)
      else if (remaining() > 0) yield* Effect.sleep(remaining())
      else break
    }
    const before = setback === undefined ? "" : `; before that: ${setback}`
    return yield* new FetchError({
      reason: new OriginFailure({ failureClass: "transient" }),
      detail: `no new byte of ${ref} came for ${Duration.format(stallTimeout)}${before}`
    })
  })

  return {
    pull: { report, retry } satisfies RunningPull,
    /** Runs the fetch until it ends or stalls. */
    supervise: <A, E, R>(fetch: Effect.Effect<A, E, R>) => Effect.raceFirst(fetch, stalled),
    /** How many bytes have come, those that came again counted again. */
    bytes: () => bytes
  }
})
