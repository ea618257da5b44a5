/**
 * The membership of an agent: follows a source, asks the listed who they are,
 * and provides what coordination knows as `Members` (agent, section 5).
 */
import * as Members from "@gantry/coord/Members"
import * as MembersView from "@gantry/coord/MembersView"
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import type * as HttpClient from "effect/http/HttpClient"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Listed from "./Listed.ts"
import type { Answer, MemberSource } from "./MemberSource.ts"
import * as Roster from "./Roster.ts"
import * as SelfDocument from "./SelfDocument.ts"

/** How the membership is doing. */
export interface Status {
  /** What people call the source. */
  readonly source: string
  /** `waiting` for the first members, `synced` with the source, or `alone`, while the source goes on being asked. */
  readonly state: "waiting" | "synced" | "alone"
  /** Why the source does not list the members now, if it does not. */
  readonly failure: Option.Option<string>
  /** How old the members are: none while the source is well. */
  readonly age: Option.Option<Duration.Duration>
  /** Entries of the source that are no members, or not all that they could be. */
  readonly complaints: ReadonlyArray<Roster.Complaint>
}

/** The membership, to those who watch over it. */
export class Membership extends Context.Service<
  Membership,
  {
    /** Ends with the first members, or once the agent goes on alone. */
    readonly ready: Effect.Effect<void>
    readonly status: Effect.Effect<Status>
    /**
     * Asks the source and all who are listed again: somebody came whom we do not
     * know. Ends with the answers, after 3 seconds at most. Within 30 seconds of
     * the last time it does nothing, since strangers may come as often as they like.
     */
    readonly refresh: Effect.Effect<void>
  }
>()("@gantry/agent/Membership") {}

/** What a membership is made of. */
export interface Options<R = never> {
  readonly source: MemberSource<R>
  /** What this agent says of itself. */
  readonly self: SelfDocument.SelfDocument
  /** How long to wait for the first members; 10 seconds. */
  readonly syncTimeout?: Duration.Input | undefined
}

/** How many of the listed are asked at once. */
const concurrency = 32

/** How soon after an answer an agent is asked again: it may have restarted with another key. */
const contentment = Duration.minutes(5)

/** How soon after a failure, first and at most. */
const [minRetry, maxRetry] = [Duration.seconds(5), Duration.seconds(60)]

/** How often a change is published at most. Each view indexes every member. */
const publishInterval = Duration.millis(250)

const refreshInterval = Duration.seconds(30)
const refreshPatience = Duration.seconds(3)

const members = Metric.gauge("gantry_members", { description: "Members of the cluster, as this agent sees them." })
const synced = Metric.gauge("gantry_members_synced", {
  description: "1 if the members are those of the source, 0 while waiting for it or alone."
})
const age = Metric.gauge("gantry_members_age_seconds", {
  description: "How long the source of members has been failing; the members are as old. 0 while it is well."
})

/** An entry of the source, and what became of asking its agent. */
interface Entry {
  readonly listed: Listed.Listed
  self: Roster.Candidate["self"]
  failure: Roster.Candidate["failure"]
  /** Opens when the agent is to be asked at once. */
  readonly nudge: Latch.Latch
}

const isSame = (a: Listed.Listed, b: Listed.Listed): boolean => JSON.stringify(a) === JSON.stringify(b)

