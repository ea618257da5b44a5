/**
 * What a peer may take from this node, in numbers.
 */
import { maxMessageBytes } from "@gantry/protocol"

/**
 * Connections at once. In a rollout everyone asks the same few nodes: there is
 * room for thousands, at some 70 KiB each. Beyond, new ones are refused.
 */
export const maxConnections = 4_096

/**
 * New connections per second from one address. A whole demo cluster or the
 * nodes behind one gateway share an address; yet no single address can fill
 * the places for pending connections within {@link handshakeMillis}.
 */
export const maxConnectionsPerSecondPerHost = 128

/**
 * Inbound connections whose handshake is under way. Waiting costs them less
 * than being refused: that would send a requester to the next rank.
 */
export const maxPendingConnections = 2_048

/** Inbound connections that the kernel holds until this process takes them, for the moments in which it is busy. */
export const backlog = 4_096

/**
 * How long a connection may take to become secure, an address to be tried, and
 * a peer to say for which protocol its new stream is. That takes milliseconds,
 * but hundreds of them at once on a busy machine take seconds. Those who open
 * streams bring deadlines of their own; this one is for peers that stall.
 */
export const handshakeMillis = 15_000

/** Dials at once. Those to dead peers hold their places until a deadline: live peers must not wait for them. */
export const maxParallelDials = 256

/** Dials that wait for a place; more fail at once. A node may ask about many layers at three ranks each. */
export const maxDialQueueLength = 4_096

/**
 * How long an address may lead nowhere before the next one is tried as well.
 * That is the delay of "Happy Eyeballs" (RFC 8305, section 5): eight addresses
 * can be tried within the time of a call.
 */
export const nextAddressMillis = 250

/** Addresses tried for one peer: both IP versions on a few interfaces. */
export const maxAddressesPerPeer = 16

/**
 * A connection on which nothing moves for this long is closed, so that a node
 * does not stay connected to everyone it ever spoke to. A new one costs a few
 * milliseconds; polls for a running pull come every second.
 */
export const idleConnectionMillis = 30_000

/**
 * Streams at once in a connection, each way. Far above the caps of the
 * coordination server, so that those decide and are what peers get to see.
 */
export const maxStreamsPerConnection = 1_024

/**
 * What a peer may send in a stream before it is read: Yamux's initial window,
 * which is not allowed to grow. Within a data center it keeps a stream at
 * hundreds of megabytes per second.
 */
export const windowBytes = 262_144

/**
 * Unread bytes after which a stream is reset: one whole message may arrive
 * before the stream reaches its handler, and a window more before it is
 * paused.
 */
export const maxUnreadBytes = maxMessageBytes + 2 * windowBytes

/** How long a peer may take to answer before its connection is closed. */
export const farewellMillis = 250

/** How long stopping may take; connections get a second or so to close, all at once. */
export const stopMillis = 5_000

/**
 * A connection that was kept and in which a peer does not answer for this long
 * is no reason to wait: the peer is dialed at the addresses that it publishes
 * now. Answering that it speaks a protocol takes a peer no thought; the time of
 * a call, two seconds, has to do for the dial as well.
 */
export const silentMillis = 500

/**
 * A connection that has left streams unanswered for this long is taken for
 * dead. Peers that lose power or the network do not say so. One that replaced
 * another is given the same time: the peer may just be busy.
 */
export const deadConnectionMillis = 10_000

/** A stream that was given up sooner than this says nothing about the connection. */
export const patientMillis = 1_000

/** How long a stream that was closed waits for the peer to end its side. */
export const lingerMillis = 1_000
