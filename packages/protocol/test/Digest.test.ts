import { assert, describe, it } from "@effect/vitest"
import { Digest, digestHex, isDigest } from "@gantry/protocol"
import { Option, Schema } from "effect"

const hex = "0123456789abcdef".repeat(4)
const decode = Schema.decodeUnknownOption(Digest)

describe("Digest", () => {
  it("is sha256: and 64 lower-case hexadecimal characters", () => {
    assert.isTrue(isDigest(`sha256:${hex}`))
    assert.deepStrictEqual(decode(`sha256:${hex}`), Option.some(Digest.make(`sha256:${hex}`)))
  })

  it.each([
    ["nothing", ""],
    ["the prefix alone", "sha256:"],
    ["63 characters", `sha256:${hex.slice(1)}`],
    ["65 characters", `sha256:${hex}0`],
    ["upper-case characters", `sha256:${hex.toUpperCase()}`],
    ["one upper-case character", `sha256:A${hex.slice(1)}`],
    ["an upper-case prefix", `SHA256:${hex}`],
    ["another algorithm", `sha512:${hex}${hex}`],
    ["no algorithm", hex],
    ["a character that is not hexadecimal", `sha256:g${hex.slice(1)}`],
    ["a digit of another script", `sha256:\u0660${hex.slice(1)}`],
    ["space before it", ` sha256:${hex}`],
    ["space behind it", `sha256:${hex} `],
    ["a line feed behind it", `sha256:${hex}\n`],
    ["a line of its own", `x\nsha256:${hex}\nx`],
    ["a NUL behind it", `sha256:${hex}\0`],
    ["a path behind it", `sha256:${hex}/..`]
  ])("is refused with %s", (_, text) => {
    assert.isFalse(isDigest(text))
    assert.deepStrictEqual(decode(text), Option.none())
  })

  it("names the blob's file by its hexadecimal characters", () => {
    assert.strictEqual(digestHex(Digest.make(`sha256:${hex}`)), hex)
  })
})
