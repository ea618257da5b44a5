/**
 * Envelopes of the wire to and from what they mean (protocol, section 2).
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import type { Timestamp as WireTimestamp } from "@bufbuild/protobuf/wkt"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { ContentKind } from "./ContentKind.ts"
import { describeCause } from "./describeCause.ts"
import type { FailureClass } from "./FailureClass.ts"
import * as Wire from "./internal/gen/gantry/coord/v1/coord_pb.ts"
import { encodeResults, type WireResult } from "./internal/resultsEncoding.ts"
import { AlreadyPulling, RecentlyFailed, Started, Unspecified, type Verdict } from "./PleasePull.ts"
import { PullIntent, type PullProgress } from "./PullIntent.ts"
import { Timestamp } from "./Timestamp.ts"

/**
 * An envelope by its meaning. What a peer wrote as text stays text: whether it
 * is a digest, a registry or a repository is for the receiver to judge.
 */
export type Message =
  | { readonly _tag: "Empty" }
  | { readonly _tag: "PullIntentRequest"; readonly digest: string }
  | { readonly _tag: "PullIntentResponse"; readonly intent: PullIntent }
  | {
      readonly _tag: "PleasePullRequest"
      readonly registry: string
      readonly repository: string
      readonly kind: ContentKind
      readonly digests: ReadonlyArray<string>
    }
  | { readonly _tag: "PleasePullResponse"; readonly results: ReadonlyArray<PleasePullResult> }

/** The verdict on one digest, as the text that the peer wrote. */
export interface PleasePullResult {
  readonly digest: string
  readonly verdict: Verdict
}

/** Bytes that are not an envelope: bad protobuf, or text that is not UTF-8. */
export class MalformedEnvelope extends Schema.TaggedError<MalformedEnvelope>("@gantry/protocol/MalformedEnvelope")(
  "MalformedEnvelope",
  { cause: Schema.Defect() }
) {
  override get message(): string {
    return `not a coordination envelope: ${describeCause(this.cause)}`
  }
}

const kinds = ["layer", "layer", "manifest", "config"] as const
const kindToWire = {
  layer: Wire.PleasePullRequest_Kind.BLOB,
  manifest: Wire.PleasePullRequest_Kind.MANIFEST,
  config: Wire.PleasePullRequest_Kind.CONFIG
}
const failureClasses = ["unspecified", "auth", "not_found", "rate_limited", "transient"] as const
const failureClassToWire = {
  unspecified: Wire.FailureClass.UNSPECIFIED,
  auth: Wire.FailureClass.AUTH,
  not_found: Wire.FailureClass.NOT_FOUND,
  rate_limited: Wire.FailureClass.RATE_LIMITED,
  transient: Wire.FailureClass.TRANSIENT
}

const kindFromWire = (kind: number): ContentKind => kinds[kind] ?? "layer"
const failureClassFromWire = (failure: number): FailureClass => failureClasses[failure] ?? "unspecified"

const nanosPerSecond = 1_000_000_000n

/** Go's zero time, which it sends where it has none. */
const goZeroSeconds = -62_135_596_800n

const timestampFromWire = (wire: WireTimestamp | undefined): Option.Option<Timestamp> =>
  wire === undefined || (wire.seconds === goZeroSeconds && wire.nanos === 0)
    ? Option.none()
    : Timestamp.makeOption(wire.seconds * nanosPerSecond + BigInt(wire.nanos))

const timestampToWire = (timestamp: Timestamp) => {
  const nanos = ((timestamp % nanosPerSecond) + nanosPerSecond) % nanosPerSecond
  return { seconds: (timestamp - nanos) / nanosPerSecond, nanos: Number(nanos) }
}

const timeToWire = (timestamp: Option.Option<Timestamp>) =>
  Option.isNone(timestamp) ? undefined : timestampToWire(timestamp.value)

const optionalTimestamp = <Field extends string>(field: Field, timestamp: Option.Option<Timestamp>) =>
  Option.isNone(timestamp) ? {} : { [field]: timestampToWire(timestamp.value) }

/** More than a double holds exactly is no size of a blob. */
const bytesFromWire = (wire: bigint): number => Number(wire > maxSafeBytes ? maxSafeBytes : wire)
const maxSafeBytes = BigInt(Number.MAX_SAFE_INTEGER)

const progressFromWire = (wire: Wire.PullIntentResponse): Option.Option<PullProgress> =>
  Option.map(Option.fromUndefinedOr(wire.receivedBytes), (received) => ({
    receivedBytes: bytesFromWire(received),
    totalBytes: Option.map(Option.fromUndefinedOr(wire.totalBytes), bytesFromWire)
  }))

const progressToWire = (progress: Option.Option<PullProgress>) =>
  Option.match(progress, {
    onNone: () => ({}),
    onSome: ({ receivedBytes, totalBytes }) => ({
      receivedBytes: BigInt(receivedBytes),
      ...(Option.isSome(totalBytes) ? { totalBytes: BigInt(totalBytes.value) } : {})
    })
  })

