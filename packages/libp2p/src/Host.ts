/**
 * This node on the libp2p network.
 */
import { noise } from "@chainsafe/libp2p-noise"
import { yamux } from "@chainsafe/libp2p-yamux"
import { Member, type NodeId, type PeerId } from "@gantry/protocol"
import { identify } from "@libp2p/identify"
import type { Connection, Libp2p } from "@libp2p/interface"
import { tcp } from "@libp2p/tcp"
import { multiaddr } from "@multiformats/multiaddr"
import { BlackHoleDatastore } from "datastore-core/black-hole"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { createLibp2p } from "libp2p"
import { Identity } from "./Identity.ts"
import { flawOf, published } from "./internal/announcing.ts"
import { withLibp2p } from "./internal/libp2pOf.ts"
import * as Limits from "./internal/limits.ts"
import { coalesceWrites } from "./internal/patches/coalesceWrites.ts"
import { deferSelection } from "./internal/patches/deferSelection.ts"
import { forgetPeers } from "./internal/patches/forgetPeers.ts"
import { keepUnreadBytes } from "./internal/patches/keepUnreadBytes.ts"
import { limitFrameSize } from "./internal/patches/limitFrameSize.ts"
import { listConnections } from "./internal/patches/listConnections.ts"
import { silenceLoggers } from "./internal/patches/silenceLoggers.ts"

/**
 * Why there is no host. `BadAddress`: an address is no multiaddr.
 * `CannotAnnounce`: nobody could reach the host at an address that it is to
 * announce. `CannotListen`: an address cannot be listened on.
 */
export class HostError extends Schema.TaggedError<HostError>("@gantry/libp2p/HostError")("HostError", {
  reason: Schema.Literals(["BadAddress", "CannotAnnounce", "CannotListen"]),
  addresses: Schema.Array(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const why = this.cause instanceof Error ? this.cause.message : String(this.cause)
    const addresses = this.addresses.join(", ")
    return {
      BadAddress: `${addresses} is not a multiaddr: ${why}`,
      CannotAnnounce: `cannot announce ${addresses}: ${why}; set announce to where peers reach this node, as in /ip4/192.0.2.1/tcp/4001`,
      CannotListen: `cannot listen: ${why}`
    }[this.reason]
  }
}

/** Where a host is to be found, and how much company it bears. A number or duration that is not positive is ignored. */
export interface Options {
  /** TCP multiaddrs to listen on, for example `/ip4/0.0.0.0/tcp/4001`; port 0 takes a free one; none for a node that only dials. */
  readonly listen: ReadonlyArray<string>
  /**
   * TCP multiaddrs at which others reach this node, for example behind a gateway
   * or a published port. By default those it listens on, where `0.0.0.0` and `::`
   * stand for the addresses of all interfaces; loopback is told only if there is
   * nothing else.
   */
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
 * thousands. It keeps no addresses of peers: who dials brings them. Peers that
 * ask learn its own, by libp2p's identify (protocol, section 9). A connection on
 * which nothing moves for a while is closed.
 */
export class Host extends Context.Service<
  Host,
  {
    readonly peerId: PeerId
    /** Where others reach this node, to be published; each with `/p2p/<id>`. */
    readonly multiaddrs: ReadonlyArray<string>
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
    addresses:
      options.announce === undefined || options.announce.length === 0
        ? { listen: [...options.listen], announceFilter: published }
        : { listen: [...options.listen], announce: [...options.announce] },
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
          (muxers) => limitFrameSize(muxers, Limits.windowBytes),
          coalesceWrites,
          deferSelection,
          keepUnreadBytes
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
    ...silenceLoggers,
    services: {
      forgetPeers,
      listConnections,
      // A peer that dials us brings all that we need to know of it.
      identify: identify({ runOnConnectionOpen: false })
    }
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

const parse = (address: string) =>
  Effect.try({
    try: () => multiaddr(address),
    catch: (cause) => new HostError({ reason: "BadAddress", addresses: [address], cause })
  })

const checkAnnounced = Effect.fnUntraced(function* (text: string, peerId: PeerId) {
  const flaw = flawOf(yield* parse(text), peerId)
  if (flaw !== undefined) {
    return yield* new HostError({ reason: "CannotAnnounce", addresses: [text], cause: new Error(flaw) })
  }
})

/** One line for each address, out of a message that has a stack trace for each. */
const concise = (cause: unknown) => {
  const lines = cause instanceof Error ? (cause.message.match(/^ {2}\/.*$/gm) ?? []) : []
  return lines.length > 0 ? new Error(lines.map((line) => line.trim()).join("; "), { cause }) : cause
}

/** A running host; the scope stops it. */
export const make: (options: Options) => Effect.Effect<Host["Service"], HostError, Identity | Scope.Scope> =
  Effect.fnUntraced(function* (options) {
    const identity = yield* Identity
    yield* Effect.forEach(options.listen, parse)
    yield* Effect.forEach(options.announce ?? [], (address) => checkAnnounced(address, identity.peerId))
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
    const multiaddrs = node.getMultiaddrs().map((address) => address.toString())
    return withLibp2p(Host.of({ peerId: identity.peerId, multiaddrs }), node)
  })

/** This node as others should list it: where its host is, and what the host does not know. */
export const member = (node: {
  readonly nodeId: NodeId
  /** `host:port` of the endpoint that hands out blobs. */
  readonly contentAddress?: string | undefined
  readonly zone?: string | undefined
}): Effect.Effect<Member, never, Host> =>
  Effect.map(
    Host,
    ({ multiaddrs, peerId }) =>
      new Member({
        nodeId: node.nodeId,
        peerId: Option.some(peerId),
        addresses: multiaddrs,
        contentAddress: Option.fromUndefinedOr(node.contentAddress),
        zone: Option.fromUndefinedOr(node.zone)
      })
  )

/** Starts a host; its scope stops it, within seconds and whatever peers do. */
export const layer = (options: Options): Layer.Layer<Host, HostError, Identity> => Layer.effect(Host, make(options))
