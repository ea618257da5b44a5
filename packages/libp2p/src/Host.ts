/**
 * This node on the libp2p network.
 */
import { noise } from "@chainsafe/libp2p-noise"
import { yamux } from "@chainsafe/libp2p-yamux"
import type { PeerId } from "@gantry/protocol"
import type { Connection, Libp2p } from "@libp2p/interface"
import { tcp } from "@libp2p/tcp"
import { multiaddr } from "@multiformats/multiaddr"
import { BlackHoleDatastore } from "datastore-core/black-hole"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { createLibp2p } from "libp2p"
import { Identity } from "./Identity.ts"
import { boundFrames } from "./internal/frames.ts"
import { frugal } from "./internal/frugality.ts"
import { gatherFrames } from "./internal/gathering.ts"
import * as Limits from "./internal/limits.ts"
import { deferNegotiation } from "./internal/negotiation.ts"

/** Why there is no host. `BadAddress`: an address is no multiaddr. `CannotListen`: an address cannot be listened on. */
export class HostError extends Schema.TaggedError<HostError>("@gantry/libp2p/HostError")("HostError", {
  reason: Schema.Literals(["BadAddress", "CannotListen"]),
  addresses: Schema.Array(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const why = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return this.reason === "BadAddress"
      ? `${this.addresses.join(", ")} is not a multiaddr: ${why}`
      : `cannot listen: ${why}`
  }
}

/** Where a host is to be found, and how much company it bears. A number or duration that is not positive is ignored. */
export interface Options {
  /** TCP multiaddrs to listen on, for example `/ip4/0.0.0.0/tcp/4001`; port 0 takes a free one; none for a node that only dials. */
  readonly listen: ReadonlyArray<string>
  /** Multiaddrs to tell others instead of those it listens on. */
  readonly announce?: ReadonlyArray<string> | undefined
  /** Connections at once; 4096. */
  readonly maxConnections?: number | undefined
  /** New connections per second from one address; 128. */
  readonly maxConnectionsPerSecondPerHost?: number | undefined
  /** A connection on which nothing moves for this long is closed; 30 seconds. */
  readonly idleTimeout?: Duration.Input | undefined
}

/**
 * A running libp2p node: TCP, Noise and Yamux, with limits for a cluster of
 * thousands. It keeps no addresses of peers: who dials brings them. A
 * connection on which nothing moves for a while is closed.
 */
export class Host extends Context.Service<
  Host,
  {
    readonly peerId: PeerId
    /** Where others reach this node, each with `/p2p/<id>`. */
    readonly multiaddrs: ReadonlyArray<string>
    /** The js-libp2p node, for the transport alone. */
    readonly node: Libp2p
  }
>()("@gantry/libp2p/Host") {}

/** Whether or not a peer speaks it, every peer answers to it. */
const pingProtocol = "/ipfs/ping/1.0.0"

/** The longest time that a timer of Node.js can take. */
const maxTimerMillis = 2 ** 31 - 1

/** As everywhere, a setting that is not positive is none. */
const positive = (value: number | undefined, otherwise: number) =>
  value !== undefined && value > 0 ? value : otherwise

const create = (options: Options, identity: Identity["Service"]) => {
  const idleTimeout = positive(Duration.toMillis(options.idleTimeout ?? 0), Limits.idleConnectionMillis)
  const idleMillis = Math.min(idleTimeout, maxTimerMillis)
  return createLibp2p({
    start: false,
    privateKey: Redacted.value(identity.privateKey),
    addresses: { listen: [...options.listen], announce: [...(options.announce ?? [])] },
    transports: [
      tcp({
        backlog: Limits.backlog,
        inboundSocketInactivityTimeout: idleMillis,
        outboundSocketInactivityTimeout: idleMillis
      })
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [
      () =>
        pipe(
          yamux({
            // Its pings would keep every connection from being idle.
            enableKeepAlive: false,
            maxInboundStreams: Limits.maxStreamsPerConnection,
            maxOutboundStreams: Limits.maxStreamsPerConnection,
            maxEarlyStreams: Limits.maxStreamsPerConnection,
            streamOptions: {
              initialStreamWindowSize: Limits.windowBytes,
              maxStreamWindowSize: Limits.windowBytes,
              maxReadBufferLength: Limits.maxUnreadBytes
            }
          })(),
          (muxers) => boundFrames(muxers, Limits.windowBytes),
          gatherFrames,
          deferNegotiation
        )
    ],
    // A store of all peers ever met would grow without end, and give out addresses that are no longer theirs.
    datastore: new BlackHoleDatastore(),
    // It pings all connections in the same moment, which thousands of them would not survive; see the transport.
    connectionMonitor: { enabled: false },
    // The TCP transport would also connect to sockets in the file system of this machine.
    connectionGater: { denyDialMultiaddr: (address) => !address.getComponents().some(({ name }) => name === "tcp") },
    connectionManager: {
      maxConnections: positive(options.maxConnections, Limits.maxConnections),
      inboundConnectionThreshold: positive(
        options.maxConnectionsPerSecondPerHost,
        Limits.maxConnectionsPerSecondPerHost
      ),
      maxIncomingPendingConnections: Limits.maxPendingConnections,
      inboundUpgradeTimeout: Limits.handshakeMillis,
      inboundStreamProtocolNegotiationTimeout: Limits.handshakeMillis,
      addressDialTimeout: Limits.handshakeMillis,
      maxParallelDials: Limits.maxParallelDials,
      maxDialQueueLength: Limits.maxDialQueueLength,
      maxPeerAddrsToDial: Limits.maxAddressesPerPeer
    },
    ...frugal
  })
}

/**
 * Closes a connection once the peer has answered, and so has taken what was
 * sent to it before. A closed socket would lose what its peer has not read.
 */
const closeConnection = async (connection: Connection) => {
  const farewell = { signal: AbortSignal.timeout(Limits.farewellMillis) }
  const answered = connection.newStream(pingProtocol, farewell)
  await answered.then((stream) => stream.abort(new Error("this node is leaving"))).catch(() => {})
  // The promise does not always notice that the connection is closed; the event does.
  const closed = new Promise((resolve) => connection.addEventListener("close", resolve))
  if (connection.status === "open") await Promise.race([connection.close().catch(() => {}), closed])
}

/** Connections are closed first; the node by itself would cut off those that its listener took. */
const stop = async (node: Libp2p) => {
  await Promise.all(node.getConnections().map(closeConnection))
  await node.stop()
}

const checkAddresses = (addresses: ReadonlyArray<string>) =>
  Effect.forEach(
    addresses,
    (address) =>
      Effect.try({
        try: () => multiaddr(address),
        catch: (cause) => new HostError({ reason: "BadAddress", addresses: [address], cause })
      }),
    { discard: true }
  )

/** One line for each address, out of a message that has a stack trace for each. */
const concise = (cause: unknown) => {
  const lines = cause instanceof Error ? (cause.message.match(/^ {2}\/.*$/gm) ?? []) : []
  return lines.length > 0 ? new Error(lines.map((line) => line.trim()).join("; "), { cause }) : cause
}

/** A running host; the scope stops it. */
export const make: (options: Options) => Effect.Effect<Host["Service"], HostError, Identity | Scope.Scope> =
  Effect.fnUntraced(function* (options) {
    const identity = yield* Identity
    yield* checkAddresses([...options.listen, ...(options.announce ?? [])])
    const node = yield* Effect.promise(() => create(options, identity))
    yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: async () => node.start(),
        catch: (cause) => new HostError({ reason: "CannotListen", addresses: options.listen, cause: concise(cause) })
      }),
      () =>
        Effect.promise(() => stop(node)).pipe(
          Effect.timeoutOrElse({
            duration: Limits.stopMillis,
            orElse: () => Effect.logWarning("the libp2p host did not stop in time")
          })
        )
    )
    return Host.of({
      peerId: identity.peerId,
      multiaddrs: node.getMultiaddrs().map((address) => address.toString()),
      node
    })
  })

/** Starts a host; its scope stops it, within seconds and whatever peers do. */
export const layer = (options: Options): Layer.Layer<Host, HostError, Identity> => Layer.effect(Host, make(options))
