import { assert, describe, it } from "@effect/vitest"
import { Timestamp, timestampFromMillis, timestampToMillis } from "@gantry/protocol"
import { Schema } from "effect"

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

  it.prop(
    "gives milliseconds back as they were",
    [Schema.Int.check(Schema.isBetween({ minimum: -8.64e15, maximum: 8.64e15 }))],
    ([millis]) => timestampToMillis(timestampFromMillis(millis)) === millis
  )
})
