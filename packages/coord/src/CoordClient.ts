/**
 * Asks peers: the two calls of the coordination protocol.
 */
import {
  type Digest,
  describeCause,
  type FrameError,
  type MalformedEnvelope,
  type Message,
  NodeId,
  type PeerId,
  PleasePullOutcome,
  type PleasePullRequest,
  type PleasePullResult,
  type PullIntent,
  parsePeerId,
  protocolId,
  Unspecified,
  type Verdict
} from "@gantry/protocol"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CoordConfig } from "./CoordConfig.ts"
import { decode, frameOf, readFrame } from "./internal/messages.ts"
import { Metrics } from "./Metrics.ts"
import { type PeerAddress, PeerResolver } from "./PeerResolver.ts"
import { type StreamError, StreamTransport } from "./StreamTransport.ts"

/** How a call failed (protocol, section 7). */
export const CoordClientReason = Schema.Literals([
  /** Nothing knows a peer for the node id; the network was not touched. */
  "CannotResolve",
  /** No connection to the peer. */
  "Unreachable",
  /** The peer is there, and does not speak the protocol. */
  "UnsupportedProtocol",
  /** The dial's or the call's time was up. */
  "TimedOut",
  /** The peer ended the stream without a reply: it refused the request. */
  "NoReply",
  /** The peer or the connection reset the stream, as a peer at its stream limit does. */
  "Reset",
  /** The reply announced more than 1 MiB. */
  "ReplyTooLarge",
  /** The reply is not an envelope. */
  "ReplyMalformed",
  /** The reply answers another kind of request. */
  "UnexpectedReply"
])
export type CoordClientReason = typeof CoordClientReason.Type

/** A call that brought no answer. */
export class CoordClientError extends Schema.TaggedError<CoordClientError>("@gantry/coord/CoordClientError")(
  "CoordClientError",
  {
    reason: CoordClientReason,
    target: NodeId,
    /**
     * What was going on. The request cannot have arrived in `resolve` and `dial`,
     * and may have arrived in `request` and `reply`.
     */
    phase: Schema.Literals(["resolve", "dial", "request", "reply"]),
    cause: Schema.optionalKey(Schema.Defect())
  }
) {
  override get message(): string {
    const why = this.cause === undefined ? "" : `: ${describeCause(this.cause)}`
    return `${this.reason} (${this.phase}) calling node ${this.target}${why}`
  }
}

/** A typed client of the coordination protocol; one stream per call. */
export class CoordClient extends Context.Service<
  CoordClient,
  {
    /** Asks a node what it knows about a digest. */
    readonly pullIntentQuery: (target: NodeId, digest: Digest) => Effect.Effect<PullIntent, CoordClientError>
    /**
     * Asks a node to pull digests from the origin. Gives one outcome per digest,
     * in order. Above the chunk size the request goes out in several calls, one
     * after the other; the first that fails fails all.
     */
    readonly pleasePull: (
      target: NodeId,
      request: PleasePullRequest
    ) => Effect.Effect<ReadonlyArray<PleasePullOutcome>, CoordClientError>
    /** Teaches the client the peer of a node that the resolver does not know. */
    readonly resolvePeerId: (nodeId: NodeId, peerId: PeerId) => Effect.Effect<void>
  }
>()("@gantry/coord/CoordClient") {}

const withTimeout = <A, R>(
  call: Effect.Effect<A, CoordClientError, R>,
  duration: Duration.Duration,
  target: NodeId,
  phase: () => CoordClientError["phase"]
): Effect.Effect<A, CoordClientError, R> =>
  Effect.timeoutOrElse(call, {
    duration,
    orElse: () => new CoordClientError({ reason: "TimedOut", target, phase: phase() })
  })

