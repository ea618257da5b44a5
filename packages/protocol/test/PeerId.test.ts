import { assert, describe, it } from "@effect/vitest"
import { PeerId, parsePeerId } from "@gantry/protocol"
import { Option, Schema } from "effect"
import { base16 } from "multiformats/bases/base16"
import { base32 } from "multiformats/bases/base32"
import { base36 } from "multiformats/bases/base36"
import { base58btc } from "multiformats/bases/base58"

/** An Ed25519 key, and a key that only its SHA-256 names. */
const ed25519 = "12D3KooWRawPbxPtP1eZ9uMxNTVZ4TSsjVd8KWuCj4qVkkkiRSqR"
const hashed = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"

const multihash = (peerId: string) => base58btc.decode(`z${peerId}`)
const cid = (peerId: string, codec = 0x72) => Uint8Array.from([0x01, codec, ...multihash(peerId)])
const encoded = (bytes: Uint8Array) => base58btc.encode(bytes).slice(1)
const canonical = (peerId: string) => Option.some(peerId)

describe("PeerId", () => {
  it.each([ed25519, hashed])("reads its own base58 form, %s", (peerId) => {
    assert.deepStrictEqual(parsePeerId(peerId), canonical(peerId))
    assert.isTrue(Schema.is(PeerId)(peerId))
  })

  it.each([ed25519, hashed])("reads every CIDv1 form of an identity as the same id, %s", (peerId) => {
    const forms = [base32.encode(cid(peerId)), base36.encode(cid(peerId)), base58btc.encode(cid(peerId))]
    assert.deepStrictEqual(
      forms.map(parsePeerId),
      forms.map(() => canonical(peerId))
    )
  })

  it("accepts only the base58 form as a value", () => {
    assert.isFalse(Schema.is(PeerId)(base32.encode(cid(ed25519))))
    assert.isFalse(Schema.is(PeerId)(base36.encode(cid(ed25519))))
  })

  it.each([
    ["nothing", ""],
    ["a node name", "node-1"],
    ["a single digit", "1"],
    ["characters outside base58", `${ed25519.slice(0, -1)}0`],
    ["a character too few", ed25519.slice(0, -1)],
    ["a character too many", `${ed25519}x`],
    ["space around it", ` ${ed25519} `],
    ["a multiaddr", `/p2p/${ed25519}`],
    ["another case", ed25519.toLowerCase()],
    ["a CID of a block instead of a key", base32.encode(cid(hashed, 0x70))],
    ["a CID in a base that peer ids do not come in", base16.encode(cid(ed25519))],
    ["a cut CID", base32.encode(cid(ed25519).slice(0, -1))],
    ["a CID with bytes behind it", base32.encode(Uint8Array.from([...cid(ed25519), 0]))],
    ["an empty identity", "11"],
    ["an identity that is no key", "15W"],
    [
      "an identity that says another length than it has",
      encoded(Uint8Array.of(0x00, 0x05, 0x08, 0x01, 0x12, 0x20, 0x00))
    ],
    ["a prefix without a CID", "bafz"],
    ["text outside ASCII", "12D3KooWé"],
    ["a megabyte of base58", `1${"z".repeat(1_048_576)}`],
    ["a megabyte of base32", `b${"a".repeat(1_048_576)}`]
  ])("refuses %s", (_, text) => {
    assert.deepStrictEqual(parsePeerId(text), Option.none())
    assert.isFalse(Schema.is(PeerId)(text))
  })
})