const verdictFromWire = (result: Wire.PleasePullResponse_Result): Verdict => {
  switch (result.outcome) {
    case Wire.PleasePullResponse_Result_Outcome.STARTED:
      return new Started({ startedAt: timestampFromWire(result.startedAt) })
    case Wire.PleasePullResponse_Result_Outcome.ALREADY_PULLING:
      return new AlreadyPulling({ startedAt: timestampFromWire(result.startedAt) })
    case Wire.PleasePullResponse_Result_Outcome.RECENTLY_FAILED:
      return new RecentlyFailed({
        cooldownUntil: timestampFromWire(result.cooldownUntil),
        failureClass: failureClassFromWire(result.failureClass)
      })
    default:
      return new Unspecified()
  }
}

const resultToWire = ({ digest, verdict }: PleasePullResult): WireResult => {
  switch (verdict._tag) {
    case "Started":
      return {
        digest,
        outcome: Wire.PleasePullResponse_Result_Outcome.STARTED,
        startedAt: timeToWire(verdict.startedAt)
      }
    case "AlreadyPulling":
      return {
        digest,
        outcome: Wire.PleasePullResponse_Result_Outcome.ALREADY_PULLING,
        startedAt: timeToWire(verdict.startedAt)
      }
    case "RecentlyFailed":
      return {
        digest,
        outcome: Wire.PleasePullResponse_Result_Outcome.RECENTLY_FAILED,
        failureClass: failureClassToWire[verdict.failureClass],
        cooldownUntil: timeToWire(verdict.cooldownUntil)
      }
    case "Unspecified":
      return { digest, outcome: Wire.PleasePullResponse_Result_Outcome.UNSPECIFIED }
  }
}

const envelopeOf = (message: Exclude<Message, { readonly _tag: "PleasePullResponse" }>): Wire.Envelope => {
  switch (message._tag) {
    case "Empty":
      return create(Wire.EnvelopeSchema)
    case "PullIntentRequest":
      return create(Wire.EnvelopeSchema, {
        msg: { case: "pullIntentRequest", value: { digest: message.digest } }
      })
    case "PullIntentResponse": {
      const { intent } = message
      return create(Wire.EnvelopeSchema, {
        msg: {
          case: "pullIntentResponse",
          value: {
            hasCached: intent.hasCached,
            inFlight: intent.inFlight,
            hrwRank: intent.hrwRank,
            recentlyFailed: intent.recentlyFailed,
            failureClass: failureClassToWire[intent.failureClass],
            ...optionalTimestamp("startedAt", intent.startedAt),
            ...progressToWire(intent.progress),
            ...optionalTimestamp("cooldownUntil", intent.cooldownUntil)
          }
        }
      })
    }
    case "PleasePullRequest":
      return create(Wire.EnvelopeSchema, {
        msg: {
          case: "pleasePullRequest",
          value: {
            digests: [...message.digests],
            upstreamRegistry: message.registry,
            repository: message.repository,
            kind: kindToWire[message.kind]
          }
        }
      })
  }
}

/** The bytes of an envelope, without a frame around them. */
export const encodeMessage = (message: Message): Uint8Array =>
  message._tag === "PleasePullResponse"
    ? encodeResults(message.results.map(resultToWire))
    : toBinary(Wire.EnvelopeSchema, envelopeOf(message))

const messageOf = ({ msg }: Wire.Envelope): Message => {
  switch (msg.case) {
    case undefined:
      return { _tag: "Empty" }
    case "pullIntentRequest":
      return { _tag: "PullIntentRequest", digest: msg.value.digest }
    case "pullIntentResponse":
      return {
        _tag: "PullIntentResponse",
        intent: new PullIntent({
          hasCached: msg.value.hasCached,
          inFlight: msg.value.inFlight,
          startedAt: timestampFromWire(msg.value.startedAt),
          progress: progressFromWire(msg.value),
          hrwRank: msg.value.hrwRank,
          recentlyFailed: msg.value.recentlyFailed,
          cooldownUntil: timestampFromWire(msg.value.cooldownUntil),
          failureClass: failureClassFromWire(msg.value.failureClass)
        })
      }
    case "pleasePullRequest":
      return {
        _tag: "PleasePullRequest",
        registry: msg.value.upstreamRegistry,
        repository: msg.value.repository,
        kind: kindFromWire(msg.value.kind),
        digests: msg.value.digests
      }
    case "pleasePullResponse":
      return {
        _tag: "PleasePullResponse",
        results: msg.value.results.map((result) => ({ digest: result.digest, verdict: verdictFromWire(result) }))
      }
  }
}

/** Reads the body of a frame. Unknown fields are dropped; unknown numbers become what section 2 names for them. */
export const decodeMessage = (body: Uint8Array): Result.Result<Message, MalformedEnvelope> =>
  Result.try({
    try: () => messageOf(fromBinary(Wire.EnvelopeSchema, body, { readUnknownFields: false })),
    catch: (cause) => new MalformedEnvelope({ cause })
  })
