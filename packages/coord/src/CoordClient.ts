/**
 * Asks peers: the two calls of the coordination protocol.
 */
import {
  type Digest,
  NodeId,
  type PeerId,
  type PleasePullOutcome,
  type PleasePullRequest,
  type PullIntent
} from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

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
    /** What was going on. */
    phase: Schema.Literals(["resolve", "dial", "request", "reply"]),
    cause: Schema.optionalKey(Schema.Defect())
  }
) {
  override get message(): string {
    const why = this.cause instanceof Error ? `: ${this.cause.message}` : ""
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
