/**
 * A scripted cluster around one requester: every peer does what the test says,
 * and everything asked of it is on record.
 */
import { CoordClient, CoordClientError } from "@gantry/coord/CoordClient"
import { CoordServer } from "@gantry/coord/CoordServer"
import * as Members from "@gantry/coord/Members"
import type { PullReason } from "@gantry/coord/Pump"
import { Store } from "@gantry/coord/Store"
import {
  NoHolder,
  Transfer,
  type TransferAttempt,
  TransferError,
  type TransferReport,
  type TransferRequest
} from "@gantry/coord/Transfer"
import {
  type ContentKind,
  type Digest,
  type FailureClass,
  Member,
  type NodeId,
  OriginRef,
  PleasePullOutcome,
  type PleasePullRequest,
  PullIntent,
  type PullProgress,
  Rendezvous,
  Started,
  type Timestamp,
  timestampFromMillis,
  type Verdict
} from "@gantry/protocol"
import { digestOf, memberOf, registry, repository } from "@gantry/testkit/Fixtures"
import * as RecordingMetrics from "@gantry/testkit/RecordingMetrics"
import { attemptOf } from "@gantry/testkit/TestTransfer"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as ColdStart from "../src/ColdStart.ts"

export const digest = digestOf("wanted")
export const ref = new OriginRef({ registry, repository, digest })

export const wanted = (kind: ContentKind = "layer", size?: number): ColdStart.BlobRequest => ({
  ref,
  kind,
  size: Option.fromUndefinedOr(size)
})

type Reason = CoordClientError["reason"]

/** How a call fails. `silence`: no answer comes, and the client loses patience. `hang`: it does not even do that. */
export type Failure =
  | Reason
  | "silence"
  | "hang"
  | { readonly reason: Reason; readonly phase: CoordClientError["phase"] }

/** What a peer is, and what it does about the digest; a test changes it as it likes. */
export interface Peer {
  readonly nodeId: NodeId
  cached: boolean
  /** When its pull began, by its own clock. */
  pulling: Timestamp | undefined
  /** How far it says that it is; nothing, as Go does. */
  told: PullProgress | undefined
  failed: FailureClass | undefined
  /** The rank that it takes itself for. */
  rank: number
  /** How calls to it fail. */
  down: Failure | undefined
  /** So many queries are not answered before it does. */
  muffled: number
  /** Answers to please_pull, one each, the last one for all that follow; without any it starts a pull. */
  answers: Array<Verdict | Failure | "lost">
  /** What Transfer finds there; without it, it delivers what it has. */
  holds: TransferAttempt["_tag"] | TransferAttempt | undefined
}

/** Something that the requester did. */
export type Deed =
  | { readonly did: "query" | "please_pull"; readonly rank: number; readonly at: number }
  | { readonly did: "pull"; readonly reason: PullReason; readonly at: number }
  | { readonly did: "fetch"; readonly from: ReadonlyArray<number>; readonly at: number }

export interface WorldOptions {
  /** How many members there are; 12. */
  readonly members?: number
  /** The rank of the requester; the last. */
  readonly selfRank?: number
  /** The zones of the ranks; none. */
  readonly zoneOf?: (rank: number) => string | undefined
  readonly settings?: ColdStart.Options
}

/** Where calls fail for a reason that does not come from the peer's reply. */
const phases: { readonly [Key in Reason]?: CoordClientError["phase"] } = {
  CannotResolve: "resolve",
  Unreachable: "dial",
  UnsupportedProtocol: "dial"
}

const membersFor = (count: number): ReadonlyArray<Member> => {
  const members = Array.from({ length: count }, (_, index) => memberOf(index))
  const order = Rendezvous.rank(
    members.map((member) => member.nodeId),
    digest
  )
  return order.map((nodeId) => members.find((member) => member.nodeId === nodeId) as Member)
}

