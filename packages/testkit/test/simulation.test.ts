import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Plan from "../src/simulation/Plan.ts"
import * as Simulation from "../src/simulation/Simulation.ts"
import * as Timeline from "../src/simulation/Timeline.ts"

const runSeed = (seed: number, nodes: number) => Effect.flatMap(Plan.make(seed, { nodes }), Simulation.run)

/** What went wrong, and what came before it; empty if all is well. */
const story = (result: Simulation.Result) =>
  result.violations.length === 0 ? "" : `seed ${result.plan.seed}\n${Timeline.format(result.events)}`

describe("a simulation", () => {
  it.effect("replays a seed exactly", () =>
    Effect.gen(function* () {
      const first = yield* runSeed(21, 12)
      const second = yield* runSeed(21, 12)
      assert.isAbove(first.events.length, 50)
      assert.strictEqual(Timeline.format(first.events), Timeline.format(second.events))
      assert.deepStrictEqual(first.pulls, second.pulls)
    })
  )

  it.effect("takes another course for another seed", () =>
    Effect.gen(function* () {
      const first = yield* runSeed(1, 12)
      const second = yield* runSeed(2, 12)
      assert.notStrictEqual(Timeline.format(first.events), Timeline.format(second.events))
    })
  )
})

describe("a cluster of 40 nodes keeps what it promises", () => {
  const seeds = Array.from({ length: 300 }, (_, index) => index + 1)
  for (let first = 0; first < seeds.length; first += 25) {
    const block = seeds.slice(first, first + 25)
    it.effect(
      `in seeds ${block[0]} to ${block.at(-1)}`,
      () =>
        Effect.forEach(
          block,
          (seed) => Effect.map(runSeed(seed, 40), (result) => assert.strictEqual(story(result), "")),
          {
            discard: true
          }
        ),
      300_000
    )
  }
})
