/**
 * New inputs from those that are known.
 */
import { encodeFrame } from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import { headerBytes } from "./Input.ts"

/** Longest input, in bytes: room for more digests than the server takes. */
export const maxBytes = 1_024

/** A number from 0 up to, and without, `below`. */
export type Draw = (below: number) => number

const hex = (text: string) => new Uint8Array(Buffer.from(text, "hex"))
const ascii = (text: string) => new Uint8Array(Buffer.from(text))

/** What chance would hardly write. */
const tokens: ReadonlyArray<Uint8Array> = [
  // Tags of the envelope and of its messages.
  ...["08", "0a", "10", "12", "18", "1a", "20", "22", "28", "2a", "30", "32", "38"].map(hex),
  // Groups and fixed-size fields, which the schema does not have.
  ...["0b", "0c", "0d", "09", "7b", "7c"].map(hex),
  // Lengths: none, not minimal, 1 MiB and one more, 2^32, nine and ten bytes.
  ...["00", "8000", "808040", "818040", "8080808010", "ffffffffffffffff7f", "ffffffffffffffffff01"].map(hex),
  // Timestamps: Go's zero time and the ends of what a timestamp can hold.
  ...["088092b8c398feffffff01", "08fff2dc9caf07", "10ffd3d9dc03", "10ffffffffffffffffff01"].map(hex),
  // Text that is no UTF-8: a lone byte, overlong, a surrogate.
  ...["ff", "c0af", "eda080"].map(hex),
  ...["sha256:", Fixtures.A, Fixtures.ONE, Fixtures.registry, Fixtures.repository, "/", ":", "[::1]", "..", "A"].map(
    ascii
  )
]

const splice = (bytes: Uint8Array, at: number, removed: number, inserted: Uint8Array): Uint8Array => {
  const spliced = new Uint8Array(bytes.length - removed + inserted.length)
  spliced.set(bytes.subarray(0, at))
  spliced.set(inserted, at)
  spliced.set(bytes.subarray(at + removed), at + inserted.length)
  return spliced
}

const nothing = new Uint8Array(0)

/** A length up to that of what there is, more often a short one. */
const length = (available: number, draw: Draw): number => Math.min(available, draw(2 << draw(8)))

const slice = (bytes: Uint8Array, draw: Draw): Uint8Array => {
  const from = draw(bytes.length + 1)
  return bytes.subarray(from, from + length(bytes.length - from, draw))
}

/** Takes a place, and may take something of another input. */
type Change = (bytes: Uint8Array, at: number, other: Uint8Array, draw: Draw) => Uint8Array

/** Changes of one byte, after which every length is as right as it was. */
const small: ReadonlyArray<Change> = [
  (bytes, at, _, draw) => splice(bytes, at, 1, Uint8Array.of((bytes[at] as number) ^ (1 << draw(8)))),
  (bytes, at, _, draw) => splice(bytes, at, 1, Uint8Array.of(draw(256))),
  (bytes, at, _, draw) => splice(bytes, at, 1, Uint8Array.of((bytes[at] as number) + draw(9) - 4))
]

/** Changes of more than that. */
const large: ReadonlyArray<Change> = [
  (bytes, at, _, draw) => splice(bytes, at, length(bytes.length - at, draw), nothing),
  (bytes, at, _, draw) => splice(bytes, at, 0, slice(bytes, draw)),
  (bytes, at, other, draw) => splice(bytes, at, 0, slice(other, draw)),
  (bytes, at, other, draw) => splice(bytes, at, length(bytes.length - at, draw), slice(other, draw)),
  (bytes, at, _, draw) => splice(bytes, at, 0, tokens[draw(tokens.length)] as Uint8Array),
  (bytes, at, _, draw) => splice(bytes, at, length(bytes.length - at, draw), tokens[draw(tokens.length)] as Uint8Array)
]

/** Makes a length say what follows: that of the frame, of the message in it, or of the first text in that. */
const repair = (bytes: Uint8Array, depth: number): Uint8Array => {
  const lengthBytes = bytes.findIndex((byte) => byte < 0x80) + 1
  const content = bytes.subarray(lengthBytes)
  return encodeFrame(
    depth === 0 ? content : splice(content, 1, content.length - 1, repair(content.subarray(1), depth - 1))
  )
}

/** A few changes to an input; half of the time its lengths are right again afterwards. */
export const mutate = (bytes: Uint8Array, other: Uint8Array, draw: Draw): Uint8Array => {
  let mutated = bytes
  let more = true
  while (more && mutated.length > 0) {
    // The situation is short, and still worth changing now and then.
    const at = draw(4) === 0 ? draw(Math.min(headerBytes, mutated.length)) : draw(mutated.length)
    const changes = at < headerBytes || draw(2) === 0 ? small : large
    const change = changes[draw(changes.length)] as Change
    mutated = change(mutated, at, other.subarray(headerBytes), draw)
    more = draw(2) === 0
  }
  if (draw(2) === 0 && mutated.length > headerBytes + 2) {
    const stream = mutated.subarray(headerBytes)
    mutated = splice(mutated, headerBytes, stream.length, repair(stream, draw(Math.min(3, stream.length - 1))))
  }
  return mutated.subarray(0, maxBytes)
}
