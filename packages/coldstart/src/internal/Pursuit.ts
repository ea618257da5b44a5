/**
 * One pursuit of one blob: look, decide, take one step, until the bytes are
 * here or there is a verdict (parts, asking for a digest).
 */
import { Members } from "@gantry/coord/Members"
import type { MembersView } from "@gantry/coord/MembersView"
import { Metrics } from "@gantry/coord/Metrics"
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import type { PullReason } from "@gantry/coord/Pump"
import { Transfer, type TransferError } from "@gantry/coord/Transfer"
import type { NodeId } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { BlobRequest, BlobSource } from "../BlobRequest.ts"
import { ColdStartError, Exhausted, OriginFailed, type Reason, StoreFailed } from "../ColdStartError.ts"
import type { Cooldowns } from "./Cooldowns.ts"
import { draw } from "./draw.ts"
import * as PleasePull from "./PleasePull.ts"
import * as PursuitState from "./PursuitState.ts"
import * as Round from "./Round.ts"
import * as Setback from "./Setback.ts"
import { next, type Step } from "./Step.ts"
import { pollOf, type Settings } from "./settings.ts"

/** What a pursuit tells those who wait for it. */
export interface Progress {
  /** What it is doing now, for whoever runs out of time. */
  doing: string
  /** What it waits out, for whoever has not the patience. */
  readonly setback: SubscriptionRef.SubscriptionRef<Option.Option<Setback.Setback>>
}

/** The first pause between tries, in milliseconds; each is twice as long as the one before. */
const firstPause = 250
/** Long enough for a thousand nodes to ask in turn, short enough for the small blobs that most are. */
const longestPause = 2_000

/** The first wait for a cooldown whose end nobody tells, in milliseconds; each is twice as long as the one before. */
const firstCooldown = 1_000
/** The shortest cooldown that nodes have by default. */
const longestCooldown = 10_000

const now: Effect.Effect<PursuitState.Now> = Effect.all({ at: MonotonicClock.millis, wall: Clock.currentTimeMillis })

