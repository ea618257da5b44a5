/**
 * Streams between peers over libp2p.
 */
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import { type DuplexStream, OpenError, StreamTransport } from "@gantry/coord/StreamTransport"
import * as Timers from "@gantry/coord/Timers"
import type { PeerId } from "@gantry/protocol"
import type { Connection, Stream } from "@libp2p/interface"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Host } from "./Host.ts"
import * as ConnectionPool from "./internal/ConnectionPool.ts"
import type { Dialing } from "./internal/dialing.ts"
import { makeDuplex } from "./internal/duplex.ts"
import { libp2pOf } from "./internal/libp2pOf.ts"
import { maxStreamsPerConnection, silentMillis } from "./internal/limits.ts"
import { makeLinger } from "./internal/lingering.ts"
import { makeOutbound } from "./internal/outbound.ts"
import { proposalOf } from "./internal/selection.ts"

/**
 * Tells whom connections lead to. libp2p prints the ids of keys in the base58
 * form, which is ours, and computes it anew each time.
 */
const makeRemotePeerOf = () => {
  const peerIds = new WeakMap<Connection, PeerId>()
  return (connection: Connection): PeerId => {
    const known = peerIds.get(connection)
    if (known !== undefined) return known
    const peerId = connection.remotePeer.toString() as PeerId
    peerIds.set(connection, peerId)
    return peerId
  }
}

/** What is said to propose each of the protocols, of which there are a few. */
const makeProposals = () => {
  const proposals = new Map<string, Uint8Array>()
  return (protocol: string): Uint8Array => {
    const proposal = proposals.get(protocol) ?? proposalOf(protocol)
    proposals.set(protocol, proposal)
    return proposal
  }
}

/** One error that says what happened, at each address. */
const flatten = (cause: unknown) =>
  cause instanceof AggregateError ? new Error(cause.errors.map(String).join("; "), { cause }) : cause

/** Whether somebody still reads from the stream or writes to it, on this side. */
const isInUse = ({ readStatus, writeStatus }: Stream) =>
  readStatus === "readable" || readStatus === "paused" || writeStatus === "writable"

const make: Effect.Effect<StreamTransport["Service"], never, Host | Scope.Scope> = Effect.gen(function* () {
  const node = libp2pOf(yield* Host)
  const scope = yield* Effect.scope
  const linger = yield* makeLinger
  const silence = yield* Timers.make(Duration.millis(silentMillis))
  const pool = ConnectionPool.make(node)
  const proposalFor = makeProposals()
  const remotePeerOf = makeRemotePeerOf()
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const { streams } of node.getConnections()) {
        for (const stream of streams.filter(isInUse)) stream.abort(new Error("this node is leaving"))
      }
    })
  )

  const open: StreamTransport["Service"]["open"] = (peer, protocol, first = new Uint8Array()) =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const now = () => MonotonicClock.millisUnsafe(clock)
      const dialing = (signal: AbortSignal): Dialing => ({
        signal,
        sleep: (millis, signal) => Effect.runPromiseWith(fiber.context)(Effect.sleep(millis), { signal })
      })
      let opened: DuplexStream | undefined

      const propose = (stream: ConnectionPool.Opened) => {
        const proposal = proposalFor(protocol)
        const openedAt = now()
        return makeOutbound(stream, {
          remotePeer: remotePeerOf(stream.connection),
          linger,
          message: Buffer.concat([proposal, first]),
          proposalBytes: proposal.length,
          openElsewhere: (failed, signal) => pool.openElsewhere(peer, protocol, failed, dialing(signal), now()),
          onSilence: (connection, isSilent) =>
            silence(fiber, () => pool.isReplaceable(peer, connection, now()) && isSilent()),
          answered: pool.answered,
          unanswered: (connection) => pool.unanswered(connection, openedAt, now())
        })
      }

      const opening = Effect.callback<DuplexStream, OpenError>((resume, signal) => {
        pool.open(peer, protocol, dialing(signal)).then(
          (stream) => {
            if (signal.aborted) return stream.stream.abort(new Error("nobody waits for the stream any more"))
            opened = propose(stream)
            resume(Effect.succeed(opened))
          },
          (cause) =>
            resume(
              Effect.failSync(
                () => new OpenError({ reason: "Unreachable", peerId: peer.peerId, cause: flatten(cause) })
              )
            )
        )
      })

      return Effect.uninterruptibleMask((restore) =>
        restore(opening).pipe(
          Effect.onError(() => opened?.reset ?? Effect.void),
          Effect.tap((stream) => Effect.addFinalizer((exit) => (Exit.isSuccess(exit) ? stream.close : stream.reset)))
        )
      )
    })

  const handle: StreamTransport["Service"]["handle"] = Effect.fnUntraced(function* (protocol, handler) {
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const onStream = (stream: Stream, connection: Connection) => {
      const duplex = makeDuplex(stream, remotePeerOf(connection), linger)
      const serving = Effect.onError(handler(duplex), (cause) =>
        Effect.andThen(
          duplex.reset,
          Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError(`the handler of ${protocol} failed`, cause)
        )
      )
      const fiber = run(serving)
      if (fiber.pollUnsafe() === undefined) Fiber.runIn(fiber, scope)
    }
    yield* Effect.acquireRelease(
      Effect.promise(() =>
        node.handle(protocol, onStream, {
          maxInboundStreams: maxStreamsPerConnection,
          // A node that handles a protocol opens streams of it under this limit too.
          maxOutboundStreams: maxStreamsPerConnection
        })
      ),
      () => Effect.promise(() => node.unhandle(protocol))
    )
  })

  return StreamTransport.of({ handle, open })
})

/**
 * Streams over the connections of the host. Peers share one connection for all
 * their streams. A stream that goes unanswered in it for half a second is
 * opened once more in a new one, at the addresses that the peer has now; a
 * connection that stays silent is given up after ten seconds. The end of the
 * layer resets the streams that are still in use.
 */
export const layer: Layer.Layer<StreamTransport, never, Host> = Layer.effect(StreamTransport, make)
