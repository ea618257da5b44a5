import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Timeline from "../src/simulation/Timeline.ts"
import { runSeed } from "./simulationSeeds.ts"

describe("a simulation", () => {
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
