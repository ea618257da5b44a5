/**
 * What a node answers to the two calls, whoever asks: a peer on a stream, or a
 * caller in the same process.
 */
import {
  AlreadyPulling,
  type Digest,
  OriginRef,
  PleasePullOutcome,
  type PleasePullRequest,
  PullIntent,
  RecentlyFailed,
  Started,
  Unspecified,
  type Verdict
} from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import { Inflight } from "../Inflight.ts"
import { Members } from "../Members.ts"
import type { MembersView } from "../MembersView.ts"
import { Metrics } from "../Metrics.ts"
import { NegativeCache } from "../NegativeCache.ts"
import { type PullReason, Pump, type PumpResult } from "../Pump.ts"
import { Store, StoreError } from "../Store.ts"
import { makeThrottle } from "./throttle.ts"

/** At most one warning about a failing store in this time. */
const storeWarningInterval = Duration.seconds(30)

export const makeAnswers = Effect.gen(function* () {
  const inflight = yield* Inflight
  const members = yield* Members
  const metrics = yield* Metrics
  const negativeCache = yield* NegativeCache
  const pump = yield* Pump
  const store = yield* Store
  const warnAboutStore = makeThrottle(storeWarningInterval)
  const hashing = yield* Semaphore.make(1)

  /** Only a definite yes counts; a store that does not answer in time cannot be reached. */
  const hasCached = (digest: Digest, budget: Duration.Duration): Effect.Effect<boolean> =>
    store.has(digest).pipe(
      Effect.timeoutOrElse({
        duration: budget,
        orElse: () =>
          Effect.fail(
            new StoreError({
              reason: "Unavailable",
              digest,
              cause: new Error(`no answer within ${Duration.format(budget)}`)
            })
          )
      }),
      Effect.catch((error) =>
        Effect.andThen(
          error.reason === "Unavailable" ? metrics.pullIntentStorageUnavailable : Effect.void,
          Effect.as(warnAboutStore(Effect.logWarning(error.message)), false)
        )
      )
    )

  /** Hashes the members for one new digest after the other; the event loop takes a turn after every slice. */
  const hash = (digest: Digest, view: MembersView): Effect.Effect<void> =>
    hashing.withPermits(1)(
      Effect.gen(function* () {
        while (!view.isRanked(digest)) {
          view.prepare(digest)
          yield* Effect.yieldNow
        }
      })
    )

  /** This node's rank for a digest; -1 for a stranger. */
  const rank = (digest: Digest, view: MembersView): Effect.Effect<number> => {
    const ranked = Effect.sync(() => view.rankOf(members.self, digest))
    return Effect.suspend(() => (view.isRanked(digest) ? ranked : Effect.andThen(hash(digest, view), ranked)))
  }

  /** The answer to a query, from one view of the membership (protocol, section 4). */
  const pullIntent = Effect.fnUntraced(function* (digest: Digest, view: MembersView, budget: Duration.Duration) {
    const cached = yield* hasCached(digest, budget)
    const running = yield* inflight.lookup(digest)
    // What is here is not failing here: a reader that trusts failures would give up on it.
    const failure = cached ? Option.none() : yield* negativeCache.lookup(digest)
    return new PullIntent({
      hasCached: cached,
      inFlight: Option.isSome(running),
      startedAt: Option.map(running, (entry) => entry.startedAt),
      progress: Option.map(running, (entry) => entry.progress),
      hrwRank: yield* rank(digest, view),
      recentlyFailed: Option.isSome(failure),
      cooldownUntil: Option.map(failure, (entry) => entry.cooldownUntil),
      failureClass: Option.match(failure, { onNone: () => "unspecified", onSome: (entry) => entry.failureClass })
    })
  })

  /** The verdict on a digest that the pump did not get to, or did not tell about before the time was up. */
  const undecided = (digest: Digest) =>
    Effect.map(
      inflight.lookup(digest),
      Option.match({
        onNone: (): Verdict => new Unspecified(),
        onSome: (entry) => new AlreadyPulling({ startedAt: Option.some(entry.startedAt) })
      })
    )

  const count = Effect.fnUntraced(function* (results: ReadonlyArray<PumpResult>) {
    for (const { _tag } of results) {
      if (_tag === "Started") yield* metrics.pleasePullStarted
      if (_tag === "Declined") yield* metrics.pleasePullDeclined
    }
  })

  /**
   * One outcome per digest, in order. Whatever goes wrong on the way, the digests
   * that were decided keep their outcome: their pulls have begun, and a reply
   * that is lost recruits another puller (protocol, section 9).
   */
  const pleasePull = Effect.fnUntraced(function* (
    { digests, kind, registry, repository }: PleasePullRequest,
    reasonOf: (digest: Digest) => Effect.Effect<PullReason>,
    budget: Duration.Duration
  ) {
    const results: Array<PumpResult> = []
    // One loop instead of a generator for each digest: hundreds of them wait for one reply.
    yield* Effect.whileLoop({
      while: () => results.length < digests.length,
      body: () => {
        const digest = digests[results.length] as Digest
        const ref = OriginRef.ofChecked(registry, repository, digest)
        return Effect.flatMap(reasonOf(digest), (reason) => pump.pull({ ref, kind, reason }))
      },
      step: (result: PumpResult) => void results.push(result)
    }).pipe(
      Effect.timeoutOption(budget),
      Effect.catchDefect((defect) => Effect.logError("the pump failed in the middle of a batch", defect)),
      Effect.ensuring(Effect.suspend(() => count(results)))
    )
    const outcomes = results.map(
      (result, index) => new PleasePullOutcome({ digest: digests[index] as Digest, verdict: verdictOf(result) })
    )
    for (const digest of digests.slice(results.length)) {
      outcomes.push(new PleasePullOutcome({ digest, verdict: yield* undecided(digest) }))
    }
    return outcomes
  })

  return { pullIntent, pleasePull, rank }
})

const verdictOf = (result: PumpResult): Verdict => {
  switch (result._tag) {
    case "Started":
      return new Started({ startedAt: Option.some(result.startedAt) })
    case "AlreadyPulling":
      return new AlreadyPulling({ startedAt: Option.some(result.startedAt) })
    case "RecentlyFailed":
      return new RecentlyFailed({
        cooldownUntil: Option.some(result.cooldownUntil),
        failureClass: result.failureClass
      })
    case "Declined":
    case "NoPump":
      return new Unspecified()
  }
}
