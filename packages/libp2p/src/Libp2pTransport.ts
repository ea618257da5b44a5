/**
 * Streams between peers over libp2p.
 */
import { setImmediate } from "node:timers/promises"
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import { type DuplexStream, OpenError, StreamTransport } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import type { Connection, Libp2p, Stream } from "@libp2p/interface"
import { peerIdFromString } from "@libp2p/peer-id"
import { type Multiaddr, multiaddr } from "@multiformats/multiaddr"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Host } from "./Host.ts"
import { makeDuplex } from "./internal/duplex.ts"
import { deadConnectionMillis, maxStreamsPerConnection, patientMillis } from "./internal/limits.ts"
import { makeLinger } from "./internal/lingering.ts"
import { agree, EndedEarlyError, termsOf } from "./internal/negotiation.ts"

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

/** The addresses that can be this peer's, each with its id, so that nobody else is accepted there. */
const addressesOf = ({ addresses, peerId }: PeerAddress): Array<Multiaddr> =>
  addresses.flatMap((text) => {
    try {
      const address = multiaddr(text)
      const named = address.getComponents().findLast(({ name }) => name === "p2p")?.value
      if (named === undefined) return [address.encapsulate(`/p2p/${peerId}`)]
      return named === peerId || peerIdFromString(named).toString() === peerId ? [address] : []
    } catch {
      return []
    }
  })

const nameOf = (cause: unknown) => (cause instanceof Error ? cause.name : undefined)

/** A connection may have ended while nobody looked, and show it only when it is used, and then used again. */
const maxAttempts = 3

/** A stream on which the peer has agreed to the protocol, and what it has said since. */
interface Opened {
  readonly stream: Stream
  readonly connection: Connection
  readonly received: Uint8Array
}

/**
 * Opens streams over connections of a node, and remembers which of them leads
 * to whom.
 */
const makeOpener = (node: Libp2p) => {
  const connections = new Map<PeerId, Connection>()
  const terms = new Map<string, Uint8Array>()
  /** Whose dials were given up in this turn of the event loop. */
  const givenUp = new Set<PeerId>()

  const knownTermsOf = (protocol: string): Uint8Array => {
    const known = terms.get(protocol) ?? termsOf(protocol)
    terms.set(protocol, known)
    return known
  }

  const connect = async (peer: PeerAddress, signal: AbortSignal): Promise<Connection> => {
    // Such a dial would fail whoever joins it; it leaves the queue within the turn.
    if (givenUp.has(peer.peerId)) await setImmediate()
    signal.addEventListener("abort", () => {
      givenUp.add(peer.peerId)
      void setImmediate().then(() => givenUp.delete(peer.peerId))
    })
    const addresses = addressesOf(peer)
    return node.dial(addresses.length > 0 ? addresses : peerIdFromString(peer.peerId), { signal })
  }

  const connectionTo = async (peer: PeerAddress, signal: AbortSignal): Promise<Connection> => {
    const known = connections.get(peer.peerId)
    if (known?.status === "open") return known
    const connection = await connect(peer, signal)
    if (connections.get(peer.peerId) === connection) return connection
    connections.set(peer.peerId, connection)
    connection.addEventListener("close", () => {
      if (connections.get(peer.peerId) === connection) connections.delete(peer.peerId)
    })
    return connection
  }

  /**
   * Connects to the peer, if need be, and opens a stream with its first bytes;
   * `ask` hears of the connection first. A connection that turns out to have
   * ended is replaced.
   */
  return async (
    peer: PeerAddress,
    protocol: string,
    first: Uint8Array,
    signal: AbortSignal,
    ask: (connection: Connection) => void
  ): Promise<Opened> => {
    if (node.status !== "started") throw new Error("this host is stopped")
    for (let attempt = 1; ; attempt++) {
      const connection = await connectionTo(peer, signal)
      ask(connection)
      try {
        const stream = await connection.newStream(protocol, {
          signal,
          negotiateFully: false,
          maxOutboundStreams: maxStreamsPerConnection
        })
        return { stream, connection, received: await agree(stream, knownTermsOf(protocol), first, signal) }
      } catch (cause) {
        const name = nameOf(cause)
        // No stream can be opened in it, yet js-libp2p would go on to use it.
        if (name === "ConnectionClosedError" || name === "MuxerClosedError") connection.abort(cause as Error)
        const isEnded = connection.status !== "open" || cause instanceof EndedEarlyError
        if (!isEnded || attempt === maxAttempts) throw cause
      }
    }
  }
}

