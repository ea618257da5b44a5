/**
 * What one pursuit of a blob has learnt about one node.
 */
import type { TransferAttempt } from "@gantry/coord/Transfer"
import type { PullIntent } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Watch from "./Watch.ts"

/**
 * Why a node is asked no more to pull. `stale`: we waited for it in vain.
 * `failed`: it has said why its pull failed. `declined`: it said so.
 * `unreachable`: our request did not get through. `silent`: it did not answer
 * twice, and does not pull. `spent`: it took the pull on twice and ended without
 * the bytes. `discredited`: it says that it has the bytes, and does not deliver
 * them.
 */
export type Exclusion = "stale" | "failed" | "declined" | "unreachable" | "silent" | "spent" | "discredited"

/** What we know of one node. */
export interface PeerState {
  readonly watch: Watch.Watch | undefined
  /** How often it has taken the pull on at our request. */
  readonly asks: number
  /** It did not answer when asked to pull; a pull may run there nevertheless. */
  readonly isSilent: boolean
  readonly exclusion: Exclusion | undefined
  /** Transfers that broke off. */
  readonly strikes: number
}

/** Nothing known yet. */
export const unknown: PeerState = {
  watch: undefined,
  asks: 0,
  isSilent: false,
  exclusion: undefined,
  strikes: 0
}

/** How often a node may take a pull on and lose it. */
const maxAsks = 2

/** Broken transfers after which a holder is no holder for us. */
const maxStrikes = 3

/** Excludes a node; the first reason stays. */
export const exclude = (peer: PeerState, why: Exclusion): PeerState => ({ ...peer, exclusion: peer.exclusion ?? why })

/** The node says, or may be taken to mean, that it pulls. */
const pulling = (peer: PeerState, sighting: Watch.Sighting, now: number, blob: Watch.Blob): PeerState => ({
  ...peer,
  watch: Watch.seen(peer.watch, sighting, now, blob)
})

/** It took the pull on. */
export const accepted = (
  peer: PeerState,
  startedAt: PullIntent["startedAt"],
  now: number,
  blob: Watch.Blob
): PeerState => ({
  ...pulling(peer, { startedAt, progress: Option.none() }, now, blob),
  asks: peer.asks + 1
})

/** It did not answer in time when asked to pull: its pull is watched as if it had said yes. */
export const unanswered = (peer: PeerState, now: number, blob: Watch.Blob): PeerState => ({
  ...pulling(peer, { startedAt: Option.none(), progress: Option.none() }, now, blob),
  isSilent: true
})

/** Its pull is over. */
const idle = (peer: PeerState): PeerState =>
  peer.watch === undefined ? peer : { ...peer, watch: Watch.ended(peer.watch) }

/** It said why its pull failed. */
export const failed = (peer: PeerState): PeerState => exclude(idle(peer), "failed")

const answered = (peer: PeerState, intent: PullIntent, now: number, blob: Watch.Blob): PeerState => {
  if (intent.inFlight) {
    const asks = peer.isSilent ? peer.asks + 1 : peer.asks
    return { ...pulling(peer, intent, now, blob), isSilent: false, asks }
  }
  if (peer.isSilent) return exclude(idle(peer), "silent")
  return peer.asks >= maxAsks ? exclude(idle(peer), "spent") : idle(peer)
}

const missed = (peer: PeerState): PeerState =>
  peer.watch === undefined ? peer : { ...peer, watch: Watch.missed(peer.watch) }

/** Takes in what a query brought: an answer, or none. */
export const observe = (
  peer: PeerState,
  answer: Option.Option<PullIntent>,
  now: number,
  blob: Watch.Blob
): PeerState => {
  const observed = Option.isSome(answer) ? answered(peer, answer.value, now, blob) : missed(peer)
  return judge(observed, now, blob) === "stale" ? exclude(observed, "stale") : observed
}

/** What to make of its pull now; a pull that was never seen is over. */
export const judge = (peer: PeerState, now: number, blob: Watch.Blob): Watch.Judgement =>
  peer.watch === undefined ? "over" : Watch.judge(peer.watch, now, blob)

/** It could not be reached for a transfer lately; a bar that ends sooner is waited for like a holder that is busy. */
const longBar = Duration.seconds(10)

/** It did not deliver what it said it had, and was perhaps not even tried. Who is busy has it, however long it is busy. */
export const penalize = (peer: PeerState, attempt: TransferAttempt | undefined): PeerState => {
  switch (attempt?._tag) {
    case "Busy":
      return peer
    case "Barred":
      return Duration.isLessThanOrEqualTo(attempt.remaining, longBar) ? peer : strike(peer)
    case "Unavailable":
    case "Unreachable":
    case "Stalled":
    case undefined:
      return strike(peer)
    case "Absent":
    case "NoAddress":
    case "WrongBytes":
    case "Suspicious":
      return discredit(peer)
  }
}

const strike = (peer: PeerState): PeerState => {
  const strikes = peer.strikes + 1
  return strikes >= maxStrikes ? discredit({ ...peer, strikes }) : { ...peer, strikes }
}

const discredit = (peer: PeerState): PeerState => ({ ...peer, exclusion: "discredited" })

/** Whether its word that it has the bytes counts. */
export const isCredible = (peer: PeerState): boolean => peer.exclusion !== "discredited"

/** Forgets what may have been a moment's state; what it did with bytes, and a pull that runs on, stay. */
export const reset = (peer: PeerState): PeerState => {
  const watch = peer.watch?.isRunning ? peer.watch : undefined
  return isCredible(peer) ? { ...peer, watch, asks: 0, isSilent: false, exclusion: undefined } : { ...peer, watch }
}
