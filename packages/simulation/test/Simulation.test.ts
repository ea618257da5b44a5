import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Plan from "../src/Plan.ts"
import * as Simulation from "../src/Simulation.ts"
import * as Timeline from "../src/Timeline.ts"

/** Runs one seed. */
const runSeed = (seed: number, nodes: number): Effect.Effect<Simulation.Result> =>
  Effect.flatMap(Plan.make(seed, { nodes }), Simulation.run)

/** What went wrong, and what came before it; empty if all is well. */
const story = (result: Simulation.Result): string =>
  result.violations.length === 0 ? "" : `seed ${result.plan.seed}\n${Timeline.format(result.events)}`

describe("A cluster of 40 nodes keeps what it promises", () => {
  it.effect.each(Array.from({ length: 50 }, (_, index) => index + 1))("in seed %d", (seed) =>
    Effect.map(runSeed(seed, 40), (result) => assert.strictEqual(story(result), ""))
  )
})

describe("A simulation", () => {
  it.effect(
    "replays a seed exactly",
    () =>
      Effect.gen(function* () {
        const first = yield* runSeed(20, 12)
        const second = yield* runSeed(20, 12)
        assert.isAbove(first.events.length, 50)
        assert.strictEqual(Timeline.format(first.events), Timeline.format(second.events))
        assert.deepStrictEqual(first.pulls, second.pulls)
      }),
    60_000
  )

  it.effect(
    "takes another course for another seed",
    () =>
      Effect.gen(function* () {
        const first = yield* runSeed(1, 12)
        const second = yield* runSeed(2, 12)
        assert.notStrictEqual(Timeline.format(first.events), Timeline.format(second.events))
      }),
    60_000
  )
})
