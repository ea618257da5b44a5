/**
 * Streams between peers, whatever carries them.
 */
import { describeCause, PeerId } from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { PeerAddress } from "./PeerResolver.ts"

/** `Unreachable`: there is no connection to the peer, and nothing was sent to it. */
export class OpenError extends Schema.TaggedError<OpenError>("@gantry/coord/OpenError")("OpenError", {
  reason: Schema.Literal("Unreachable"),
  peerId: PeerId,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `cannot reach peer ${this.peerId}: ${describeCause(this.cause)}`
  }
}

/**
 * `UnsupportedProtocol`: the peer does not speak the protocol. `Reset`: the
 * peer or the connection ended the stream at once. `Closed`: our side was ended
 * already.
 */
export class StreamError extends Schema.TaggedError<StreamError>("@gantry/coord/StreamError")("StreamError", {
  reason: Schema.Literals(["UnsupportedProtocol", "Reset", "Closed"]),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const what = {
      UnsupportedProtocol: "the peer does not speak the protocol",
      Reset: "the stream was reset",
      Closed: "the stream is closed"
    }[this.reason]
    return `${what}: ${describeCause(this.cause)}`
  }
}

/**
 * A stream of bytes to and from one peer. Whoever holds it ends it, with
 * `close` or `reset`; after that it reads and writes no more. The end of the
 * transport's scope resets what is left.
 */
export interface DuplexStream {
  readonly remotePeer: PeerId
  /** The next bytes, never empty; none once the peer has ended its side. */
  readonly read: Effect.Effect<Option.Option<Uint8Array>, StreamError>
  /** Succeeds once the bytes are handed on; waits while the peer does not take them, or has not agreed to the protocol. */
  readonly write: (bytes: Uint8Array) => Effect.Effect<void, StreamError>
  /** Ends our side, after what was written; the other stays readable. */
  readonly closeWrite: Effect.Effect<void, StreamError>
  /**
   * Ends the stream in peace: what was written arrives, nothing more is read.
   * Does not wait for the peer; one that does not end its own side within a
   * second is reset.
   */
  readonly close: Effect.Effect<void>
  /** Ends the stream at once; the peer sees a reset. */
  readonly reset: Effect.Effect<void>
}

/** Opens streams to peers and takes theirs. */
export class StreamTransport extends Context.Service<
  StreamTransport,
  {
    /**
     * Takes the streams that peers open for a protocol, until the scope closes;
     * from then on new ones are refused. The handler owns the stream it is given
     * and returns at once: serving goes on in a fiber of its own.
     */
    readonly handle: (
      protocol: string,
      handler: (stream: DuplexStream) => Effect.Effect<void>
    ) => Effect.Effect<void, never, Scope.Scope>
    /**
     * Opens a stream, dialing the peer if need be. Succeeds once there is a
     * connection and the first bytes are handed to it, without waiting for the
     * peer to agree to the protocol: a failure means that nothing was sent, and
     * what the peer makes of the stream shows when it is read or written.
     *
     * A connection that was there before may be dead. Where it ends before the
     * peer agrees, or stays silent for a while, the first bytes and the end of
     * our side go out again on a new connection, so they must be safe to send
     * twice.
     *
     * The scope ends the stream: in peace on success, by reset on failure and
     * interruption. Brings no deadline.
     */
    readonly open: (
      peer: PeerAddress,
      protocol: string,
      first?: Uint8Array
    ) => Effect.Effect<DuplexStream, OpenError, Scope.Scope>
  }
>()("@gantry/coord/StreamTransport") {}
