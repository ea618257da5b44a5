/**
 * What one pursuit of a blob knows, and how that changes with what it sees.
 * Pure: each function gives the state that follows.
 */
import type { TransferAttempt } from "@gantry/coord/Transfer"
import {
  type FailureClass,
  type NodeId,
  type PullIntent,
  type RecentlyFailed,
  type Timestamp,
  timestampToMillis
} from "@gantry/protocol"
import * as Option from "effect/Option"
import type { BlobRequest } from "../BlobRequest.ts"
import type { Witness } from "../ColdStartError.ts"
import * as PeerState from "./PeerState.ts"
import type { Reply } from "./PleasePull.ts"
import type { Answers } from "./Round.ts"
import type { Watch } from "./Watch.ts"

/** The time, in milliseconds. Only what a node says of its cooldown is held against the wall clock. */
export interface Now {
  /** Of the monotonic clock; all times of a state are. */
  readonly at: number
  readonly wall: number
}

/** A node's word on why its pull failed. */
export interface Statement extends Witness {
  /** When it will try again; none where it does not say so, or its clock differs too much from ours. */
  readonly retryAt: Option.Option<number>
}

export interface PursuitState {
  readonly self: NodeId
  readonly request: BlobRequest
  readonly peers: ReadonlyMap<NodeId, PeerState.PeerState>
  /** Why pulls failed, in the order in which we heard of it. */
  readonly statements: ReadonlyArray<Statement>
  /** Twice as many ranks are asked. */
  readonly isWide: boolean
  /** Some holder was too busy to deliver. */
  readonly areHoldersBusy: boolean
  /** We have waited our random while before pulling directly. */
  readonly hasHeldBack: boolean
  /** Our own pulls that were the last resort. */
  readonly ownPulls: number
  /** This node has pulled it, at whose request ever. */
  readonly hasPulled: boolean
  /** Who does not take itself for the rank that we take it for. */
  readonly mismatched: ReadonlySet<NodeId>
  /** Pauses so far; each is longer than the one before. */
  readonly pauses: number
}

/** What the registry would say to everybody again. */
export const isFinal = (failureClass: FailureClass): failureClass is "auth" | "not_found" =>
  failureClass === "auth" || failureClass === "not_found"

/** Nothing is known. */
export const initial = (self: NodeId, request: BlobRequest): PursuitState => ({
  self,
  request,
  peers: new Map(),
  statements: [],
  isWide: false,
  areHoldersBusy: false,
  hasHeldBack: false,
  ownPulls: 0,
  hasPulled: false,
  mismatched: new Set(),
  pauses: 0
})

export const peerOf = (state: PursuitState, node: NodeId): PeerState.PeerState =>
  state.peers.get(node) ?? PeerState.unknown

const update = (state: PursuitState, node: NodeId, change: (peer: PeerState.PeerState) => PeerState.PeerState) => {
  const peer = change(peerOf(state, node))
  const hasPulled = state.hasPulled || (node === state.self && peer.watch !== undefined)
  return { ...state, hasPulled, peers: new Map(state.peers).set(node, peer) }
}

// Queries

/** Takes in the answers of the nodes that are asked in every round. */
export const observe = (
  state: PursuitState,
  answers: Answers,
  watched: ReadonlySet<NodeId>,
  { at }: Now
): PursuitState => {
  let next = state
  for (const [node, answer] of answers) {
    if (watched.has(node)) next = update(next, node, (peer) => PeerState.observe(peer, answer, at, state.request))
  }
  return next
}

/** Whether a node is pulling, as far as we will believe it. */
export const isPulling = (state: PursuitState, node: NodeId, { at }: Now): boolean => {
  const peer = peerOf(state, node)
  // Our own pull is the last resort: there is nobody to turn to, and the pump gives up what does not progress.
  if (node === state.self && state.ownPulls > 0) return peer.watch?.isRunning === true
  return PeerState.judge(peer, at, state.request) === "running"
}

/** Whether an answer decides what comes next, whatever the others will say. */
export const isDecisive = (
  state: PursuitState,
  node: NodeId,
  intent: PullIntent,
  watched: ReadonlySet<NodeId>,
  now: Now
): boolean => {
  if (intent.hasCached && PeerState.isCredible(peerOf(state, node))) return true
  if (!watched.has(node)) return false
  const answers = new Map([[node, Option.some(intent)]])
  return isPulling(observe(state, answers, watched, now), node, now)
}

/** Whoever was pulling is asked on, though better ranks may have joined the cluster meanwhile. */
export const pullers = (state: PursuitState): ReadonlyArray<NodeId> =>
  [...state.peers].flatMap(([node, { watch }]) => (watch?.isRunning ? [node] : []))

