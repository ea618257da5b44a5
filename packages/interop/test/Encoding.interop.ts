/**
 * What we take for a message, and what Go takes for one (protocol, sections 1
 * and 2).
 */
import { assert, describe, it } from "@effect/vitest"
import { decodeMessage, makeFrameReader, maxMessageBytes, protocolId } from "@gantry/protocol"
import { digestOf } from "@gantry/testkit/Fixtures"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import { bytesField, concat, frame, varint } from "./bytes.ts"
import { isBuilt, type Outcome, read, spawn } from "./ForeignPeer.ts"
import * as OurPeers from "./OurPeers.ts"

/** The fields of a message by their numbers: a number, text, or a message again. */
interface Shape {
  readonly [field: number]: "number" | "text" | Shape
}

const timestamp: Shape = { 1: "number", 2: "number" }
const envelope: Shape = {
  1: { 1: "text" },
  2: { 1: "number", 2: "number", 3: timestamp, 4: "number", 5: "number", 6: timestamp, 7: "number" },
  3: { 1: "text", 2: "text", 3: "text", 4: "number" },
  4: { 1: { 1: "text", 2: "number", 3: timestamp, 4: timestamp, 5: "number" } }
}

const below = (limit: number) => Random.nextIntBetween(0, limit - 1)
const pick = <A>(...from: ReadonlyArray<A>) => Effect.map(below(from.length), (index) => from[index] as A)
const chance = (percent: number) => Effect.map(below(100), (drawn) => drawn < percent)
const randomBytes = (length: number) =>
  Effect.map(Effect.replicateEffect(below(256), length), (bytes) => Uint8Array.from(bytes))

/** A number as a varint of up to ten bytes, now and then longer than it need be. */
const anyVarint = Effect.gen(function* () {
  const small = varint(yield* pick(0, 1, 2, 3, 4, 9, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 1, 2 ** 53 - 1))
  if (yield* chance(20)) return concat(new Uint8Array(9).fill(0xff), Uint8Array.of(1))
  if (yield* chance(80)) return small
  const last = small.at(-1) as number
  return concat(
    small.subarray(0, -1),
    Uint8Array.of(last + 0x80),
    yield* pick(Uint8Array.of(0), Uint8Array.of(0x80, 0))
  )
})

const anyText = Effect.gen(function* () {
  const plain = yield* pick(
    digestOf("wanted"),
    digestOf("other"),
    "registry.example.com",
    "",
    "é€😀\u0000",
    "\ufeff\uffff"
  )
  if (yield* chance(95)) return new TextEncoder().encode(plain)
  return concat(
    new TextEncoder().encode(plain),
    // Half a character, half a surrogate pair, an overlong slash, more than Unicode has, or anything.
    yield* pick(
      [0xc3],
      [0xed, 0xa0, 0x80],
      [0xc0, 0xaf],
      [0xf4, 0x90, 0x80, 0x80],
      yield* Effect.replicateEffect(below(256), 4)
    ).pipe(Effect.map((bytes) => Uint8Array.from(bytes)))
  )
})

/** A field that no version knows, of any type. */
const unknownField = (number: number): Effect.Effect<Uint8Array> =>
  Effect.gen(function* () {
    const tag = (type: number) => varint(number * 8 + type)
    switch (yield* below(5)) {
      case 0:
        return concat(tag(0), yield* anyVarint)
      case 1:
        return concat(tag(1), yield* randomBytes(8))
      case 2:
        return bytesField(number, yield* randomBytes(yield* below(20)))
      case 3:
        return concat(tag(5), yield* randomBytes(4))
      default:
        return concat(tag(3), yield* unknownField(yield* pick(1, 5, 6, 900)), tag(4))
    }
  })

/** A message with some of its fields, in any order and any number, and some that it does not have. */
const anyMessage = (shape: Shape): Effect.Effect<Uint8Array> =>
  Effect.gen(function* () {
    const fields: Array<Uint8Array> = []
    for (let count = yield* below(5); count > 0; count--) {
      const number = Number(yield* pick(...Object.keys(shape), "8", "15", "16", "536870911"))
      const type = shape[number]
      if (type === undefined) fields.push(yield* unknownField(number))
      else if (type === "number") fields.push(concat(varint(number * 8), yield* anyVarint))
      else fields.push(bytesField(number, yield* type === "text" ? anyText : anyMessage(type)))
    }
    return concat(...fields)
  })

