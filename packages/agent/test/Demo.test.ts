/** Real processes, sockets and files: what the demo promises, with a small image. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Demo from "../src/demo/Demo.ts"
import { Screen } from "../src/demo/Screen.ts"
import { layerSources } from "./fixtures.ts"

/** Nobody watches. */
const screen = Layer.succeed(Screen, {
  interactive: false,
  print: () => Effect.void,
  redraw: () => Effect.void,
  settle: Effect.void
})

const roll = Effect.fnUntraced(
  function* (killPuller: boolean) {
    const fs = yield* FileSystem.FileSystem
    const layers = yield* layerSources([20_000, 300_000, 4_000_000])
    const directory = yield* fs.makeTempDirectoryScoped({ prefix: "gantry-test-" })
    const report = yield* Demo.run({
      nodes: 3,
      source: Demo.Source.Embedded({ layers, killPuller }),
      keep: Option.some(directory)
    })
    return { report, kept: yield* fs.readDirectory(directory) }
  },
  Effect.provide([NodeServices.layer, screen]),
  Effect.scoped
)

/** Starting processes takes its time on a machine that does other things. */
const timeout = 120_000

describe("Demo", () => {
  it.live(
    "brings an image to three processes, and has every digest leave the origin once",
    () =>
      Effect.gen(function* () {
        const { kept, report } = yield* roll(false)
        assert.deepStrictEqual(report.problems, [])
        assert.deepStrictEqual(report.originPulls, { max: 1, total: 6 })
        assert.strictEqual(report.verified, 18)
        assert.strictEqual(report.bytesDirect, 3 * report.bytesFromOrigin)
        for (const { originPulls, peerTransfers } of report.pulls) {
          assert.strictEqual(originPulls, 1)
          assert.strictEqual(peerTransfers, 2)
        }
        assert.sameMembers(kept, ["node-1", "node-2", "node-3"])
      }),
    timeout
  )

  it.live(
    "has the others take over from a puller that is killed in the middle of a layer",
    () =>
      Effect.gen(function* () {
        const { report } = yield* roll(true)
        const largest = report.pulls.find(({ size }) => size === Math.max(...report.pulls.map((pull) => pull.size)))
        assert.deepStrictEqual(report.problems, [])
        assert.strictEqual(report.killed, largest?.puller)
        assert.strictEqual(largest?.originPulls, 2)
        assert.strictEqual(report.verified, 12)
        assert.strictEqual(report.failed, 0)
      }),
    timeout
  )
})