/** Notes who ranks itself differently. */
export const mismatch = (state: PursuitState, nodes: ReadonlyArray<NodeId>): PursuitState => ({
  ...state,
  mismatched: new Set([...state.mismatched, ...nodes])
})

/** How many nodes have tried to pull it, and have failed for all we know. */
export const failures = (state: PursuitState): number =>
  [...state.peers.values()].filter(({ exclusion }) => exclusion !== undefined && vain.has(exclusion)).length

const vain: ReadonlySet<PeerState.Exclusion> = new Set(["failed", "spent", "stale"])

// Replies to please_pull

/** Takes in how a node has answered when it was asked to pull. */
export const applyReply = (state: PursuitState, node: NodeId, reply: Reply, now: Now): PursuitState => {
  const { at } = now
  const { request } = state
  switch (reply._tag) {
    case "Started":
    case "AlreadyPulling":
      return update(state, node, (peer) => PeerState.accepted(peer, reply.startedAt, at, request))
    case "RecentlyFailed": {
      const { failureClass } = reply
      const statement = { node, failureClass, retryAt: retryAt(peerOf(state, node).watch, reply, now) }
      return { ...update(state, node, PeerState.failed), statements: [...state.statements, statement] }
    }
    case "Unspecified":
      return update(state, node, (peer) => PeerState.exclude(peer, "declined"))
    case "OutOfReach":
      return update(state, node, (peer) => PeerState.exclude(peer, "unreachable"))
    case "NoAnswer":
      return update(state, node, (peer) => PeerState.unanswered(peer, at, request))
  }
}

/**
 * When a cooldown ends by our clock. A node whose pull we saw begin tells how
 * long that is from then, whatever its clock says; else its clock has to do.
 */
const retryAt = (watch: Watch | undefined, { cooldownUntil }: RecentlyFailed, { at, wall }: Now) =>
  Option.flatMap(cooldownUntil, (until) => {
    const sinceBegun = (startedAt: Timestamp, since: number) =>
      timestampToMillis(until) - timestampToMillis(startedAt) - (at - since)
    const begun =
      watch === undefined ? [] : Option.toArray(Option.map(watch.startedAt, (it) => sinceBegun(it, watch.since)))
    const left = [timestampToMillis(until) - wall, ...begun].filter((millis) => millis > 0)
    return left.length === 0 ? Option.none() : Option.some(at + Math.min(...left))
  })

/**
 * When the first node tries again; none where no node says so. Where the
 * registry itself said when, nobody should try before.
 */
export const earliestRetry = (statements: ReadonlyArray<Statement>, verdict: Statement): Option.Option<number> => {
  if (verdict.failureClass === "rate_limited") return verdict.retryAt
  const retries = statements.flatMap(({ failureClass, retryAt }) =>
    isFinal(failureClass) ? [] : Option.toArray(retryAt)
  )
  return retries.length === 0 ? Option.none() : Option.some(Math.min(...retries))
}

// Transfers

/** Takes in how a transfer failed. */
export const penalize = (
  state: PursuitState,
  holders: ReadonlyArray<NodeId>,
  attempts: ReadonlyArray<TransferAttempt>
): PursuitState => {
  let next = state
  for (const holder of holders) {
    const attempt = attempts.find((attempt) => attempt.holder === holder)
    next = update(next, holder, (peer) => PeerState.penalize(peer, attempt))
    if (attempt?._tag === "Busy") next = { ...next, areHoldersBusy: true }
  }
  return next
}

// The course of the pursuit

/** Asks twice as many ranks from now on. */
export const widen = (state: PursuitState): PursuitState => ({ ...state, isWide: true })

/** The random while before a direct pull is over. */
export const holdBack = (state: PursuitState): PursuitState => ({ ...state, hasHeldBack: true })

/** Our own pump was asked as the last resort, and has not declined. */
export const pullOurselves = (state: PursuitState): PursuitState => ({ ...state, ownPulls: state.ownPulls + 1 })

/** One more pause. */
export const pause = (state: PursuitState): PursuitState => ({ ...state, pauses: state.pauses + 1 })

/** Nobody would pull it: what nodes said and failed to do counts no more, but for what they did with bytes. */
export const tryAgain = (state: PursuitState): PursuitState => ({
  ...initial(state.self, state.request),
  peers: new Map([...state.peers].map(([node, peer]) => [node, PeerState.reset(peer)])),
  areHoldersBusy: state.areHoldersBusy,
  hasHeldBack: state.hasHeldBack,
  hasPulled: state.hasPulled,
  mismatched: state.mismatched,
  pauses: state.pauses
})

/** A cooldown is over: as `tryAgain`, and our own pull is as far away as it was in the beginning. */
export const startOver = (state: PursuitState): PursuitState => ({ ...tryAgain(state), hasHeldBack: false })
