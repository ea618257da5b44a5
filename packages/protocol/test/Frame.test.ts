import { assert, describe, it } from "@effect/vitest"
import { encodeFrame, type FrameReader, makeFrameReader, maxMessageBytes } from "@gantry/protocol"
import { Option, Result, Schema } from "effect"

const bytes = (...values: ReadonlyArray<number>) => Uint8Array.from(values)

/** What a reader makes of these chunks and the end behind them: the body, or why there is none. */
const readAll = (...chunks: ReadonlyArray<Uint8Array>) => {
  const reader = makeFrameReader()
  for (const chunk of chunks) {
    const pushed = reader.push(chunk)
    if (Result.isFailure(pushed)) return pushed.failure.reason
    if (Option.isSome(pushed.success)) return pushed.success.value
  }
  return reader.end().reason
}

const isWaiting = (reader: FrameReader, chunk: Uint8Array) => {
  const pushed = reader.push(chunk)
  return Result.isSuccess(pushed) && Option.isNone(pushed.success)
}

describe("Frame", () => {
  describe("is written", () => {
    it.each([
      [0, [0x00]],
      [1, [0x01]],
      [127, [0x7f]],
      [128, [0x80, 0x01]],
      [300, [0xac, 0x02]],
      [16_383, [0xff, 0x7f]],
      [16_384, [0x80, 0x80, 0x01]],
      [1_048_576, [0x80, 0x80, 0x40]]
    ])("with the shortest prefix for %i bytes", (length, prefix) => {
      const body = new Uint8Array(length).fill(7)
      const frame = encodeFrame(body)
      assert.deepStrictEqual([...frame.subarray(0, prefix.length)], prefix)
      assert.strictEqual(Buffer.compare(frame.subarray(prefix.length), body), 0)
    })
  })

  describe("is read", () => {
    const body = Uint8Array.from({ length: 300 }, (_, index) => index & 0xff)
    const frame = encodeFrame(body)

    it("however it is cut in two", () => {
      for (let cut = 0; cut <= frame.length; cut++) {
        assert.deepStrictEqual(readAll(frame.subarray(0, cut), frame.subarray(cut)), body, `cut at ${cut}`)
      }
    })

    it("byte by byte", () => {
      assert.deepStrictEqual(readAll(...Array.from(frame, (byte) => bytes(byte))), body)
    })

    it.prop(
      "in pieces of any size",
      [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 })))],
      ([sizes]) => {
        const pieces: Array<Uint8Array> = []
        let offset = 0
        for (const size of sizes) {
          pieces.push(frame.subarray(offset, offset + size))
          offset = Math.min(frame.length, offset + size)
        }
        assert.deepStrictEqual(readAll(...pieces, frame.subarray(offset)), body)
      }
    )

    it("with no body", () => {
      assert.deepStrictEqual(readAll(bytes(0x00)), bytes())
    })

    it("with 1 MiB, and not with a byte more", () => {
      const largest = new Uint8Array(maxMessageBytes).fill(1)
      const read = readAll(encodeFrame(largest))
      assert.isTrue(read instanceof Uint8Array && Buffer.compare(read, largest) === 0)
      assert.strictEqual(readAll(encodeFrame(new Uint8Array(maxMessageBytes + 1))), "TooLarge")
    })

    it("without what follows it", () => {
      assert.deepStrictEqual(readAll(bytes(0x02, 1, 2, 0x80, 0x00, 0xff)), bytes(1, 2))
      assert.deepStrictEqual(readAll(bytes(0x02, 1), bytes(2, 3, 4, 5)), bytes(1, 2))
      assert.deepStrictEqual(readAll(bytes(0x00, 0xff)), bytes())
    })
  })

  describe("is refused", () => {
    it.each([
      ["zero in two bytes", [0x80, 0x00]],
      ["one in two bytes", [0x81, 0x00]],
      ["127 in three bytes", [0xff, 0x80, 0x00]],
      ["zero in nine bytes", [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]]
    ])("with a length that is not minimal: %s", (_, prefix) => {
      assert.strictEqual(readAll(bytes(...prefix)), "BadLength")
      assert.strictEqual(readAll(...prefix.map((byte) => bytes(byte))), "BadLength")
    })

    it("with a length of ten bytes, at the ninth", () => {
      const prefix = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
      const reader = makeFrameReader()
      assert.isTrue(isWaiting(reader, bytes(...prefix.slice(0, 8))))
      assert.isTrue(Result.isFailure(reader.push(bytes(0xff))))
      assert.strictEqual(readAll(bytes(...prefix, 0x01)), "BadLength")
    })

    it("with the longest length that nine bytes can say", () => {
      assert.strictEqual(readAll(bytes(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)), "TooLarge")
    })

    it("with a length whose low bits alone would be small", () => {
      // 2^32 and 2^53: zero in 32-bit arithmetic, and beyond exact doubles.
      assert.strictEqual(readAll(bytes(0x80, 0x80, 0x80, 0x80, 0x10)), "TooLarge")
      assert.strictEqual(readAll(bytes(0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)), "TooLarge")
    })

    it("as soon as the length is known, before any byte of the body", () => {
      const reader = makeFrameReader()
      assert.isTrue(isWaiting(reader, bytes(0x81, 0x80)))
      assert.deepStrictEqual(
        Result.getFailure(reader.push(bytes(0x40))).pipe(Option.map(({ message, reason }) => ({ message, reason }))),
        Option.some({ reason: "TooLarge", message: "a frame of 1048577 bytes is over the limit of 1048576" })
      )
    })
  })

  describe("is missing or truncated", () => {
    it("where the stream ends before it, inside its length, or anywhere in its body", () => {
      const frame = encodeFrame(new Uint8Array(200).fill(1))
      const reasons = Array.from(frame, (_, cut) => readAll(frame.subarray(0, cut)))
      assert.deepStrictEqual(reasons, ["Missing", ...new Array(frame.length - 1).fill("Truncated")])
    })

    it("where only empty chunks came", () => {
      assert.strictEqual(readAll(bytes(), bytes()), "Missing")
    })

    it("and says how much of it came", () => {
      const reader = makeFrameReader()
      reader.push(bytes(0x05, 1, 2))
      assert.strictEqual(reader.end().message, "the stream ended after 2 of 5 bytes of the frame")
    })
  })

  it("takes memory for what has arrived, never for what was announced", () => {
    const before = process.memoryUsage().arrayBuffers
    const readers = Array.from({ length: 500 }, () => makeFrameReader())
    for (const reader of readers) {
      // 1 MiB announced, one byte sent.
      assert.isTrue(isWaiting(reader, bytes(0x80, 0x80, 0x40, 1)))
    }
    assert.isBelow(process.memoryUsage().arrayBuffers - before, 50 * maxMessageBytes)
    assert.strictEqual(new Set(readers.map((reader) => reader.end().reason)).size, 1)
  })
})