/** A requester in its cluster. */
export const make = Effect.fnUntraced(function* (options: WorldOptions = {}) {
  const zoned = membersFor(options.members ?? 12).map((member, rank) => {
    const zone = options.zoneOf?.(rank)
    return zone === undefined ? member : new Member({ ...member, zone: Option.some(zone) })
  })
  const selfRank = options.selfRank ?? Math.max(zoned.length - 1, 0)
  const self = zoned[selfRank]?.nodeId ?? memberOf(0).nodeId
  const membership = yield* Members.make(self, zoned)

  const peers = zoned.map(
    (member, rank): Peer => ({
      nodeId: member.nodeId,
      cached: false,
      pulling: undefined,
      told: undefined,
      failed: undefined,
      rank,
      down: undefined,
      muffled: 0,
      answers: [],
      holds: undefined
    })
  )
  /** Without a membership there is still ourselves. */
  const outside: Peer = {
    nodeId: self,
    cached: false,
    pulling: undefined,
    told: undefined,
    failed: undefined,
    rank: -1,
    down: undefined,
    muffled: 0,
    answers: [],
    holds: undefined
  }
  const peerOf = (nodeId: NodeId): Peer => peers.find((peer) => peer.nodeId === nodeId) ?? outside
  const rankOf = (nodeId: NodeId) => peers.findIndex((peer) => peer.nodeId === nodeId)
  const me = peerOf(self)
  const deeds: Array<Deed> = []
  const logs: Array<{ readonly level: string; readonly text: string }> = []
  let transfers = 0

  const note = (deed: (at: number) => Deed) =>
    Effect.map(Clock.currentTimeMillis, (at) => {
      deeds.push(deed(at))
    })

  const failing = (target: NodeId, failure: Failure): Effect.Effect<never, CoordClientError> => {
    if (failure === "hang") return Effect.never
    if (failure === "silence") return Effect.delay(failing(target, "TimedOut"), "2 seconds")
    if (typeof failure === "object") return Effect.fail(new CoordClientError({ ...failure, target }))
    return Effect.fail(new CoordClientError({ reason: failure, target, phase: phases[failure] ?? "reply" }))
  }

  const intentOf = (peer: Peer) =>
    new PullIntent({
      hasCached: peer.cached,
      inFlight: peer.pulling !== undefined,
      startedAt: Option.fromUndefinedOr(peer.pulling),
      progress: peer.pulling === undefined ? Option.none() : Option.fromUndefinedOr(peer.told),
      hrwRank: peer.rank,
      recentlyFailed: peer.failed !== undefined,
      cooldownUntil: peer.failed === undefined ? Option.none() : Option.some(timestampFromMillis(3_600_000)),
      failureClass: peer.failed ?? "unspecified"
    })

  const begin = (peer: Peer) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      peer.pulling ??= timestampFromMillis(now)
      return new Started({ startedAt: Option.some(peer.pulling) })
    })

  /** `lost`: the pull begins, and the reply never arrives. */
  const answerOf = Effect.fnUntraced(function* (peer: Peer) {
    const answer = peer.answers.length > 1 ? peer.answers.shift() : peer.answers[0]
    if (answer === undefined) return yield* begin(peer)
    if (answer === "lost") return yield* Effect.andThen(begin(peer), failing(peer.nodeId, "silence"))
    if (typeof answer === "string" || "reason" in answer) return yield* failing(peer.nodeId, answer)
    if (answer._tag === "Started" || answer._tag === "AlreadyPulling") {
      peer.pulling = Option.getOrUndefined(answer.startedAt)
    }
    return answer
  })

  const outcomes = (request: PleasePullRequest, verdict: Verdict) =>
    request.digests.map((digest) => new PleasePullOutcome({ digest, verdict }))

  const client = Layer.mock(CoordClient, {
    pullIntentQuery: Effect.fnUntraced(function* (target: NodeId) {
      yield* note((at) => ({ did: "query", rank: rankOf(target), at }))
      const peer = peerOf(target)
      if (peer.down !== undefined) return yield* failing(target, peer.down)
      if (peer.muffled-- > 0) return yield* Effect.never
      return intentOf(peer)
    }),
    pleasePull: Effect.fnUntraced(function* (target: NodeId, request: PleasePullRequest) {
      yield* note((at) => ({ did: "please_pull", rank: rankOf(target), at }))
      const peer = peerOf(target)
      if (peer.down !== undefined) return yield* failing(target, peer.down)
      return outcomes(request, yield* answerOf(peer))
    })
  })

  const server = Layer.succeed(CoordServer, {
    localPullIntent: () => Effect.sync(() => intentOf(me)),
    startLocalPull: Effect.fnUntraced(function* (request, reason) {
      yield* note((at) => ({ did: "pull", reason, at }))
      return outcomes(request, yield* Effect.orDie(answerOf(me)))
    })
  })

  const deliver = Effect.fnUntraced(function* (request: TransferRequest) {
    yield* note((at) => ({ did: "fetch", from: request.holders.map((holder) => rankOf(holder.nodeId)), at }))
    transfers++
    const attempts: Array<TransferAttempt> = []
    for (const { nodeId } of request.holders) {
      const problem = peerOf(nodeId).holds ?? (peerOf(nodeId).cached ? undefined : "Absent")
      if (problem === undefined) {
        me.cached = true
        return { holder: nodeId, bytes: 7 } satisfies TransferReport
      }
      attempts.push(typeof problem === "string" ? attemptOf(problem, nodeId) : problem)
    }
    return yield* new TransferError({ digest: request.digest, reason: new NoHolder({ attempts }) })
  })
  let fetch: Transfer["Service"]["fetch"] = deliver

  const logger = Logger.make(({ logLevel, message }) => {
    logs.push({ level: logLevel, text: [message].flat().join(" ") })
  })
  const metrics = yield* Layer.build(Layer.fresh(RecordingMetrics.layer))
  const context = yield* Layer.build(
    ColdStart.layer(options.settings).pipe(
      Layer.provide([
        client,
        server,
        Layer.succeed(Store, { has: (_: Digest) => Effect.sync(() => me.cached) }),
        Layer.succeed(Transfer, { fetch: (request) => fetch(request) }),
        Layer.succeedContext(membership),
        Layer.succeedContext(metrics)
      ]),
      Layer.fresh
    )
  )
  const coldStart = Context.get(context, ColdStart.ColdStart)
  const quietly = <A, E>(effect: Effect.Effect<A, E>) =>
    effect.pipe(Effect.provide(Logger.layer([logger])), Effect.provideService(References.MinimumLogLevel, "Debug"))

  return {
    self,
    selfRank,
    me,
    /** The peer of a rank. */
    rank: (rank: number): Peer => peers[rank] ?? outside,
    peers,
    obtain: (what: ColdStart.BlobRequest = wanted(), options?: ColdStart.ObtainOptions) =>
      quietly(coldStart.obtain(what, options)),
    /** Ranks asked to pull so far, in order; the requester's own pulls included. */
    asked: () =>
      deeds.flatMap((deed) => (deed.did === "please_pull" ? [deed.rank] : deed.did === "pull" ? [selfRank] : [])),
    pulls: () => deeds.flatMap((deed) => (deed.did === "pull" ? [deed.reason] : [])),
    fetches: () => deeds.flatMap((deed) => (deed.did === "fetch" ? [deed.from] : [])),
    /** When a rank was queried. */
    queriesOf: (rank: number) => deeds.flatMap((deed) => (deed.did === "query" && deed.rank === rank ? [deed.at] : [])),
    queried: () =>
      [...new Set(deeds.flatMap((deed) => (deed.did === "query" ? [deed.rank] : [])))].sort((a, b) => a - b),
    deeds,
    logs,
    transfers: () => transfers,
    setFetch: (next: Transfer["Service"]["fetch"]) => {
      fetch = next
    },
    deliver,
    setMembers: (members: ReadonlyArray<Member>) => Context.get(membership, Members.Membership).set(members),
    members: zoned,
    counts: Context.get(metrics, RecordingMetrics.RecordingMetrics).counts
  }
})

/** A pull ends well: the peer has it. */
export const finish = (peer: Peer): void => {
  peer.pulling = undefined
  peer.cached = true
}

/** A pull begins by the peer's own clock, which need not be ours. */
export const pull = (peer: Peer, startedAtMillis = 0): void => {
  peer.pulling = timestampFromMillis(startedAtMillis)
}

/** The peer tells how far its pull is; `total` where it knows. */
export const tell = (peer: Peer, receivedBytes: number, total?: number): void => {
  peer.told = { receivedBytes, totalBytes: Option.fromUndefinedOr(total) }
}
