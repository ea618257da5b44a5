/**
 * One pursuit of one digest: look, decide, take one step, until the bytes are
 * here or there is a verdict (parts, asking for a digest).
 */

import { CoordClient, type CoordClientError } from "@gantry/coord/CoordClient"
import { CoordServer } from "@gantry/coord/CoordServer"
import { Members } from "@gantry/coord/Members"
import type { MembersView } from "@gantry/coord/MembersView"
import { Metrics } from "@gantry/coord/Metrics"
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import { PullReason } from "@gantry/coord/Pump"
import { Transfer, type TransferError } from "@gantry/coord/Transfer"
import {
  isTrustedFailure,
  type NodeId,
  type PleasePullOutcome,
  PleasePullRequest,
  type PullIntent,
  type RecentlyFailed,
  Unspecified,
  type Verdict
} from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { Obtained, Wanted } from "../ColdStart.ts"
import { ColdStartError } from "../ColdStartError.ts"
import type { Cooldowns } from "./Cooldowns.ts"
import * as Note from "./Note.ts"
import * as Round from "./Round.ts"
import { next } from "./Step.ts"
import { pollOf, type Settings } from "./settings.ts"
import * as Watch from "./Watch.ts"

/** What a pursuit is doing now, for whoever loses patience. */
export interface Journal {
  doing: string
}

/** How many of our own pulls of a digest that may end without the bytes before we give up. */
const maxOwnPulls = 2

/** The first pause between tries, in milliseconds; each is twice as long as the one before. */
const firstPause = 250
/** Long enough for a thousand nodes to ask in turn, short enough for the small blobs that most are. */
const longestPause = 2_000

/** What came of asking a node to pull: its verdict, or how it failed to give one. */
type Reply = Verdict | { readonly _tag: "NoAnswer" } | { readonly _tag: "OutOfReach" }
const noAnswer: Reply = { _tag: "NoAnswer" }
const outOfReach: Reply = { _tag: "OutOfReach" }

/** The call never reached the peer, so nothing runs there on its account. */
const isOutOfReach = (error: CoordClientError): boolean =>
  error.reason === "CannotResolve" ||
  error.reason === "Unreachable" ||
  error.reason === "UnsupportedProtocol" ||
  (error.reason === "TimedOut" && error.phase === "dial")

/** So many of the nodes at random; a shuffle would move all of ten thousand. */
const draw = Effect.fnUntraced(function* (nodes: ReadonlyArray<NodeId>, count: number) {
  const left = [...nodes]
  const drawn: Array<NodeId> = []
  while (drawn.length < count && left.length > 0) {
    const at = yield* Random.nextIntBetween(0, left.length, { halfOpen: true })
    drawn.push(...left.splice(at, 1))
  }
  return drawn
})

