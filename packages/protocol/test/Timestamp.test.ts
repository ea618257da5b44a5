import { assert, describe, it } from "@effect/vitest"
import { Timestamp, timestampFromMillis, timestampToMillis } from "@gantry/protocol"
import { Option, Schema } from "effect"

describe("Timestamp", () => {
  it("counts nanoseconds from milliseconds", () => {
    assert.strictEqual(timestampFromMillis(1_750_000_000_123), Timestamp.make(1_750_000_000_123_000_000n))
  })

  it("takes milliseconds with a fraction, as a clock may give them", () => {
    assert.strictEqual(timestampFromMillis(1.9), Timestamp.make(1_000_000n))
  })

  it("drops what is less than a millisecond", () => {
    assert.strictEqual(timestampToMillis(Timestamp.make(1_999_999n)), 1)
  })

  it("goes towards the past before 1970, too", () => {
    assert.strictEqual(timestampToMillis(Timestamp.make(-1n)), -1)
  })

  it("is none of what protobuf cannot hold", () => {
    assert.isTrue(Option.isSome(Timestamp.makeOption(253_402_300_799_999_999_999n)))
    assert.isTrue(Option.isNone(Timestamp.makeOption(253_402_300_800_000_000_000n)))
    assert.isTrue(Option.isNone(Timestamp.makeOption(-62_135_596_800_000_000_001n)))
  })

  it.prop(
    "gives milliseconds back as they were",
    [Schema.Int.check(Schema.isBetween({ minimum: -6.2e13, maximum: 2.5e14 }))],
    ([millis]) => timestampToMillis(timestampFromMillis(millis)) === millis
  )
})
