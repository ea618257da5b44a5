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

/** Multicodec codes of the two multihashes that libp2p uses for peer ids. */
const identityCode = 0x00
const sha256Code = 0x12

/** Generous for every key type: an Ed25519 id has 52 characters, an inlined RSA key under 800. */
const maxTextLength = 1024

const cidDecoder = base32.decoder.or(base36.decoder).or(base58btc.decoder)

/** A hash of a key, or a key so short that it stands for itself: protobuf with a type and as many bytes as it says. */
const namesKey = ({ code, digest, size }: Multihash.Digest<number, number>): boolean => {
  if (code === sha256Code) return size === 32
  return code === identityCode && digest[0] === 0x08 && digest[2] === 0x12 && digest[3] === size - 4 && size > 4
}

const multihashOf = (text: string): Multihash.Digest<number, number> => {
  if (text.startsWith("Qm") || text.startsWith("1")) {
    return Multihash.decode(base58btc.decode(`z${text}`))
  }
  const cid = CID.parse(text, cidDecoder)
  if (cid.version !== 1 || cid.code !== libp2pKeyCode) {
    throw new Error("not a libp2p key")
  }
  return cid.multihash
}

/**
 * Reads the text of a peer id in any form that libp2p writes: the base58
 * multihash or a CIDv1. The result is the base58 form, so equal identities are
 * equal strings.
 */
export const parsePeerId = (text: string): Option.Option<PeerId> => {
  if (text.length > maxTextLength) return Option.none()
  try {
    const multihash = multihashOf(text)
    return namesKey(multihash) ? Option.some(base58btc.encode(multihash.bytes).slice(1) as PeerId) : Option.none()
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