export const make = Effect.fnUntraced(function* (settings: Settings, cooldowns: Cooldowns) {
  const client = yield* CoordClient
  const server = yield* CoordServer
  const members = yield* Members
  const metrics = yield* Metrics
  const transfer = yield* Transfer
  const round = yield* Round.make(settings)
  const { self } = members

  return (wanted: Wanted, journal: Journal): Effect.Effect<Obtained, ColdStartError> => {
    const { kind, ref, size } = wanted
    const { digest, registry, repository } = ref
    const request = new PleasePullRequest({ registry, repository, kind, digests: [digest] })
    const threshold = Watch.stallThreshold(kind, size)
    const poll = pollOf(settings, kind)

    const notes = new Map<NodeId, Note.Note>()
    const noteOf = (node: NodeId) => notes.get(node) ?? Note.blank
    const mismatched = new Set<NodeId>()
    let wide = false
    let holdersBusy = false
    let pauses = 0
    let delayed = false
    let ownPulls = 0

    const say = (rule: string, doing: string) =>
      Effect.suspend(() => {
        journal.doing = doing
        return Effect.annotateLogs(Effect.logDebug(doing), { digest, rule })
      })

    const fail = (
      reason: ColdStartError["reason"],
      detail: string,
      failureClass: ColdStartError["failureClass"] = "unspecified"
    ) => Effect.fail(new ColdStartError({ reason, ref, kind, failureClass, detail }))

    /** Waits a little, longer each time, and not in step with the others. */
    const pause = Effect.suspend(() => {
      const base = Math.min(firstPause * 2 ** pauses, longestPause)
      pauses++
      return Effect.flatMap(Random.nextBetween(base / 2, base * 1.5), Effect.sleep)
    })

    // 1. Who counts, and what they say.

    /** The candidates are the members of our own zone, or all members (protocol, section 8). */
    const ranksIn = (view: MembersView) => {
      const zone = Option.flatMap(view.byNodeId(self), (member) => member.zone)
      const candidates = view.inZone(zone)
      const ranks = view.best(digest, wide ? 2 * settings.ranks : settings.ranks, zone)
      return { candidates, ranks, canWiden: !wide && candidates.length > ranks.length }
    }

    /** Whoever was pulling is asked on, though better ranks may have joined the cluster meanwhile. */
    const pullersIn = (view: MembersView) =>
      [...notes].flatMap(([node, note]) => (note.watch?.running && Option.isSome(view.byNodeId(node)) ? [node] : []))

    /**
     * While the holders among the ranks are busy, some random candidates may have
     * received it from them. They count as holders only.
     */
    const straysIn = (candidates: ReadonlyArray<NodeId>, asked: ReadonlySet<NodeId>) =>
      holdersBusy
        ? draw(
            candidates.filter((node) => !asked.has(node)),
            settings.strays
          )
        : Effect.succeed([])

    const compareRanks = Effect.fnUntraced(function* (view: MembersView, answers: Round.Answers) {
      for (const [node, answer] of answers) {
        const ours = view.rankOf(node, digest)
        if (node === self || mismatched.has(node) || !Option.exists(answer, ({ hrwRank }) => hrwRank !== ours)) continue
        mismatched.add(node)
        yield* Effect.logDebug(`node ${node} does not take itself for rank ${ours} of ${digest}`)
        yield* metrics.hrwRankMismatch(kind)
      }
    })

    const look = Effect.gen(function* () {
      const view = yield* members.view
      const at = yield* MonotonicClock.millis
      const { candidates, canWiden, ranks } = ranksIn(view)
      const watched = new Set([...ranks, self, ...pullersIn(view)])
      const strays = yield* straysIn(candidates, watched)
      const hear = (node: NodeId, answer: Option.Option<PullIntent>) => Note.hear(noteOf(node), answer, at, threshold)
      const answers = yield* round(
        [...watched, ...strays],
        digest,
        (node, intent) =>
          (intent.hasCached && Note.isCredible(noteOf(node))) ||
          (watched.has(node) && Note.judge(hear(node, Option.some(intent)), at, threshold) === "running")
      )
      yield* compareRanks(view, answers)
      for (const [node, answer] of answers) {
        if (watched.has(node)) notes.set(node, hear(node, answer))
      }
      // Our own pull is the last resort: there is nobody to turn to, and the pump gives up what does not progress.
      const isPulling = (node: NodeId) =>
        node === self && ownPulls > 0
          ? noteOf(node).watch?.running === true
          : Note.judge(noteOf(node), at, threshold) === "running"
      return { view, ranks, step: next({ self, ranks, canWiden, answers, noteOf, isPulling }) }
    })

    // 2. Fetch from who has it.

    const fetch = Effect.fnUntraced(function* (view: MembersView, names: ReadonlyArray<NodeId>) {
      // Random among equals: a holder that everybody tries first is busy for everybody.
      const holders = yield* Random.shuffle(names.flatMap((node) => Option.toArray(view.byNodeId(node))))
      yield* say("fetch", `fetching from ${names.join(", ")}`)
      return yield* transfer.fetch({ digest, kind, size, holders }).pipe(
        Effect.map(({ bytes, holder }) => Option.some<Obtained>({ _tag: "Peer", holder, bytes })),
        Effect.catch((error) => Effect.as(notDelivered(names, error), Option.none()))
      )
    })

    const notDelivered = Effect.fnUntraced(function* (holders: ReadonlyArray<NodeId>, error: TransferError) {
      if (error.reason._tag === "StoreFailed") return yield* fail("Exhausted", error.message)
      const { attempts } = error.reason
      yield* say("fetch", error.message)
      const at = yield* MonotonicClock.millis
      for (const holder of holders) {
        const problem = attempts.find((attempt) => attempt.holder === holder)?._tag ?? "Unreachable"
        notes.set(holder, Note.blame(noteOf(holder), problem, at, threshold))
        if (problem === "Busy") holdersBusy = true
      }
      yield* pause
    })

    // 3. Wait for who is pulling it.

    const wait = Effect.fnUntraced(function* (pullers: ReadonlyArray<NodeId>) {
      yield* say("wait", `waiting for the pull of ${pullers.join(", ")}`)
      yield* Effect.sleep(poll)
    })

    // 4. Look further.

    const widen = Effect.suspend(() => {
      wide = true
      return say("widen", `nobody of the best ${settings.ranks} can be reached`)
    })

    // 5. Ask the best one left to pull it.

    const ask = Effect.fnUntraced(function* (view: MembersView, ranks: ReadonlyArray<NodeId>, puller: NodeId) {
      const better = ranks.slice(0, ranks.indexOf(puller))
      const rule = better.length === 0 ? "designated" : "takeover"
      yield* say(rule, `asking ${puller} to pull`)
      if (rule === "takeover" && noteOf(puller).asks === 0) yield* warnOfTakeover(puller, better)
      yield* heed(puller, yield* pleasePull(view, puller, rule))
    })

    const warnOfTakeover = (puller: NodeId, better: ReadonlyArray<NodeId>) => {
      const passed = better.map((node) => `${node} (${noteOf(node).passedOver ?? "unreachable"})`)
      return Effect.logWarning(`${puller} takes over the pull of ${digest} from ${passed.join(", ")}`)
    }

    /**
     * The reply may be lost while the pull runs: the same node is asked twice
     * before anyone else is thought of, and one that is out of reach by then may
     * be pulling still.
     */
    const pleasePull = Effect.fnUntraced(function* (view: MembersView, puller: NodeId, rule: PullReason["rule"]) {
      const call = callPull(view, puller, rule)
      const first = yield* call
      if (first._tag !== "NoAnswer") return first
      const second = yield* call
      return second._tag === "OutOfReach" ? first : second
    })

    const callPull = (view: MembersView, puller: NodeId, rule: PullReason["rule"]): Effect.Effect<Reply> =>
      (puller === self ? startLocalPull(view, rule) : callPleasePull(puller)).pipe(
        Effect.map(verdictOf),
        Effect.timeoutOrElse({ duration: settings.pleasePullTimeout, orElse: () => Effect.succeed(noAnswer) }),
        Effect.tapError((error) => Effect.logDebug(error.message)),
        Effect.catch((error) => Effect.succeed(isOutOfReach(error) ? outOfReach : noAnswer))
      )

    const callPleasePull = (puller: NodeId) =>
      Effect.retry(client.pleasePull(puller, request), {
        while: (error) => error.reason === "Reset",
        schedule: Round.resetBackoff
      })

    const startLocalPull = (view: MembersView, rule: PullReason["rule"]) =>
      server.startLocalPull(request, new PullReason({ rule, requester: self, rank: view.rankOf(self, digest) }))

    const verdictOf = (outcomes: ReadonlyArray<PleasePullOutcome>): Reply =>
      outcomes.find((outcome) => outcome.digest === digest)?.verdict ?? new Unspecified()

    const heed = Effect.fnUntraced(function* (puller: NodeId, reply: Reply) {
      const note = noteOf(puller)
      switch (reply._tag) {
        case "Started":
        case "AlreadyPulling":
          notes.set(puller, Note.tookOn(note, reply.startedAt, yield* MonotonicClock.millis))
          return yield* wait([puller])
        case "RecentlyFailed":
          return yield* giveUp(puller, reply)
        case "Unspecified":
          notes.set(puller, Note.passOver(note, "declined"))
          return yield* say("declined", `${puller} does not pull`)
        case "OutOfReach":
          notes.set(puller, Note.passOver(note, "unreachable"))
          return yield* say("unreachable", `${puller} cannot be asked`)
        case "NoAnswer":
          notes.set(puller, Note.unanswered(note, yield* MonotonicClock.millis))
          return yield* say("silent", `${puller} did not answer; looking whether it pulls nevertheless`)
      }
    })

    const giveUp = Effect.fnUntraced(function* (puller: NodeId, { cooldownUntil, failureClass }: RecentlyFailed) {
      const detail = `the pull of ${puller} failed`
      if (isTrustedFailure(failureClass)) return yield* fail("OriginFailed", detail, failureClass)
      const error = new ColdStartError({ reason: "CoolingDown", ref, kind, failureClass, detail })
      yield* cooldowns.remember(error, cooldownUntil)
      return yield* error
    })

    // 6. Pull it ourselves, after a while and another look.

    const fallback = Effect.fnUntraced(function* (view: MembersView) {
      if (!delayed) {
        delayed = true
        return yield* holdBack(view.members.length)
      }
      if (ownPulls >= maxOwnPulls) return yield* fail("Exhausted", "our own pulls ended without the bytes")
      yield* say("fallback", "pulling directly from the origin")
      const reply = yield* pleasePull(view, self, "fallback")
      if (reply._tag === "Unspecified" || reply._tag === "NoAnswer") return yield* startOver
      ownPulls++
      yield* heed(self, reply)
    })

    const holdBack = Effect.fnUntraced(function* (memberCount: number) {
      const longest = Duration.toMillis(settings.fallbackDelay) * Math.log(Math.max(memberCount, 1))
      const delay = Duration.millis(yield* Random.nextBetween(0, longest))
      yield* say("fallback", `nobody is left to ask; looking once more in ${Duration.format(delay)}`)
      yield* Effect.sleep(delay)
    })

    /** A pump that declines is full for the moment, as those of the others may have been. */
    const startOver = Effect.suspend(() => {
      for (const [node, note] of notes) notes.set(node, Note.forgive(note))
      return Effect.andThen(say("fallback", "our own pump declines; trying everyone again"), pause)
    })

    return Effect.gen(function* () {
      yield* say("look", `asking the best ${settings.ranks}`)
      while (true) {
        const { ranks, step, view } = yield* look
        switch (step._tag) {
          case "Have":
            return { _tag: noteOf(self).watch === undefined ? "Local" : "Origin" }
          case "Fetch": {
            const fetched = yield* fetch(view, step.holders)
            if (Option.isSome(fetched)) return fetched.value
            break
          }
          case "Wait":
            yield* wait(step.pullers)
            break
          case "Widen":
            yield* widen
            break
          case "Ask":
            yield* ask(view, ranks, step.puller)
            break
          case "Fallback":
            yield* fallback(view)
            break
        }
      }
    })
  }
})
