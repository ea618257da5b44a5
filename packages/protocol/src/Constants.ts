/**
 * What every peer must agree on.
 */

/** The libp2p protocol of the coordination streams; one request and one reply each. */
export const protocolId = "/gantry/coord/1.0.0"

/**
 * The largest body of a frame, in bytes, both ways. A query is tiny and a batch
 * of 256 digests has 20 KiB: 1 MiB is far beyond both and keeps memory bounded
 * (protocol, section 1).
 */
export const maxMessageBytes = 1_048_576

/** The most bytes that a frame's length prefix may take: 63 bits, seven to a byte. */
export const maxVarintBytes = 9

/**
 * The most digests in one please_pull. Above what real images have in one
 * manifest, and far below what 1 MiB could carry (protocol, section 4).
 */
export const maxDigestsPerPleasePull = 256

/** How many of the best-ranked members a requester asks (parts, asking for a digest). */
export const queriedRanks = 3

/**
 * The largest config or layer, in bytes: 64 GiB. Above any image that is in
 * use, and the end of a registry or peer that never stops sending. What one
 * node stores the others must be able to take from it.
 */
export const maxBlobBytes = 64 * 1024 ** 3
