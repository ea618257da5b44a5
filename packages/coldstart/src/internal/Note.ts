/**
 * What one pursuit of a digest has learnt about one node.
 */
import type { TransferAttempt } from "@gantry/coord/Transfer"
import type { PullIntent, Timestamp } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Watch from "./Watch.ts"

/**
 * Why a node is asked no more to pull. `stale`: we waited for it in vain.
 * `declined`: it said so. `unreachable`: our request did not get through.
 * `silent`: it did not answer twice, and does not pull. `spent`: it took the
 * pull on twice and ended without the bytes. `discredited`: it says that it has
 * the bytes, and does not deliver them.
 */
export type PassedOver = "stale" | "declined" | "unreachable" | "silent" | "spent" | "discredited"

/** What we know of one node. Times are milliseconds of our own monotonic clock. */
export interface Note {
  readonly watch: Watch.Watch | undefined
  /** How often it has taken the pull on at our request. */
  readonly asks: number
  /** It did not answer when asked to pull; a pull may run there nevertheless. */
  readonly silent: boolean
  readonly passedOver: PassedOver | undefined
  /** Transfers that broke off. */
  readonly strikes: number
  /** Since when it has been too busy to deliver. */
  readonly busySince: number | undefined
}

/** Nothing known yet. */
export const blank: Note = {
  watch: undefined,
  asks: 0,
  silent: false,
  passedOver: undefined,
  strikes: 0,
  busySince: undefined
}

/** How often a node may take a pull on and lose it. */
export const maxAsks = 2

/** Broken transfers after which a holder is no holder for us. */
const maxStrikes = 3

/** A holder may be busy for this many stall thresholds: with ten transfers at a time a thousand nodes take four turns. */
const busyThresholds = 10

/** Marks a node; the first mark stays. */
export const passOver = (note: Note, why: PassedOver): Note => ({ ...note, passedOver: note.passedOver ?? why })

/** The node says, or may be taken to mean, that it pulls. */
const pulling = (note: Note, startedAt: Option.Option<Timestamp>, now: number): Note => ({
  ...note,
  watch: Watch.seen(note.watch, startedAt, now)
})

/** It took the pull on. */
export const tookOn = (note: Note, startedAt: Option.Option<Timestamp>, now: number): Note => ({
  ...pulling(note, startedAt, now),
  asks: note.asks + 1
})

/** It did not answer in time when asked to pull: its pull is watched as if it had said yes. */
export const unanswered = (note: Note, now: number): Note => ({ ...pulling(note, Option.none(), now), silent: true })

const answered = (note: Note, intent: PullIntent, now: number): Note => {
  if (intent.inFlight) {
    const asks = note.silent ? note.asks + 1 : note.asks
    return { ...pulling(note, intent.startedAt, now), silent: false, asks }
  }
  const idle = note.watch === undefined ? note : { ...note, watch: Watch.ended(note.watch) }
  if (note.silent) return passOver(idle, "silent")
  return note.asks >= maxAsks ? passOver(idle, "spent") : idle
}

const notAnswered = (note: Note): Note =>
  note.watch === undefined ? note : { ...note, watch: Watch.missed(note.watch) }

/** Takes in what a question brought: an answer, or none. */
export const hear = (note: Note, answer: Option.Option<PullIntent>, now: number, threshold: number): Note => {
  const heard = Option.isSome(answer) ? answered(note, answer.value, now) : notAnswered(note)
  return judge(heard, now, threshold) === "stale" ? passOver(heard, "stale") : heard
}

/** What to make of its pull now; a pull that was never seen is over. */
export const judge = (note: Note, now: number, threshold: number): Watch.Judgement =>
  note.watch === undefined ? "over" : Watch.judge(note.watch, now, threshold)

/** It did not deliver what it said it had. */
export const blame = (note: Note, problem: TransferAttempt["_tag"], now: number, threshold: number): Note => {
  switch (problem) {
    case "Busy": {
      const busySince = note.busySince ?? now
      const blamed = { ...note, busySince }
      return now - busySince > busyThresholds * threshold ? discredit(blamed) : blamed
    }
    case "Barred":
      return note
    case "Unavailable":
    case "Unreachable":
    case "Stalled": {
      const blamed = { ...note, strikes: note.strikes + 1 }
      return blamed.strikes >= maxStrikes ? discredit(blamed) : blamed
    }
    case "Absent":
    case "NoAddress":
    case "WrongBytes":
    case "Suspicious":
      return discredit(note)
  }
}

const discredit = (note: Note): Note => ({ ...note, passedOver: "discredited" })

/** Whether its word that it has the bytes counts. */
export const isCredible = (note: Note): boolean => note.passedOver !== "discredited"

/** Forgets what may have been a moment's state; what it did with bytes and how long we watched stays. */
export const forgive = (note: Note): Note =>
  isCredible(note) ? { ...note, asks: 0, silent: false, passedOver: undefined } : note
