/**
 * The connections of a node, one kept for each peer.
 */
import { setImmediate } from "node:timers/promises"
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import type { PeerId } from "@gantry/protocol"
import type { Connection, Libp2p, Stream } from "@libp2p/interface"
import { peerIdFromString } from "@libp2p/peer-id"
import { type Multiaddr, multiaddr } from "@multiformats/multiaddr"
import { type Dialing, dialInTurn } from "./dialing.ts"
import { deadConnectionMillis, maxAddressesPerPeer, maxStreamsPerConnection, patientMillis } from "./limits.ts"

/** A stream of which nothing has been sent yet. */
export interface Opened {
  readonly stream: Stream
  readonly connection: Connection
  /** The connection was there before, and may be dead without anyone having noticed. */
  readonly isKept: boolean
}

/**
 * Finds connections to peers, makes them where there are none, and learns which
 * of them are dead. Times are in milliseconds of the monotonic clock.
 */
export interface ConnectionPool {
  /** Opens a stream in the connection that is kept for the peer, or in a new one. */
  readonly open: (peer: PeerAddress, protocol: string, dialing: Dialing) => Promise<Opened>
  /**
   * Opens a stream in another connection than the one that failed. It is made
   * now if the peer has addresses, and kept from then on.
   */
  readonly openElsewhere: (
    peer: PeerAddress,
    protocol: string,
    failed: Connection,
    dialing: Dialing,
    now: number
  ) => Promise<Opened>
  /**
   * Whether the peer of a silent connection should be dialed: not without
   * addresses, and not if that was just done. A busy peer is silent too, and
   * more connections do not make it faster.
   */
  readonly isReplaceable: (peer: PeerAddress, connection: Connection, now: number) => boolean
  /** The peer has answered in the connection. */
  readonly answered: (connection: Connection) => void
  /** A stream was given up before the peer answered; a connection that was silent for too long is ended. */
  readonly unanswered: (connection: Connection, askedAt: number, now: number) => void
}

/** The first addresses that can be this peer's, each with its id, so that nobody else is accepted there. */
const addressesOf = ({ addresses, peerId }: PeerAddress): Array<Multiaddr> =>
  addresses.slice(0, maxAddressesPerPeer).flatMap((text) => {
    try {
      const address = multiaddr(text)
      const named = address.getComponents().findLast(({ name }) => name === "p2p")?.value
      if (named === undefined) return [address.encapsulate(`/p2p/${peerId}`)]
      return named === peerId || peerIdFromString(named).toString() === peerId ? [address] : []
    } catch {
      return []
    }
  })

/** A connection may have ended while nobody looked, and show it only when it is used, and then used again. */
const maxAttempts = 3

/** What js-libp2p throws for a connection in which no stream can be opened any more. */
const isOver = (cause: unknown): cause is Error =>
  cause instanceof Error && (cause.name === "ConnectionClosedError" || cause.name === "MuxerClosedError")

export const make = (node: Libp2p): ConnectionPool => {
  const kept = new Map<PeerId, Connection>()
  /** Whose dials were given up in this turn of the event loop. */
  const givenUp = new Set<PeerId>()
  /** Since when connections have left proposals unanswered. */
  const silentSince = new WeakMap<Connection, number>()
  /** When connections took the place of others. */
  const replacedAt = new WeakMap<Connection, number>()

  const keep = (peerId: PeerId, connection: Connection) => {
    if (kept.get(peerId) === connection) return
    kept.set(peerId, connection)
    connection.addEventListener("close", () => {
      if (kept.get(peerId) === connection) kept.delete(peerId)
    })
  }

  const findKept = (peerId: PeerId): Connection | undefined => {
    const connection = kept.get(peerId)
    return connection?.status === "open" ? connection : undefined
  }

  /** Any connection that stands; the peer may have opened one. */
  const findStanding = (peerId: PeerId): Connection | undefined =>
    node.getConnections(peerIdFromString(peerId)).find(({ status }) => status === "open")

  const dial = async (peer: PeerAddress, dialing: Dialing): Promise<Connection> => {
    const { signal } = dialing
    // Such a dial would fail whoever joins it; it leaves the queue within the turn.
    if (givenUp.has(peer.peerId)) await setImmediate()
    signal.addEventListener("abort", () => {
      givenUp.add(peer.peerId)
      void setImmediate().then(() => givenUp.delete(peer.peerId))
    })
    const addresses = addressesOf(peer)
    if (addresses.length > 1) return dialInTurn(node, peer.peerId, addresses, dialing)
    // Without force it would give back a connection that stands, whatever is wrong with it.
    return node.dial(addresses[0] ?? peerIdFromString(peer.peerId), { signal, force: true })
  }

  const newStream = async (connection: Connection, protocol: string, signal: AbortSignal): Promise<Stream> => {
    try {
      const limit = maxStreamsPerConnection
      return await connection.newStream(protocol, { signal, negotiateFully: false, maxOutboundStreams: limit })
    } catch (cause) {
      // No stream can be opened in it, yet js-libp2p would go on to use it.
      if (isOver(cause)) connection.abort(cause)
      throw cause
    }
  }

  /** Opens a stream in the connection that is found, or else in a new one. */
  const openIn = async (
    find: () => Connection | undefined,
    peer: PeerAddress,
    protocol: string,
    dialing: Dialing
  ): Promise<Opened> => {
    if (node.status !== "started") throw new Error("this host is stopped")
    for (let attempt = 1; ; attempt++) {
      const found = find()
      const connection = found ?? (await dial(peer, dialing))
      try {
        const stream = await newStream(connection, protocol, dialing.signal)
        keep(peer.peerId, connection)
        return { stream, connection, isKept: found !== undefined }
      } catch (cause) {
        if (connection.status === "open" || attempt === maxAttempts) throw cause
      }
    }
  }

  return {
    open: (peer, protocol, dialing) =>
      openIn(() => findKept(peer.peerId) ?? findStanding(peer.peerId), peer, protocol, dialing),

    async openElsewhere(peer, protocol, failed, dialing, now) {
      const other = (connection: Connection | undefined) => (connection === failed ? undefined : connection)
      const isDialable = addressesOf(peer).length > 0
      const find = () => other(findKept(peer.peerId)) ?? (isDialable ? undefined : other(findStanding(peer.peerId)))
      const opened = await openIn(find, peer, protocol, dialing)
      if (!opened.isKept) replacedAt.set(opened.connection, now)
      return opened
    },

    isReplaceable: (peer, connection, now) =>
      now - (replacedAt.get(connection) ?? Number.NEGATIVE_INFINITY) >= deadConnectionMillis &&
      addressesOf(peer).length > 0,

    answered: (connection) => void silentSince.delete(connection),

    unanswered(connection, askedAt, now) {
      if (now - askedAt < patientMillis) return
      const since = silentSince.get(connection) ?? askedAt
      silentSince.set(connection, since)
      if (now - since >= deadConnectionMillis) connection.abort(new Error("the peer does not answer"))
    }
  }
}
