/**
 * A server under test, its peers, and raw streams to it, over any transport.
 */
import * as CoordClient from "@gantry/coord/CoordClient"
import * as CoordConfig from "@gantry/coord/CoordConfig"
import * as CoordServer from "@gantry/coord/CoordServer"
import * as Inflight from "@gantry/coord/Inflight"
import * as Members from "@gantry/coord/Members"
import type { MembersView } from "@gantry/coord/MembersView"
import * as MembersViews from "@gantry/coord/MembersView"
import * as NegativeCache from "@gantry/coord/NegativeCache"
import * as PeerResolver from "@gantry/coord/PeerResolver"
import * as Pump from "@gantry/coord/Pump"
import * as Store from "@gantry/coord/Store"
import { type DuplexStream, StreamTransport } from "@gantry/coord/StreamTransport"
import {
  decodeMessage,
  encodeFrame,
  encodeMessage,
  Member,
  type Message,
  makeFrameReader,
  NodeId,
  protocolId
} from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { Fault } from "../MemoryNetwork.ts"
import * as RecordingMetrics from "../RecordingMetrics.ts"

/** A peer on the network under test. */
export interface Peer {
  readonly address: PeerResolver.PeerAddress
  readonly transport: StreamTransport["Service"]
}

/** The network under test. */
export class Peers extends Context.Service<
  Peers,
  {
    /** A new peer with an identity of its own, until the scope closes. */
    readonly join: Effect.Effect<Peer, never, Scope.Scope>
  }
>()("@gantry/testkit/Peers") {}

/**
 * What goes wrong on the way to a peer, over connections that others make to
 * it. Some of it can be healed; what was held back goes on then.
 */
export class PeerFaults extends Context.Service<
  PeerFaults,
  {
    /** Nothing that the peer sends arrives, though it gets what is sent to it. */
    readonly mute: (peer: Peer) => Effect.Effect<Fault>
    /** Nothing gets to the peer or away from it, and nobody is told. */
    readonly isolate: (peer: Peer) => Effect.Effect<Fault>
    /** Ends the connections to the peer, as both ends notice. New ones can be made. */
    readonly sever: (peer: Peer) => Effect.Effect<void>
  }
>()("@gantry/testkit/PeerFaults") {}

/** The node id of the server under test. */
export const serverNode = NodeId.make("server")

/** A member behind a peer. */
export const memberOf = (nodeId: NodeId, peer?: Peer): Member =>
  new Member({
    nodeId,
    peerId: Option.map(Option.fromUndefinedOr(peer), ({ address }) => address.peerId),
    addresses: peer?.address.addresses ?? [],
    contentAddress: Option.none(),
    zone: Option.none()
  })

/** What differs from a server that has nothing, pulls nothing and belongs to no cluster. */
export interface ServerOptions {
  /** The server's own peer; a new one otherwise. */
  readonly peer?: Peer
  readonly config?: CoordConfig.Options
  readonly has?: Store.Store["Service"]["has"]
  readonly pull?: Pump.Pump["Service"]["pull"]
  readonly failed?: NegativeCache.NegativeEntry
  readonly view?: Effect.Effect<MembersView>
}

const layerServer = (peer: Peer, options: ServerOptions) =>
  CoordServer.layer.pipe(
    Layer.provideMerge(Inflight.layer),
    Layer.provide([
      Layer.succeed(StreamTransport, peer.transport),
      Layer.orDie(CoordConfig.layer(options.config)),
      Layer.succeed(Store.Store, { has: options.has ?? (() => Effect.succeed(false)) }),
      options.pull === undefined ? Pump.layerNone : Layer.succeed(Pump.Pump, { pull: options.pull }),
      Layer.mock(NegativeCache.NegativeCache, {
        lookup: () => Effect.succeed(Option.fromUndefinedOr(options.failed))
      }),
      Layer.mock(Members.Members, { self: serverNode, view: options.view ?? Effect.succeed(MembersViews.none) })
    ]),
    Layer.provideMerge(RecordingMetrics.layer),
    Layer.fresh
  )

/** A running server, and what there is to see of it. */
export interface ServerUnderTest {
  readonly peer: Peer
  readonly server: CoordServer.CoordServer["Service"]
  readonly inflight: Inflight.Inflight["Service"]
  /** The metrics that fired so far. */
  readonly counts: Effect.Effect<Record<string, number>>
}

