import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Protocol from "@gantry/protocol"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Cli from "../src/Cli.ts"
import type { Subject } from "../src/Target.ts"

/** A codec that cannot stand digests that begin with a one. */
const broken: Subject = {
  codec: {
    ...Protocol,
    decodeMessage: (body) => {
      if (Buffer.from(body).includes("sha256:1")) throw new Error("no ones, please")
      return Protocol.decodeMessage(body)
    }
  }
}

/** Runs a command line; gives how it ended and what it said. */
const fuzz = Effect.fnUntraced(function* (subject: Subject, args: ReadonlyArray<string>, counters = [[0]]) {
  const said: Array<string> = []
  const write = (...parts: ReadonlyArray<unknown>) => {
    said.push(parts.join(" "))
  }
  const exit = yield* Cli.run(
    subject,
    counters
  )(args).pipe(Effect.provideService(Console.Console, { ...globalThis.console, log: write, error: write }), Effect.exit)
  return { exit, text: said.join("\n") }
})

describe("npm run fuzz", () => {
  it.effect("tells what a run came to", () =>
    Effect.gen(function* () {
      const { exit, text } = yield* fuzz({}, ["--runs", "300", "--seed", "5"])
      assert.isTrue(Exit.isSuccess(exit))
      assert.match(text, /^seed 5: 300 executions, .* a second; .* places reached, \d+ inputs kept; .* resident$/m)
      assert.match(text, /^heap .* before, .* after; at most .* resident$/m)
      assert.match(text, /^findings: 0$/m)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("saves an input that shows something wrong, and replays it as it says", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const directory = yield* files.makeTempDirectoryScoped()
      const search = yield* fuzz(broken, ["--runs", "100", "--findings", directory])
      assert.isTrue(Exit.isFailure(search.exit))
      assert.match(search.text, /^findings: 1$/m)
      const [, file = "none"] = /npm run fuzz -- --replay (\S+)/.exec(search.text) ?? []
      assert.deepStrictEqual(yield* files.readDirectory(directory), [file.slice(directory.length + 1)])

      const replayed = yield* fuzz(broken, ["--replay", file])
      assert.isTrue(Exit.isFailure(replayed.exit))
      assert.include(replayed.text, "reader: server")
      assert.include(replayed.text, "Error: no ones, please\n    at ")

      const repaired = yield* fuzz({}, ["--replay", file])
      assert.isTrue(Exit.isSuccess(repaired.exit))
      assert.include(repaired.text, "every invariant holds")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect.each([
    [["--runs", "0"], "a number from 1"],
    [["--runs", "many"], "--runs"],
    [["--seconds", "-1"], "a number from 1"],
    [["--replay", "no/such/file"], "no/such/file"],
    [["--bogus"], "--bogus"]
  ] as const)("refuses %j, and says why", ([args, reason]) =>
    Effect.gen(function* () {
      const { exit, text } = yield* fuzz({}, args)
      assert.isTrue(Exit.isFailure(exit))
      assert.include(text, reason)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("does not search blindly where the code counts nothing", () =>
    Effect.gen(function* () {
      const { exit } = yield* fuzz({}, ["--runs", "100"], [])
      assert.isTrue(Exit.isFailure(exit))
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