/** One error that says what happened, at each address. */
const flatten = (cause: unknown) =>
  cause instanceof AggregateError ? new Error(cause.errors.map(String).join("; "), { cause }) : cause

const openReasons: Readonly<Record<string, OpenError["reason"]>> = {
  UnsupportedProtocolError: "UnsupportedProtocol",
  StreamResetError: "Reset",
  EndedEarlyError: "Reset"
}

const openError = (peerId: PeerId, cause: unknown) =>
  new OpenError({
    reason: openReasons[nameOf(cause) ?? ""] ?? "Unreachable",
    peerId,
    cause: flatten(cause)
  })

/** Whether somebody still reads from the stream or writes to it, on this side. */
const isInUse = ({ readStatus, writeStatus }: Stream) =>
  readStatus === "readable" || readStatus === "paused" || writeStatus === "writable"

const make: Effect.Effect<StreamTransport["Service"], never, Host | Scope.Scope> = Effect.gen(function* () {
  const { node } = yield* Host
  const scope = yield* Effect.scope
  const linger = yield* makeLinger
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const { streams } of node.getConnections()) {
        for (const stream of streams.filter(isInUse)) stream.abort(new Error("this node is leaving"))
      }
    })
  )
  const openStream = makeOpener(node)
  const remotePeerOf = makeRemotePeerOf()
  /** Since when connections have left openings unanswered, in milliseconds. */
  const silentSince = new WeakMap<Connection, number>()

  /** Ends a connection that has been silent for too long: nothing else tells that a peer has lost its power. */
  const doubt = (connection: Connection, askedAt: number) =>
    Effect.map(MonotonicClock.millis, (now) => {
      if (now - askedAt < patientMillis) return
      const since = silentSince.get(connection) ?? askedAt
      silentSince.set(connection, since)
      if (now - since >= deadConnectionMillis) connection.abort(new Error("the peer does not answer"))
    })

  const open: StreamTransport["Service"]["open"] = (peer, protocol, first = new Uint8Array()) =>
    Effect.clockWith((clock) => {
      let asked: { readonly connection: Connection; readonly at: number } | undefined
      let opened: DuplexStream | undefined

      const opening = Effect.callback<DuplexStream, OpenError>((resume, signal) => {
        openStream(peer, protocol, first, signal, (connection) => {
          asked = { connection, at: MonotonicClock.millisUnsafe(clock) }
        }).then(
          ({ connection, received, stream }) => {
            if (signal.aborted) return stream.abort(new Error("nobody waits for the stream any more"))
            silentSince.delete(connection)
            opened = makeDuplex(stream, remotePeerOf(connection), linger, received)
            resume(Effect.succeed(opened))
          },
          (cause) => {
            if (asked !== undefined && !signal.aborted) silentSince.delete(asked.connection)
            resume(Effect.failSync(() => openError(peer.peerId, cause)))
          }
        )
      })

      return Effect.uninterruptibleMask((restore) =>
        restore(opening).pipe(
          Effect.onError((cause) => {
            if (opened !== undefined) return opened.reset
            return asked !== undefined && Cause.hasInterrupts(cause) ? doubt(asked.connection, asked.at) : Effect.void
          }),
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
 * their streams; one that stays silent is given up after ten seconds, and the
 * next opening dials anew. The end of the layer resets the streams that are
 * still in use.
 */
export const layer: Layer.Layer<StreamTransport, never, Host> = Layer.effect(StreamTransport, make)