export const make = Effect.fnUntraced(function* (settings: Settings, cooldowns: Cooldowns) {
  const members = yield* Members
  const metrics = yield* Metrics
  const transfer = yield* Transfer
  const round = yield* Round.make(settings)
  const pleasePull = yield* PleasePull.make(settings)
  const { self } = members

  return (request: BlobRequest, progress: Progress): Effect.Effect<BlobSource, ColdStartError> => {
    const { kind, ref, size } = request
    const { digest } = ref
    const poll = pollOf(settings, kind)
    let state = PursuitState.initial(self, request)

    const say = (rule: string, doing: string) =>
      Effect.suspend(() => {
        progress.doing = doing
        return Effect.annotateLogs(Effect.logDebug(doing), { digest, rule })
      })

    const fail = (reason: Reason) => Effect.fail(new ColdStartError({ ref, kind, reason }))

    /** How long the next pause is; each is longer than the one before. */
    const nextPause = (first: number, longest: number) => {
      const millis = Math.min(first * 2 ** state.pauses, longest)
      state = PursuitState.pause(state)
      return millis
    }

    /** Waits a little, and not in step with the others. */
    const pause = Effect.suspend(() => {
      const base = nextPause(firstPause, longestPause)
      return Effect.flatMap(Random.nextBetween(base / 2, base * 1.5), Effect.sleep)
    })

    /** Waits until all is to be looked at again, and a little longer, not in step with the others. */
    const waitOut = Effect.fnUntraced(function* (setback: Setback.Setback) {
      yield* SubscriptionRef.set(progress.setback, Option.some(setback))
      const { at } = yield* now
      const left = Math.max(setback.retryAt - at, 0)
      yield* Effect.sleep(left + (yield* Random.nextBetween(0, Math.min(left, longestPause))))
      yield* SubscriptionRef.set(progress.setback, Option.none())
    })

    // 1. Who counts, and what they say.

    /** The candidates are the members of our own zone, or all members (protocol, section 8). */
    const ranksIn = (view: MembersView) => {
      const zone =
        settings.scope === "zone" ? Option.flatMap(view.byNodeId(self), (member) => member.zone) : Option.none()
      const candidates = view.inZone(zone)
      const ranks = view.best(digest, state.isWide ? 2 * settings.ranks : settings.ranks, zone)
      return { candidates, ranks, canWiden: !state.isWide && candidates.length > ranks.length }
    }

    const compareRanks = Effect.fnUntraced(function* (view: MembersView, answers: Round.Answers) {
      const differs = (node: NodeId, ours: number) =>
        Option.exists(answers.get(node) ?? Option.none(), ({ hrwRank }) => hrwRank !== ours)
      const mismatched = [...answers.keys()].filter(
        (node) => node !== self && !state.mismatched.has(node) && differs(node, view.rankOf(node, digest))
      )
      if (mismatched.length === 0) return
      state = PursuitState.mismatch(state, mismatched)
      yield* Effect.logDebug(`${mismatched.join(", ")} rank themselves differently for ${digest}`)
      yield* Effect.forEach(mismatched, () => metrics.hrwRankMismatch(kind), { discard: true })
    })

    const look = Effect.gen(function* () {
      const view = yield* members.view
      const { candidates, canWiden, ranks } = ranksIn(view)
      const isMember = (node: NodeId) => Option.isSome(view.byNodeId(node))
      const watched = new Set([...ranks, self, ...PursuitState.pullers(state).filter(isMember)])
      // While holders are busy, others may have received it from them. They count as holders only.
      const others = state.areHoldersBusy ? yield* draw(candidates, settings.randomPeers, watched) : []
      const before = yield* now
      const answers = yield* round([...watched, ...others], digest, (node, intent) =>
        PursuitState.isDecisive(state, node, intent, watched, before)
      )
      yield* compareRanks(view, answers)
      const after = yield* now
      state = PursuitState.observe(state, answers, watched, after)
      const step = next({ state, now: after, ranks, limit: settings.ranks, canWiden, answers })
      return { view, ranks, step }
    })

    // 2. Fetch from who has it.

    const fetch = Effect.fnUntraced(function* (view: MembersView, names: ReadonlyArray<NodeId>) {
      // Random among equals: a holder that everybody tries first is busy for everybody.
      const holders = yield* Random.shuffle(names.flatMap((node) => Option.toArray(view.byNodeId(node))))
      yield* say("fetch", `fetching from ${names.join(", ")}`)
      return yield* transfer.fetch({ digest, kind, size, holders }).pipe(
        Effect.map(({ bytes, holder }) => Option.some<BlobSource>({ _tag: "Peer", holder, bytes })),
        Effect.catch((error) => Effect.as(notDelivered(names, error), Option.none()))
      )
    })

    const notDelivered = Effect.fnUntraced(function* (holders: ReadonlyArray<NodeId>, error: TransferError) {
      // What the store does not take from a peer it would not take from the origin either.
      if (error.reason._tag === "StoreFailed")
        return yield* fail(new StoreFailed({ cause: error.reason.cause ?? error }))
      yield* say("fetch", error.message)
      state = PursuitState.penalize(state, holders, error.reason.attempts)
      yield* pause
    })

    // 3. Wait for who is pulling it.

    const wait = Effect.fnUntraced(function* (pullers: ReadonlyArray<NodeId>) {
      yield* say("wait", `waiting for the pull of ${pullers.join(", ")}`)
      yield* Effect.sleep(poll)
    })

    const hedge = Effect.fnUntraced(function* (
      view: MembersView,
      { puller, pullers }: Extract<Step, { _tag: "Hedge" }>
    ) {
      const line = `asking ${puller} to pull too, for ${pullers.join(", ")} took long over the ${kind} ${digest}`
      yield* Effect.annotateLogs(Effect.logInfo(line), { digest, rule: "hedge" })
      yield* ask(view, puller, "hedge")
    })

    // 4. Look further.

    const widen = Effect.suspend(() => {
      state = PursuitState.widen(state)
      return say("widen", `asking the best ${2 * settings.ranks}, for the best ${settings.ranks} do not do`)
    })

    // 5. Ask the best one left to pull it.

    const askBest = Effect.fnUntraced(function* (view: MembersView, ranks: ReadonlyArray<NodeId>, puller: NodeId) {
      const better = ranks.slice(0, ranks.indexOf(puller))
      const rule = better.length === 0 ? "designated" : "takeover"
      if (rule === "takeover" && PursuitState.peerOf(state, puller).asks === 0) {
        const passed = better.map((node) => `${node} (${whyNot(node)})`).join(", ")
        yield* Effect.logWarning(`${puller} takes over the pull of ${digest} from ${passed}`)
      }
      yield* ask(view, puller, rule)
    })

    const whyNot = (node: NodeId) => PursuitState.peerOf(state, node).exclusion ?? "unreachable"

    const ask = Effect.fnUntraced(function* (view: MembersView, puller: NodeId, rule: PullReason["rule"]) {
      yield* say(rule, `asking ${puller} to pull`)
      yield* heed(puller, yield* callPleasePull(view, puller, rule))
    })

    const callPleasePull = (view: MembersView, puller: NodeId, rule: PullReason["rule"]) =>
      pleasePull(puller, request, { rule, requester: self, rank: view.rankOf(self, digest) })

    const heed = Effect.fnUntraced(function* (puller: NodeId, reply: PleasePull.Reply) {
      state = PursuitState.applyReply(state, puller, reply, yield* now)
      switch (reply._tag) {
        case "Started":
        case "AlreadyPulling":
          return yield* wait([puller])
        case "RecentlyFailed":
          return yield* say("failed", `the pull of ${puller} failed (${reply.failureClass})`)
        case "Unspecified":
          return yield* say("declined", `${puller} does not pull`)
        case "OutOfReach":
          return yield* say("unreachable", `${puller} cannot be asked`)
        case "NoAnswer":
          return yield* say("silent", `${puller} did not answer; looking whether it pulls nevertheless`)
      }
    })

    const conclude = Effect.fnUntraced(function* (verdict: PursuitState.Statement) {
      const { failureClass } = verdict
      const { statements } = state
      if (PursuitState.isFinal(failureClass)) {
        const witnesses = statements.map(({ failureClass, node }) => ({ node, failureClass }))
        return yield* fail(new OriginFailed({ failureClass, witnesses }))
      }
      const { at } = yield* now
      const retryAt = PursuitState.earliestRetry(statements, verdict)
      const otherwise = at + nextPause(firstCooldown, longestCooldown)
      const setback = Setback.coolingDown(request, statements, verdict, retryAt, otherwise)
      if (Option.isSome(retryAt)) yield* cooldowns.remember(ref, setback)
      yield* say("cooldown", `waiting out a cooldown, for the pull of ${verdict.node} failed (${failureClass})`)
      yield* waitOut(setback)
      state = PursuitState.startOver(state)
    })

    // 6. Pull it ourselves, after a while and another look.

    const holdBack = Effect.fnUntraced(function* (memberCount: number) {
      state = PursuitState.holdBack(state)
      const longest = Duration.toMillis(settings.fallbackDelay) * Math.log(Math.max(memberCount, 1))
      const delay = Duration.millis(yield* Random.nextBetween(0, longest))
      yield* say("fallback", `nobody is left to ask; looking once more in ${Duration.format(delay)}`)
      yield* Effect.sleep(delay)
    })

    const pullOurselves = Effect.fnUntraced(function* (view: MembersView, ranks: ReadonlyArray<NodeId>) {
      yield* say("fallback", "pulling directly from the origin")
      const reply = yield* callPleasePull(view, self, "fallback")
      if (reply._tag === "Unspecified" || reply._tag === "NoAnswer") return yield* tryAgain(ranks)
      state = PursuitState.pullOurselves(state)
      yield* heed(self, reply)
    })

    /** A pump that declines is full for the moment, as those of the others may have been. */
    const tryAgain = Effect.fnUntraced(function* (ranks: ReadonlyArray<NodeId>) {
      const others = ranks.filter((node) => node !== self).map((node) => ({ node, why: whyNot(node) }))
      const { at } = yield* now
      const retryAt = at + nextPause(firstPause, longestPause)
      yield* say("fallback", "our own pump declines; trying everyone again")
      yield* waitOut(Setback.declined(request, [...others, { node: self, why: "declined" }], retryAt))
      state = PursuitState.tryAgain(state)
    })

    /** Takes one step. Gives where the bytes came from, once they are here. */
    const advance = Effect.gen(function* () {
      const { ranks, step, view } = yield* look
      switch (step._tag) {
        case "Have":
          return Option.some<BlobSource>({ _tag: state.hasPulled ? "Origin" : "Local" })
        case "Fetch":
          return yield* fetch(view, step.holders)
        case "Wait":
          yield* wait(step.pullers)
          break
        case "Hedge":
          yield* hedge(view, step)
          break
        case "Widen":
          yield* widen
          break
        case "Ask":
          yield* askBest(view, ranks, step.puller)
          break
        case "Conclude":
          yield* conclude(step.verdict)
          break
        case "HoldBack":
          yield* holdBack(view.members.length)
          break
        case "PullOurselves":
          yield* pullOurselves(view, ranks)
          break
        case "GiveUp":
          return yield* fail(new Exhausted({ pulls: state.ownPulls }))
      }
      return Option.none<BlobSource>()
    })

    return Effect.gen(function* () {
      yield* say("look", `asking the best ${settings.ranks}`)
      while (true) {
        const source = yield* advance
        if (Option.isSome(source)) return source.value
      }
    })
  }
})
