/**
 * The libp2p identity of a peer, compared as an identity and not as text
 * (protocol, section 9).
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { base32 } from "multiformats/bases/base32"
import { base36 } from "multiformats/bases/base36"
import { base58btc } from "multiformats/bases/base58"
import { CID } from "multiformats/cid"
import * as Multihash from "multiformats/hashes/digest"

/** The multicodec code of `libp2p-key`, the only content a peer id may name. */
const libp2pKeyCode = 0x72

/** Generous for every key type: an Ed25519 id has 52 characters, an inlined RSA key under 800. */
const maxTextLength = 1024

const cidDecoder = base32.decoder.or(base36.decoder).or(base58btc.decoder)

const multihashOf = (text: string): Uint8Array => {
  if (text.startsWith("Qm") || text.startsWith("1")) {
    return Multihash.decode(base58btc.decode(`z${text}`)).bytes
  }
  const cid = CID.parse(text, cidDecoder)
  if (cid.version !== 1 || cid.code !== libp2pKeyCode) {
    throw new Error("not a libp2p key")
  }
  return cid.multihash.bytes
}

/**
 * Reads the text of a peer id in any form that libp2p writes: the base58
 * multihash or a CIDv1. The result is the base58 form, so equal identities are
 * equal strings.
 */
export const parsePeerId = (text: string): Option.Option<PeerId> => {
  if (text.length > maxTextLength) return Option.none()
  try {
    return Option.some(base58btc.encode(multihashOf(text)).slice(1) as PeerId)
  } catch {
    return Option.none()
  }
}

const isCanonical = (text: string): boolean =>
  Option.match(parsePeerId(text), { onNone: () => false, onSome: (peerId) => peerId === text })

/**
 * A peer id in its base58 form, for example `12D3KooW…`. Read foreign text
 * with {@link parsePeerId}.
 */
export const PeerId = Schema.String.check(
  Schema.makeFilter(isCanonical, { expected: "a libp2p peer id in its base58 form" })
).pipe(Schema.brand("PeerId"))
export type PeerId = typeof PeerId.Type
