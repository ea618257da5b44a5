import { assert, it } from "@effect/vitest"
import { slopeOf } from "../src/Slope.ts"

it("is that of the line on which the points lie", () => {
  const points = [1_000, 2_000, 4_000, 9_000].map((x) => ({ x, y: 40_000_000 - 3 * x }))
  assert.strictEqual(slopeOf(points), -3)
})

it("is that of the line in their middle", () => {
  const points = [
    { x: 0, y: 0 },
    { x: 1, y: 4 },
    { x: 2, y: 2 },
    { x: 3, y: 6 }
  ]
  assert.closeTo(slopeOf(points), 1.6, 1e-12)
})
