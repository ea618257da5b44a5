import { fromBinary, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import {
  AlreadyPulling,
  ContentKind,
  decodeMessage,
  encodeFrame,
  encodeMessage,
  FailureClass,
  type Message,
  PullIntent,
  RecentlyFailed,
  Started,
  Timestamp,
  Unspecified
} from "@gantry/protocol"
import { Option, Result, Schema } from "effect"
import { EnvelopeSchema } from "../src/internal/gen/gantry/coord/v1/coord_pb.ts"
import vectors from "./vectors/wire.json" with { type: "json" }

const A = `sha256:${"a".repeat(64)}`
const ONE = `sha256:${"1".repeat(64)}`
const TWO = `sha256:${"2".repeat(64)}`

const nothing = {
  hasCached: false,
  inFlight: false,
  startedAt: Option.none<Timestamp>(),
  hrwRank: 0,
  recentlyFailed: false,
  cooldownUntil: Option.none<Timestamp>(),
  failureClass: "unspecified" as const
}
const intentOf = (fields: Partial<PullIntent> = {}): Message => ({
  _tag: "PullIntentResponse",
  intent: new PullIntent({ ...nothing, ...fields })
})
const at = (nanos: bigint) => Option.some(Timestamp.make(nanos))

const decode = (body: Iterable<number>) => Result.getOrThrow(decodeMessage(Uint8Array.from(body)))
const isMalformed = (body: Iterable<number>) => {
  const decoded = decodeMessage(Uint8Array.from(body))
  return Result.isFailure(decoded) && decoded.failure._tag === "MalformedEnvelope"
}

// Protobuf by hand, so that what the tests send does not come from the code under test.
const varint = (value: bigint): ReadonlyArray<number> =>
  value < 0x80n ? [Number(value)] : [Number(value & 0x7fn) | 0x80, ...varint(value >> 7n)]
const number = (field: number, value: bigint | number) => [
  ...varint(BigInt(field << 3)),
  ...varint(BigInt.asUintN(64, BigInt(value)))
]
const block = (field: number, content: Iterable<number>) => {
  const bytes = [...content]
  return [...varint(BigInt((field << 3) | 2)), ...varint(BigInt(bytes.length)), ...bytes]
}
const text = (field: number, value: string) => block(field, new TextEncoder().encode(value))
const timestamp = (field: number, seconds: bigint, nanos = 0) =>
  block(field, [...(seconds === 0n ? [] : number(1, seconds)), ...(nanos === 0 ? [] : number(2, nanos))])

describe("Codec", () => {
  describe("agrees with the vectors, both ways", () => {
    const messages: Record<keyof typeof vectors.frames, Message> = {
      W1: { _tag: "PullIntentRequest", digest: A },
      W2: intentOf({ hrwRank: -1 }),
      W3: intentOf(),
      W4: intentOf({ inFlight: true, startedAt: at(1_750_000_000_123_456_789n), hrwRank: 2 }),
      W6: {
        _tag: "PleasePullRequest",
        registry: "registry.example.com",
        repository: "library/nginx",
        kind: "manifest",
        digests: [ONE, TWO]
      },
      W7: { _tag: "PleasePullRequest", registry: "r", repository: "p", kind: "layer", digests: [] },
      W8: { _tag: "PleasePullResponse", results: [] },
      W9: {
        _tag: "PleasePullResponse",
        results: [
          { digest: ONE, verdict: new Started({ startedAt: at(1_750_000_000_000_000_000n) }) },
          { digest: TWO, verdict: new Unspecified() }
        ]
      },
      W12: { _tag: "Empty" }
    }
    const cases = Object.entries(vectors.frames).map(([name, { frame, what }]) => ({
      title: `${name}: ${what}`,
      frame: Buffer.from(frame, "hex"),
      message: messages[name as keyof typeof messages]
    }))

    it.each(cases)("writing $title", ({ frame, message }) => {
      assert.strictEqual(Buffer.from(encodeFrame(encodeMessage(message))).toString("hex"), frame.toString("hex"))
    })

    it.each(cases)("reading $title", ({ frame, message }) => {
      const prefixBytes = frame.findIndex((byte) => byte < 0x80) + 1
      assert.deepStrictEqual(decode(frame.subarray(prefixBytes)), message)
    })
  })

  describe("ranks", () => {
    it("of -1 take ten bytes, sign-extended, and of 0 none", () => {
      assert.deepStrictEqual([...encodeMessage(intentOf({ hrwRank: -1 }))], block(2, number(4, -1n)))
      assert.strictEqual(encodeMessage(intentOf({ hrwRank: -1 })).length, 13)
      assert.deepStrictEqual([...encodeMessage(intentOf())], [0x12, 0x00])
    })

    it("of -1 are read from ten bytes, and from the five that some encoders write", () => {
      assert.deepStrictEqual(decode(block(2, number(4, -1n))), intentOf({ hrwRank: -1 }))
      assert.deepStrictEqual(decode(block(2, [0x20, 0xff, 0xff, 0xff, 0xff, 0x0f])), intentOf({ hrwRank: -1 }))
    })
  })

  describe("timestamps", () => {
    it("that are absent are none", () => {
      assert.deepStrictEqual(decode(block(2, number(2, 1))), intentOf({ inFlight: true }))
    })

    it("that are Go's zero time are none", () => {
      assert.deepStrictEqual(
        decode(block(2, [...timestamp(3, -62_135_596_800n), ...timestamp(6, -62_135_596_800n)])),
        intentOf()
      )
    })

    it("next to Go's zero time are instants", () => {
      assert.deepStrictEqual(
        decode(block(2, timestamp(3, -62_135_596_800n, 1))),
        intentOf({ startedAt: at(-62_135_596_800n * 1_000_000_000n + 1n) })
      )
    })

    it("of 1970 are instants, written as an empty message", () => {
      assert.deepStrictEqual(decode(block(2, timestamp(3, 0n))), intentOf({ startedAt: at(0n) }))
      assert.deepStrictEqual([...encodeMessage(intentOf({ startedAt: at(0n) }))], block(2, timestamp(3, 0n)))
    })

    it("keep their nanoseconds before 1970", () => {
      const message = intentOf({ startedAt: at(-1n) })
      assert.deepStrictEqual([...encodeMessage(message)], block(2, timestamp(3, -1n, 999_999_999)))
      assert.deepStrictEqual(decode(encodeMessage(message)), message)
    })

    it("of a lying peer do no harm, however far off", () => {
      const extremes = [2n ** 63n - 1n, -(2n ** 63n)]
      for (const seconds of extremes) {
        const message = decode(block(2, [...number(2, 1), ...timestamp(3, seconds, -2_147_483_648)]))
        assert.strictEqual(message._tag, "PullIntentResponse")
      }
    })
  })

  describe("pull intents", () => {
    it("carry every field", () => {
      const message = intentOf({
        hasCached: true,
        inFlight: true,
        startedAt: at(1_000_000_001n),
        hrwRank: 7,
        recentlyFailed: true,
        cooldownUntil: at(2_000_000_002n),
        failureClass: "rate_limited"
      })
      const body = block(2, [
        ...number(1, 1),
        ...number(2, 1),
        ...timestamp(3, 1n, 1),
        ...number(4, 7),
        ...number(5, 1),
        ...timestamp(6, 2n, 2),
        ...number(7, 3)
      ])
      assert.deepStrictEqual(decode(body), message)
      assert.deepStrictEqual([...encodeMessage(message)], body)
    })

    it.each(FailureClass.literals)("carry the failure class %s", (failureClass) => {
      const message = intentOf({ recentlyFailed: true, failureClass })
      assert.deepStrictEqual(decode(encodeMessage(message)), message)
    })

    it.each([
      [0, "unspecified"],
      [1, "auth"],
      [2, "not_found"],
      [3, "rate_limited"],
      [4, "transient"],
      [5, "unspecified"],
      [-1, "unspecified"],
      [2_147_483_647, "unspecified"]
    ] as const)("read failure class %i as %s", (value, failureClass) => {
      assert.deepStrictEqual(decode(block(2, number(7, value))), intentOf({ failureClass }))
    })
  })

  describe("please_pull requests", () => {
    const request = (kind: ContentKind): Message => ({
      _tag: "PleasePullRequest",
      registry: "r",
      repository: "p",
      kind,
      digests: []
    })
    const names = [...text(2, "r"), ...text(3, "p")]

    it.each([
      [0, "layer"],
      [1, "layer"],
      [2, "manifest"],
      [3, "config"],
      [4, "layer"],
      [-1, "layer"],
      [1_000_000, "layer"]
    ] as const)("read kind %i as %s", (value, kind) => {
      assert.deepStrictEqual(decode(block(3, [...names, ...number(4, value)])), request(kind))
    })

    it("read an absent kind as layer", () => {
      assert.deepStrictEqual(decode(block(3, names)), request("layer"))
    })

    it.each(ContentKind.literals)("carry the kind %s", (kind) => {
      assert.deepStrictEqual(decode(encodeMessage(request(kind))), request(kind))
    })

    it("leave text as the peer wrote it, for the receiver to judge", () => {
      const body = block(3, [...text(1, "not a digest"), ...text(1, ""), ...text(2, "../.."), ...text(3, " ")])
      assert.deepStrictEqual(decode(body), {
        _tag: "PleasePullRequest",
        registry: "../..",
        repository: " ",
        kind: "layer",
        digests: ["not a digest", ""]
      })
    })
  })

  describe("please_pull results", () => {
    const result = (...fields: ReadonlyArray<ReadonlyArray<number>>) =>
      block(4, block(1, [...text(1, ONE), ...fields.flat()]))

    it("carry every verdict with what belongs to it", () => {
      const message: Message = {
        _tag: "PleasePullResponse",
        results: [
          { digest: ONE, verdict: new Started({ startedAt: at(1_000_000_000n) }) },
          { digest: TWO, verdict: new AlreadyPulling({ startedAt: at(2_000_000_000n) }) },
          { digest: A, verdict: new RecentlyFailed({ cooldownUntil: at(3_000_000_000n), failureClass: "auth" }) },
          { digest: "as the peer wrote it", verdict: new Unspecified() }
        ]
      }
      const body = block(4, [
        ...block(1, [...text(1, ONE), ...number(2, 2), ...timestamp(3, 1n)]),
        ...block(1, [...text(1, TWO), ...number(2, 1), ...timestamp(3, 2n)]),
        ...block(1, [...text(1, A), ...number(2, 3), ...timestamp(4, 3n), ...number(5, 1)]),
        ...block(1, text(1, "as the peer wrote it"))
      ])
      assert.deepStrictEqual(decode(body), message)
      assert.deepStrictEqual([...encodeMessage(message)], body)
    })

    it.each([0, 4, 5, -1, 2_147_483_647])("read outcome %i as unspecified", (outcome) => {
      assert.deepStrictEqual(decode(result(number(2, outcome), timestamp(3, 1n))), {
        _tag: "PleasePullResponse",
        results: [{ digest: ONE, verdict: new Unspecified() }]
      })
    })

    it("without their timestamps have none", () => {
      assert.deepStrictEqual(decode(result(number(2, 3))), {
        _tag: "PleasePullResponse",
        results: [
          { digest: ONE, verdict: new RecentlyFailed({ cooldownUntil: Option.none(), failureClass: "unspecified" }) }
        ]
      })
    })
  })

  describe("what later versions may send", () => {
    const query: Message = { _tag: "PullIntentRequest", digest: A }

    it("as other messages of the envelope is ignored", () => {
      assert.deepStrictEqual(decode([...block(5, [1, 2, 3]), ...text(6, "x")]), { _tag: "Empty" })
      assert.deepStrictEqual(decode([...block(1, text(1, A)), ...block(5, []), ...block(6, [8, 1])]), query)
    })

    it("as other fields of a message is ignored, whatever its wire type", () => {
      const later = [
        ...text(5, "x"),
        ...number(6, 1n << 63n),
        ...varint(BigInt((100 << 3) | 5)),
        ...[1, 2, 3, 4],
        ...varint(BigInt((101 << 3) | 1)),
        ...[1, 2, 3, 4, 5, 6, 7, 8]
      ]
      assert.deepStrictEqual(decode(block(1, [...later, ...text(1, A), ...later])), query)
      assert.deepStrictEqual(decode(block(3, [...text(2, "r"), ...text(3, "p"), ...text(5, "x"), ...number(6, 1)])), {
        _tag: "PleasePullRequest",
        registry: "r",
        repository: "p",
        kind: "layer",
        digests: []
      })
    })
  })

  it("takes the last member of the oneof", () => {
    const query = block(1, text(1, A))
    const pull = block(3, [...text(2, "r"), ...text(3, "p")])
    assert.strictEqual(decode([...query, ...pull])._tag, "PleasePullRequest")
    assert.strictEqual(decode([...pull, ...query])._tag, "PullIntentRequest")
  })

  it("reads no bytes as the empty envelope, and writes it as none", () => {
    assert.deepStrictEqual(decode([]), { _tag: "Empty" })
    assert.strictEqual(encodeMessage({ _tag: "Empty" }).length, 0)
  })

  describe("calls malformed", () => {
    it.each([
      ["bytes that are no UTF-8", block(1, block(1, [0xff, 0xfe]))],
      ["a surrogate in UTF-8", block(1, block(1, [0xed, 0xa0, 0x80]))],
      ["overlong UTF-8", block(1, block(1, [0xc0, 0xaf]))],
      ["bad UTF-8 in the second digest of a batch", block(3, [...text(1, ONE), ...block(1, [0x80])])],
      ["bad UTF-8 in a result", block(4, block(1, block(1, [0xff])))],
      ["a message that is cut", block(1, text(1, A)).slice(0, -1)],
      ["a length beyond the end", [0x0a, 0xff, 0xff, 0xff, 0xff, 0x07]],
      ["a varint without end", [0x08, ...new Array(11).fill(0xff)]],
      ["field number zero", [0x00, 0x01]],
      ["wire types that do not exist", [0x0e, 0x00]],
      ["the end of a group that never began", [0x0c]],
      ["a group that never ends", [0x2b]],
      ["HTTP", [...new TextEncoder().encode("GET / HTTP/1.1\r\n")]]
    ])("%s", (_, body) => {
      assert.isTrue(isMalformed(body))
    })

    it("and says why", () => {
      const failure = Result.getFailure(decodeMessage(Uint8Array.from([0x0a, 0x05, 0x01])))
      assert.match(Option.getOrThrow(failure).message, /^not a coordination envelope: ./)
    })

    it("nothing but malformed bytes, whatever comes", () => {
      // Every message cut at every byte is read or refused, and never throws.
      for (const { frame } of Object.values(vectors.frames)) {
        const body = Buffer.from(frame, "hex")
        for (let cut = 0; cut < body.length; cut++) {
          assert.doesNotThrow(() => decodeMessage(body.subarray(0, cut)))
          assert.doesNotThrow(() => decodeMessage(body.subarray(cut)))
        }
      }
    })

    it.prop(
      "or reads any bytes, and never throws",
      [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 })))],
      ([body]) => {
        decodeMessage(Uint8Array.from(body))
      }
    )
  })

  const day = 86_400_000_000_000n
  const anyTimestamp = Schema.Option(
    Timestamp.check(Schema.isBetweenBigInt({ minimum: -100_000n * day, maximum: 1_000_000n * day }))
  )
  const anyIntent = Schema.Struct({
    ...PullIntent.fields,
    startedAt: anyTimestamp,
    cooldownUntil: anyTimestamp,
    hrwRank: Schema.Int.check(Schema.isBetween({ minimum: -1, maximum: 100_000 }))
  })

  it.prop("gives back any intent as it was", [anyIntent], ([fields]) => {
    const message: Message = { _tag: "PullIntentResponse", intent: new PullIntent(fields) }
    assert.deepStrictEqual(decode(encodeMessage(message)), message)
  })

  const anyText = Schema.Literals([
    "",
    "sha256:é",
    "a\u0000b",
    "registry.example.com:5000",
    A,
    "a".repeat(127),
    "é".repeat(9_000)
  ])
  const anyFailureClass = PullIntent.fields.failureClass
  const anyVerdict = Schema.Union([
    Schema.TaggedStruct("Started", { startedAt: anyTimestamp }),
    Schema.TaggedStruct("AlreadyPulling", { startedAt: anyTimestamp }),
    Schema.TaggedStruct("RecentlyFailed", { cooldownUntil: anyTimestamp, failureClass: anyFailureClass }),
    Schema.TaggedStruct("Unspecified", {})
  ])
  const verdictOf = (fields: typeof anyVerdict.Type) => {
    switch (fields._tag) {
      case "Started":
        return new Started(fields)
      case "AlreadyPulling":
        return new AlreadyPulling(fields)
      case "RecentlyFailed":
        return new RecentlyFailed(fields)
      case "Unspecified":
        return new Unspecified()
    }
  }

  it.prop(
    "gives back any batch as it was",
    [
      Schema.Struct({
        registry: anyText,
        repository: anyText,
        kind: ContentKind,
        digests: Schema.Array(anyText)
      })
    ],
    ([fields]) => {
      const message: Message = { _tag: "PleasePullRequest", ...fields }
      assert.deepStrictEqual(decode(encodeMessage(message)), message)
    }
  )

  it.prop(
    "gives back any verdicts as they were",
    [Schema.Array(Schema.Struct({ digest: anyText, verdict: anyVerdict }))],
    ([listed]) => {
      const results = listed.map(({ digest, verdict }) => ({ digest, verdict: verdictOf(verdict) }))
      const message: Message = { _tag: "PleasePullResponse", results }
      const bytes = encodeMessage(message)
      assert.deepStrictEqual(decode(bytes), message)
      // As the generated code writes it: no byte more, and in that order.
      const canonical = toBinary(EnvelopeSchema, fromBinary(EnvelopeSchema, bytes))
      assert.strictEqual(Buffer.compare(canonical, bytes), 0)
    }
  )
})
