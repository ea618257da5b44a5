import { assert, it } from "@effect/vitest"
import * as Figures from "../src/Figures.ts"

it("takes medians, and quotients round by round", () => {
  const figures = Figures.make()
  // A round in which everything was slow, and one in which only the first was.
  for (const [ours, theirs] of [
    [90, 100],
    [9, 10],
    [50, 100]
  ] as const) {
    figures.note("ours", "a second", ours)
    figures.note("theirs", "a second", theirs)
  }
  figures.quotient("at least", "ours", "theirs", { atLeast: 0.9 })
  figures.quotient("at most", "ours", "theirs", { atMost: 0.89 })
  figures.hold("held", "theirs", { atMost: 100 })
  assert.deepStrictEqual(figures.medians(), [
    { name: "ours", unit: "a second", median: 50 },
    { name: "theirs", unit: "a second", median: 100 }
  ])
  assert.deepStrictEqual(figures.ratios, [
    { name: "at least", value: 0.9, target: 0.9, met: true },
    { name: "at most", value: 0.9, target: 0.89, met: false },
    { name: "held", value: 100, target: 100, met: true }
  ])
})