/** Starts a server, until the scope closes. */
export const startServer = Effect.fnUntraced(function* (
  options: ServerOptions = {}
): Effect.fn.Return<ServerUnderTest, never, Peers | Scope.Scope> {
  const peers = yield* Peers
  const peer = options.peer ?? (yield* peers.join)
  const context = yield* Layer.build(layerServer(peer, options))
  return {
    peer,
    server: Context.get(context, CoordServer.CoordServer),
    inflight: Context.get(context, Inflight.Inflight),
    counts: Context.get(context, RecordingMetrics.RecordingMetrics).counts
  }
})

/** A client of its own peer, with the metrics that it counts. */
export interface ClientUnderTest {
  readonly client: CoordClient.CoordClient["Service"]
  readonly counts: Effect.Effect<Record<string, number>>
}

/** Starts a client that resolves node ids with the given resolver. */
export const startClient = Effect.fnUntraced(function* (options: {
  readonly config?: CoordConfig.Options
  readonly peer?: Peer
  readonly resolve?: PeerResolver.PeerResolver["Service"]["resolve"]
}): Effect.fn.Return<ClientUnderTest, never, Peers | Scope.Scope> {
  const peers = yield* Peers
  const peer = options.peer ?? (yield* peers.join)
  const context = yield* Layer.build(
    CoordClient.layer.pipe(
      Layer.provide([
        Layer.succeed(StreamTransport, peer.transport),
        Layer.orDie(CoordConfig.layer(options.config)),
        options.resolve === undefined
          ? PeerResolver.layerNone
          : Layer.succeed(PeerResolver.PeerResolver, { resolve: options.resolve })
      ]),
      Layer.provideMerge(RecordingMetrics.layer),
      Layer.fresh
    )
  )
  return {
    client: Context.get(context, CoordClient.CoordClient),
    counts: Context.get(context, RecordingMetrics.RecordingMetrics).counts
  }
})

/** How a raw stream ended: with these bytes and an end, or by a reset. */
export type Ending = { readonly _tag: "Closed"; readonly bytes: Uint8Array } | { readonly _tag: "Reset" }

/** A stream that ended in peace without a byte. */
export const silence: Ending = { _tag: "Closed", bytes: new Uint8Array() }

/** Opens a raw stream of the protocol; the scope ends it. */
export const openRaw = (from: Peer, to: Peer): Effect.Effect<DuplexStream, never, Scope.Scope> =>
  Effect.orDie(from.transport.open(to.address, protocolId))

/** Reads a raw stream to its end. */
export const readToEnd = (stream: DuplexStream): Effect.Effect<Ending> =>
  Effect.gen(function* () {
    const chunks: Array<Uint8Array> = []
    while (true) {
      const chunk = yield* stream.read
      if (Option.isNone(chunk)) return { _tag: "Closed" as const, bytes: new Uint8Array(Buffer.concat(chunks)) }
      chunks.push(chunk.value)
    }
  }).pipe(Effect.orElseSucceed(() => ({ _tag: "Reset" as const })))

/** Sends bytes on a stream of their own, ends our side, and reads to the end. */
export const sendRaw = (from: Peer, to: Peer, bytes: Uint8Array): Effect.Effect<Ending> =>
  Effect.scoped(
    Effect.gen(function* () {
      const stream = yield* openRaw(from, to)
      // A server that refuses may have ended the stream already; the ending tells.
      yield* Effect.ignore(Effect.andThen(stream.write(bytes), stream.closeWrite))
      return yield* readToEnd(stream)
    })
  )

/** The frame of a message. */
export const frameOf = (message: Message): Uint8Array => encodeFrame(encodeMessage(message))

/** The message in the only frame of an ending, if there is one. */
export const messageIn = (ending: Ending): Option.Option<Message> => {
  if (ending._tag === "Reset" || ending.bytes.length === 0) return Option.none()
  const body = Result.getOrThrow(makeFrameReader().push(ending.bytes))
  return Option.map(body, (bytes) => Result.getOrThrow(decodeMessage(bytes)))
}

/** Sends a message and gives the reply, if one comes. */
export const ask = (from: Peer, to: Peer, message: Message): Effect.Effect<Option.Option<Message>> =>
  Effect.map(sendRaw(from, to, frameOf(message)), messageIn)

/** Lets real I/O make progress; no time passes. */
export const ioTurn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Lets virtual time pass, with a turn of real I/O between steps, until the effect is done. */
export const whileTimePasses = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
  while (fiber.pollUnsafe() === undefined) {
    yield* TestClock.adjust("50 millis")
    yield* ioTurn
  }
  return yield* Fiber.join(fiber)
})
