import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import { draw } from "../src/internal/draw.ts"

const Small = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 }))

describe("draw", () => {
  it.effect.prop(
    "gives as many different items as there are, none of the excluded ones",
    [Small, Small, Schema.Array(Small), Schema.Int],
    ([length, count, excluded, seed]) =>
      Effect.gen(function* () {
        const items = Array.from({ length }, (_, index) => index)
        const drawn = yield* draw(items, count, new Set(excluded)).pipe(Random.withSeed(seed))
        const eligible = items.filter((item) => !excluded.includes(item))
        assert.strictEqual(new Set(drawn).size, Math.min(count, eligible.length))
        assert.isTrue(drawn.every((item) => eligible.includes(item)))
        assert.deepStrictEqual(items.length, length)
      })
  )

  it.effect("gives each item as often as any other", () =>
    Effect.gen(function* () {
      const times = new Map<string, number>()
      for (let turn = 0; turn < 3_000; turn++) {
        for (const item of yield* draw(["a", "b", "c", "d", "e", "f"], 2, new Set(["c"]))) {
          times.set(item, (times.get(item) ?? 0) + 1)
        }
      }
      assert.deepStrictEqual([...times.keys()].toSorted(), ["a", "b", "d", "e", "f"])
      for (const amount of times.values()) assert.approximately(amount, 1_200, 200)
    }).pipe(Random.withSeed("fair"))
  )
})
