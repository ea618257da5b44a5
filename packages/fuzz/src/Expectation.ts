/**
 * What the protocol wants of a server (sections 4 to 6), told from outside: by
 * what the stream holds and the situation that it comes into.
 */
import type { StreamErrorReason } from "@gantry/coord/Metrics"
import {
  type Digest,
  decodeMessage,
  encodeFrame,
  isDigest,
  isRegistry,
  isRepository,
  type Message,
  makeFrameReader
} from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { Situation } from "./Input.ts"
import type { Reading } from "./Protocol.ts"
import { maxDigests, rankOf } from "./World.ts"

/** How a stream must end: with a reply, without one that is counted as an error, or as a stranger's. */
export type Ending = "intent" | "batch" | "refused" | StreamErrorReason

/** How a stream must end. */
export const endingOf = (reading: Reading, situation: Situation): Ending => {
  if (reading._tag === "NoFrame") {
    return reading.refused || situation.ending !== "falls silent" ? "read" : "deadline"
  }
  if (reading._tag === "Malformed") return "decode"
  if (situation.standing !== "member" && situation.authorization === "enforce") return "refused"
  const answered = answerTo(reading.message, situation)
  if (answered !== "intent" && answered !== "batch") return answered
  return { arrives: answered, fails: "write" as const, "is stuck": "deadline" as const }[situation.writing]
}

const answerTo = (message: Message, { store }: Situation): Ending => {
  if (message._tag === "PullIntentRequest") {
    if (!isDigest(message.digest)) return "request"
    return store === "dies" ? "defect" : "intent"
  }
  if (message._tag !== "PleasePullRequest") return "request"
  const { digests, registry, repository } = message
  return isRegistry(registry) && isRepository(repository) && digests.length <= maxDigests ? "batch" : "request"
}

/** The one event that counts an ending; none for a stranger's. */
export const eventOf = (ending: Ending): string => {
  if (ending === "refused") return ""
  if (ending === "intent") return "pullIntentServed"
  return ending === "batch" ? "pleasePullServed" : `streamError:${ending}`
}

/** The event that counts a peer that asks as a stranger, if it is one. */
export const strangerEventOf = ({ authorization, standing }: Situation): string =>
  standing === "member" || (standing === "unevaluable" && authorization === "observe")
    ? ""
    : `unauthorizedPeer:${standing}`

/** The one message of a reply. */
const replyIn = (written: ReadonlyArray<Uint8Array>): Message | undefined => {
  const [frame] = written
  if (frame === undefined || written.length > 1) return undefined
  const pushed = makeFrameReader().push(frame)
  if (Result.isFailure(pushed) || Option.isNone(pushed.success)) return undefined
  const body = pushed.success.value
  const decoded = decodeMessage(body)
  return encodeFrame(body).length === frame.length && Result.isSuccess(decoded) ? decoded.success : undefined
}

const isGoodIntent = (digest: Digest, { negativeCache, store }: Situation, reply: Message): boolean => {
  if (reply._tag !== "PullIntentResponse") return false
  const { intent } = reply
  const failed = store !== "has" && negativeCache === "failed recently"
  return (
    intent.hasCached === (store === "has") &&
    intent.inFlight === Option.isSome(intent.startedAt) &&
    intent.hrwRank === rankOf(digest) &&
    intent.recentlyFailed === failed &&
    Option.isSome(intent.cooldownUntil) === failed &&
    (intent.failureClass === "unspecified") !== failed
  )
}

const isGoodBatch = (digests: ReadonlyArray<string>, reply: Message): boolean => {
  if (reply._tag !== "PleasePullResponse") return false
  const wellFormed = digests.filter(isDigest)
  return (
    reply.results.length === wellFormed.length &&
    reply.results.every(({ digest, verdict }, index) => {
      if (digest !== wellFormed[index]) return false
      if (verdict._tag === "Unspecified") return true
      return Option.isSome(verdict._tag === "RecentlyFailed" ? verdict.cooldownUntil : verdict.startedAt)
    })
  )
}

/** Whether what was written answers a message that must be answered. */
export const isGoodReply = (message: Message, situation: Situation, written: ReadonlyArray<Uint8Array>): boolean => {
  const reply = replyIn(written)
  if (reply === undefined) return false
  if (message._tag === "PullIntentRequest") return isGoodIntent(message.digest as Digest, situation, reply)
  return message._tag === "PleasePullRequest" && isGoodBatch(message.digests, reply)
}