const make = Effect.fnUntraced(function* <R>({ self, source, syncTimeout = Duration.seconds(10) }: Options<R>) {
  const context = yield* Effect.context<HttpClient.HttpClient>()
  const clock = yield* Clock.Clock
  const now = () => MonotonicClock.millisUnsafe(clock)
  const own: Roster.Own = { nodeId: self.node_id, peerId: self.peer_id }

  /** This agent, for as long as it knows of nobody else. */
  const alone = Roster.make(
    [{ listed: Listed.at(self.transfer_addr), self: Option.some(self), failure: Option.none() }],
    own,
    Roster.empty
  )
  const view = yield* SubscriptionRef.make(MembersView.make(alone.members))

  let state: Status["state"] = "waiting"
  let roster = alone
  let isAlone = true
  let entries: ReadonlyMap<string, Entry> = new Map()
  /** Who has been asked and has not answered. */
  const asked = new Set<string>()
  let failure = Option.none<string>()
  let lastGood = now()
  let lastRefresh = Number.NEGATIVE_INFINITY

  const ready = yield* Deferred.make<void>()
  const dirty = yield* Latch.make()
  const quiet = yield* Latch.make()
  const permits = yield* Semaphore.make(concurrency)
  const acquaintances = yield* FiberMap.make<string>()

  // What others see

  const become = Effect.fnUntraced(function* (next: "synced" | "alone") {
    if (state === next) return
    state = next
    yield* Metric.update(synced, next === "synced" ? 1 : 0)
    yield* Effect.logInfo(
      next === "synced"
        ? `${source.name}: ${roster.members.length} members`
        : `${source.name}: no members yet; going on alone, and asking on`
    )
  })

  const publish = Effect.gen(function* () {
    const former = roster
    const made = Roster.make([...entries.values()], own, former)
    // Whom nobody has introduced yet is no member; with none at all there is still this agent.
    isAlone = made.members.length === 0
    roster = isAlone ? { ...alone, complaints: made.complaints } : made
    const isComplete = entries.size > 0 && asked.size === 0
    if (state !== "waiting" || isComplete) yield* become(isAlone ? "alone" : "synced")
    yield* Metric.update(members, roster.members.length)
    if (JSON.stringify(roster.members) !== JSON.stringify(former.members)) {
      yield* SubscriptionRef.update(view, (view) => view.update(roster.members))
    }
    if (state !== "waiting") yield* Deferred.succeed(ready, undefined)
  })

  // The listed

  const ask = (address: string) => {
    asked.add(address)
    return Effect.asVoid(quiet.close)
  }

  /** Somebody has answered, or need not any more. The last one is waited for. */
  const settle = Effect.fnUntraced(function* (address: string) {
    if (!asked.delete(address) || asked.size > 0) return
    yield* quiet.open
    yield* publish
  })

  /** Keeps what became of asking an agent. */
  const keep = Effect.fnUntraced(function* (
    entry: Entry,
    answer: Result.Result<SelfDocument.SelfDocument, SelfDocument.SelfError>
  ) {
    const former = JSON.stringify([entry.self, entry.failure])
    entry.failure = Option.map(Result.getFailure(answer), ({ message }) => message)
    entry.self = Option.orElse(Result.getSuccess(answer), () => entry.self)
    if (JSON.stringify([entry.self, entry.failure]) !== former) yield* dirty.open
    yield* settle(entry.listed.transferAddress)
  })

  /** Asks an agent who it is, again and again. */
  const acquaint = Effect.fnUntraced(function* (entry: Entry) {
    const question = permits.withPermit(SelfDocument.ask(entry.listed.transferAddress))
    let failures = 0
    while (true) {
      yield* entry.nudge.close
      const answer = yield* Effect.result(question)
      failures = Result.isSuccess(answer) ? 0 : failures + 1
      yield* keep(entry, answer)
      const backoff = Duration.min(Duration.times(minRetry, 2 ** Math.min(failures - 1, 10)), maxRetry)
      // Give or take a fifth, so that agents that start together do not ask in step.
      const spread = 0.8 + 0.4 * (yield* Random.next)
      const pause = Effect.sleep(Duration.times(failures === 0 ? contentment : backoff, spread))
      yield* Effect.raceFirst(pause, entry.nudge.await)
    }
  }, Effect.provideContext(context))

  /** Takes up what the source says: whom it lists no more is forgotten at once. */
  const adopt = Effect.fnUntraced(function* (listings: ReadonlyArray<Listed.Listed>) {
    const former = entries
    const next = new Map<string, Entry>()
    for (const listed of listings) {
      const address = listed.transferAddress
      if (next.has(address)) continue
      const known = former.get(address)
      if (known !== undefined && isSame(known.listed, listed)) next.set(address, known)
      else next.set(address, { listed, self: Option.none(), failure: Option.none(), nudge: yield* Latch.make() })
    }
    entries = next
    for (const [address, entry] of former) {
      if (next.get(address) === entry) continue
      asked.delete(address)
      yield* FiberMap.remove(acquaintances, address)
    }
    for (const [address, entry] of next) {
      if (former.get(address) === entry || Listed.isComplete(entry.listed)) continue
      yield* ask(address)
      yield* FiberMap.run(acquaintances, address, acquaint(entry))
    }
    if (asked.size === 0) yield* quiet.open
    yield* publish
  })

  // The source

  const accept = (answer: Answer) =>
    Result.match(answer, {
      onFailure: Effect.fnUntraced(function* ({ message }) {
        if (Option.isNone(failure)) yield* Effect.logWarning(message)
        failure = Option.some(message)
      }),
      onSuccess: Effect.fnUntraced(function* (listings) {
        if (Option.isSome(failure)) yield* Effect.logInfo(`${source.name} lists the members again`)
        failure = Option.none()
        lastGood = now()
        yield* adopt(listings)
      })
    })

  const nudge = yield* Latch.make()
  const answered = yield* Latch.make()
  yield* Effect.forkScoped(
    source.follow((answer) => Effect.andThen(accept(answer), answered.open), Effect.andThen(nudge.await, nudge.close))
  )
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      yield* dirty.await
      yield* dirty.close
      yield* publish
      yield* Effect.sleep(publishInterval)
    }).pipe(Effect.forever)
  )
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      yield* Effect.timeoutOption(Deferred.await(ready), syncTimeout)
      if (state === "waiting") yield* become(isAlone ? "alone" : "synced")
      yield* Deferred.succeed(ready, undefined)
    })
  )

  const refresh = Effect.gen(function* () {
    if (now() - lastRefresh < Duration.toMillis(refreshInterval)) return
    lastRefresh = now()
    yield* answered.close
    yield* nudge.open
    for (const [address, entry] of entries) {
      if (Listed.isComplete(entry.listed)) continue
      yield* ask(address)
      yield* entry.nudge.open
    }
    const answers = Effect.andThen(answered.await, quiet.await)
    yield* Effect.timeoutOption(answers, refreshPatience)
    yield* publish
  })

  const ageOf = (): Option.Option<Duration.Duration> => Option.map(failure, () => Duration.millis(now() - lastGood))

  const registration = Metric.registerUnsafe(age, context, {
    get: () => ({ value: Option.match(ageOf(), { onNone: () => 0, onSome: Duration.toSeconds }) }),
    update: () => {},
    modify: () => {}
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => registration.remove()))
  yield* Metric.update(members, roster.members.length)
  yield* Metric.update(synced, 0)

  return Context.make(
    Members.Members,
    Members.Members.of({ self: self.node_id, view: SubscriptionRef.get(view), changes: SubscriptionRef.changes(view) })
  ).pipe(
    Context.add(
      Membership,
      Membership.of({
        ready: Deferred.await(ready),
        status: Effect.sync(() => ({
          source: source.name,
          state,
          failure,
          age: ageOf(),
          complaints: roster.complaints
        })),
        refresh
      })
    )
  )
})

/** Follows a source for as long as the scope is open. Does not wait for it: see `ready`. */
export const layer = <R>(
  options: Options<R>
): Layer.Layer<Membership | Members.Members, never, R | HttpClient.HttpClient> => Layer.effectContext(make(options))