const make: Effect.Effect<CoordClient["Service"], never, Metrics | PeerResolver | StreamTransport> = Effect.gen(
  function* () {
    const config = yield* CoordConfig
    const metrics = yield* Metrics
    const resolver = yield* PeerResolver
    const transport = yield* StreamTransport
    const taught = new Map<NodeId, PeerId>()
    /** Whether the time for the whole call is up before the dial's would be. */
    const dialIsBounded = Duration.isLessThanOrEqualTo(config.rpcTimeout, config.dialTimeout)

    const resolve = Effect.fnUntraced(function* (target: NodeId) {
      const resolved = yield* resolver.resolve(target)
      if (Option.isSome(resolved)) return resolved.value
      const peerId = Option.orElse(Option.fromUndefinedOr(taught.get(target)), () => parsePeerId(target))
      if (Option.isNone(peerId))
        return yield* new CoordClientError({ reason: "CannotResolve", target, phase: "resolve" })
      return { peerId: peerId.value, addresses: [] }
    })

    /**
     * Opens a stream with the request, ends our side and reads the reply. Whether
     * the peer speaks the protocol shows with the reply.
     */
    const exchange = Effect.fnUntraced(function* (
      target: NodeId,
      peer: PeerAddress,
      request: Message,
      enter: (phase: CoordClientError["phase"]) => void
    ) {
      enter("dial")
      const opening = Effect.mapError(
        transport.open(peer, protocolId, frameOf(request)),
        (cause) => new CoordClientError({ reason: cause.reason, target, phase: "dial", cause })
      )
      const stream = yield* dialIsBounded ? opening : withTimeout(opening, config.dialTimeout, target, () => "dial")
      enter("request")
      yield* Effect.mapError(
        stream.closeWrite,
        (cause) => new CoordClientError({ reason: streamReason(cause), target, phase: "request", cause })
      )
      enter("reply")
      return yield* readFrame(stream).pipe(
        Effect.flatMap(decode),
        Effect.mapError((cause) => new CoordClientError({ reason: replyReason(cause), target, phase: "reply", cause }))
      )
    }, Effect.scoped)

    const call = Effect.fnUntraced(function* (target: NodeId, request: Message) {
      const peer = yield* resolve(target)
      let phase: CoordClientError["phase"] = "dial"
      const exchanged = exchange(target, peer, request, (next) => {
        phase = next
      })
      return yield* withTimeout(exchanged, config.rpcTimeout, target, () => phase)
    })

    const unexpected = (target: NodeId) => new CoordClientError({ reason: "UnexpectedReply", target, phase: "reply" })

    // Without a span of its own, which would cost a tenth of the query.
    const pullIntentQuery = Effect.fnUntraced(function* (target: NodeId, digest: Digest) {
      const reply = yield* call(target, { _tag: "PullIntentRequest", digest })
      return reply._tag === "PullIntentResponse" ? reply.intent : yield* unexpected(target)
    })

    const pleasePullChunk = Effect.fnUntraced(function* (
      target: NodeId,
      request: PleasePullRequest,
      digests: ReadonlyArray<Digest>
    ) {
      const { kind, registry, repository } = request
      const reply = yield* call(target, { _tag: "PleasePullRequest", registry, repository, kind, digests })
      if (reply._tag !== "PleasePullResponse") return yield* unexpected(target)
      const { foreign, outcomes } = matchOutcomes(digests, reply.results)
      if (foreign > 0) {
        yield* metrics.foreignOutcomes(foreign)
        yield* Effect.logDebug(`node ${target} answered for ${foreign} digests that were not asked for`)
      }
      return outcomes
    })

    const pleasePull = Effect.fn("CoordClient.pleasePull")(function* (target: NodeId, request: PleasePullRequest) {
      const chunks =
        request.digests.length === 0 ? [[]] : Arr.chunksOf(request.digests, config.clientMaxDigestsPerPleasePull)
      const outcomes = yield* Effect.forEach(chunks, (digests) => pleasePullChunk(target, request, digests))
      return outcomes.flat()
    })

    return CoordClient.of({
      pullIntentQuery,
      pleasePull,
      resolvePeerId: (nodeId, peerId) =>
        Effect.sync(() => {
          taught.set(nodeId, peerId)
        })
    })
  }
)

const streamReason = ({ reason }: StreamError): CoordClientReason =>
  reason === "UnsupportedProtocol" ? reason : "Reset"

const replyReason = (cause: FrameError | MalformedEnvelope | StreamError): CoordClientReason => {
  switch (cause._tag) {
    case "StreamError":
      return streamReason(cause)
    case "MalformedEnvelope":
      return "ReplyMalformed"
    case "FrameError":
      if (cause.reason === "TooLarge") return "ReplyTooLarge"
      return cause.reason === "Missing" ? "NoReply" : "ReplyMalformed"
  }
}

/**
 * Holds a reply against its request: one outcome per requested digest, in the
 * order of the request. A digest without a result is unspecified; results for
 * other digests are foreign (protocol, section 9).
 */
const matchOutcomes = (digests: ReadonlyArray<Digest>, results: ReadonlyArray<PleasePullResult>) => {
  const asked = new Set<string>(digests)
  const verdicts = new Map<string, Verdict>()
  let foreign = 0
  for (const { digest, verdict } of results) {
    if (!asked.has(digest)) foreign++
    else if (!verdicts.has(digest)) verdicts.set(digest, verdict)
  }
  const outcomes = digests.map(
    (digest) => new PleasePullOutcome({ digest, verdict: verdicts.get(digest) ?? new Unspecified() })
  )
  return { outcomes, foreign }
}

/** Calls peers over the transport (protocol, section 7). */
export const layer: Layer.Layer<CoordClient, never, Metrics | PeerResolver | StreamTransport> = Layer.effect(
  CoordClient,
  make
)