/** A body, now and then cut off or followed by what is no field. */
const anyBody = Effect.gen(function* () {
  const body = yield* anyMessage(envelope)
  if (yield* chance(5)) return body.subarray(0, yield* below(body.length + 1))
  if (yield* chance(5))
    return concat(body, yield* pick(Uint8Array.of(0, 0), Uint8Array.of(0x7e), Uint8Array.of(0x7c), Uint8Array.of(0x7b)))
  return body
})

/** What a frame reader makes of all bytes of a stream. */
const isFrame = (bytes: Uint8Array): boolean => {
  const pushed = makeFrameReader().push(bytes)
  return Result.isSuccess(pushed) && Option.isSome(pushed.success)
}

describe.skipIf(!isBuilt("go"))("We and Go", () => {
  it.effect("take the same bodies for the same messages, and refuse the same", () =>
    Effect.gen(function* () {
      const go = yield* spawn("go")
      const bodies = yield* Effect.replicateEffect(anyBody, 5_000)
      const outcomes = yield* go.decode(bodies)
      let refused = 0
      for (const [index, body] of bodies.entries()) {
        const { bytes = new Uint8Array(), error } = outcomes[index] as Outcome
        const what = Buffer.from(body).toString("hex")
        const message = decodeMessage(body)
        assert.strictEqual(Result.isFailure(message), error !== undefined, what)
        if (Result.isFailure(message)) refused++
        else assert.deepStrictEqual(message, decodeMessage(bytes), what)
      }
      assert.isAbove(refused, 100)
      assert.isBelow(refused, 2_500)
    }).pipe(Random.withSeed("gantry"))
  )

  const body = (length: number) => bytesField(15, new Uint8Array(length))
  const withLength = (...length: ReadonlyArray<number>) => concat(Uint8Array.from(length), body(9))

  it.effect.each<readonly [string, Uint8Array]>([
    ["nothing", Uint8Array.of()],
    ["an empty body", frame(Uint8Array.of())],
    ["a body of 127 bytes", frame(body(125))],
    ["a body of 128 bytes", frame(body(126))],
    ["a body of 1 MiB", frame(body(maxMessageBytes - 4))],
    ["an announcement of 1 MiB + 1", Uint8Array.of(0x81, 0x80, 0x40)],
    ["an announcement of 4 GiB and a bit", withLength(0x8b, 0x80, 0x80, 0x80, 0x10)],
    ["an announcement of as much as nine bytes can say", withLength(...Array(8).fill(0xff), 0x7f)],
    ["half a length", Uint8Array.of(0x8b)],
    ["a length and nothing else", Uint8Array.of(11)],
    ["a body that lacks its last byte", frame(body(9)).subarray(0, -1)],
    ["a body with more behind it", concat(frame(body(9)), body(9))],
    ["a length of two bytes that fits into one", withLength(0x8b, 0)],
    ["a length of nine bytes that fits into one", withLength(0x8b, ...Array(7).fill(0x80), 0)],
    ["a length of nine bytes without an end", withLength(...Array(9).fill(0x80))],
    ["a length of ten bytes", withLength(...Array(9).fill(0xff), 1)]
  ])("agree on whether %s is a frame", ([, bytes]) =>
    Effect.gen(function* () {
      const go = yield* spawn("go")
      const peer = yield* OurPeers.join
      const ours = yield* peer.transport.open(go.address, protocolId)
      // What comes last is not taken any more once the frame is refused.
      yield* Effect.forkScoped(Effect.andThen(ours.write(bytes), ours.closeWrite), { startImmediately: true })
      const [outcome] = yield* (yield* go.accept).run(read)
      assert.strictEqual(outcome?.error === undefined, isFrame(bytes), outcome?.error)
    })
  )
})
