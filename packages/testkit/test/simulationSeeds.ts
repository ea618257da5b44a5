/**
 * Seeds as tests. They are spread over several files, which run side by side.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Plan from "../src/simulation/Plan.ts"
import * as Simulation from "../src/simulation/Simulation.ts"
import * as Timeline from "../src/simulation/Timeline.ts"

/** Runs one seed. */
export const runSeed = (seed: number, nodes: number): Effect.Effect<Simulation.Result> =>
  Effect.flatMap(Plan.make(seed, { nodes }), Simulation.run)

/** What went wrong, and what came before it; empty if all is well. */
const story = (result: Simulation.Result): string =>
  result.violations.length === 0 ? "" : `seed ${result.plan.seed}\n${Timeline.format(result.events)}`

const blockSize = 25

/** Tests that every invariant holds in a range of seeds. */
export const testSeeds = (from: number, to: number): void => {
  describe("a cluster of 40 nodes keeps what it promises", () => {
    for (let first = from; first <= to; first += blockSize) {
      const last = Math.min(to, first + blockSize - 1)
      const seeds = Array.from({ length: last - first + 1 }, (_, index) => first + index)
      const holds = Effect.fnUntraced(function* (seed: number) {
        assert.strictEqual(story(yield* runSeed(seed, 40)), "")
        // A simulation never lets go of the thread, and the test runner wants to hear from us.
        yield* Effect.yieldNow
      })
      it.effect(`in seeds ${first} to ${last}`, () => Effect.forEach(seeds, holds, { discard: true }), 300_000)
    }
  })
}
