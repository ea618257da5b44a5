import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import * as Runtime from "effect/Runtime"
import * as Cli from "../src/Cli.ts"

/** Runs a command line that must fail, and gives what it says and the exit code. */
const failing = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const said: Array<string> = []
    const write = (...parts: ReadonlyArray<unknown>) => {
      said.push(parts.join(" "))
    }
    const error = yield* Cli.run(args).pipe(
      Effect.provideService(Console.Console, { ...globalThis.console, log: write, error: write }),
      Effect.flip
    )
    return { text: said.join("\n"), exitCode: Runtime.getErrorExitCode(error) }
  }).pipe(Effect.provide(NodeServices.layer))

describe("gantry demo", () => {
  it.effect.each([
    [["--nodes", "1"], "a number from 2 to 64"],
    [["--nodes", "65"], "a number from 2 to 64"],
    [["--nodes", "many"], "--nodes"],
    [["--image", "app:v1"], "<registry>/<name>:<tag>"],
    [["--image", "registry.example.com/app"], "<registry>/<name>:<tag>"],
    [["--image", "registry.example.com/App:v1"], "<registry>/<name>:<tag>"],
    [["--image", "registry.example.com/app:v1", "--origin", "registry.example.com"], "http://<host>"],
    [["--image", "registry.example.com/app:v1", "--origin", "https://registry.example.com/v2"], "without a path"],
    [["--origin", "https://registry.example.com"], "--origin needs --image"],
    [["--image", "registry.example.com/app:v1", "--kill-puller"], "--kill-puller needs the demo's own registry"],
    [["--bogus"], "--bogus"]
  ] as const)("refuses %j, says why, and shows the usage", ([args, reason]) =>
    Effect.gen(function* () {
      const { exitCode, text } = yield* failing("demo", ...args)
      assert.include(text, reason)
      assert.include(text, "gantry demo [flags]")
      assert.notStrictEqual(exitCode, 0)
    })
  )

  it.effect("does not touch a directory that holds something already", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped()
      yield* fs.writeFileString(`${directory}/mine`, "")
      const { exitCode, text } = yield* failing("demo", "--json", "--keep", directory)
      assert.include(text, `${directory} is not empty`)
      assert.strictEqual(exitCode, 1)
      assert.deepStrictEqual(yield* fs.readDirectory(directory), ["mine"])
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("parseImageName", () => {
  it.each([
    ["registry.example.com/app:v1", "registry.example.com", "app", "v1"],
    ["127.0.0.1:5000/demo/app:1.2.3", "127.0.0.1:5000", "demo/app", "1.2.3"],
    ["[::1]:5000/a/b/c:latest", "[::1]:5000", "a/b/c", "latest"]
  ])("reads %s", (text, registry, repository, tag) => {
    assert.deepStrictEqual(Cli.parseImageName(text), Result.succeed({ registry, repository, tag }) as never)
  })

  it.each([
    "",
    "app",
    "/app:v1",
    "registry.example.com/:v1",
    "registry.example.com/app:",
    "registry.example.com/a:b:c"
  ])('refuses "%s"', (text) => {
    assert.isTrue(Result.isFailure(Cli.parseImageName(text)))
  })
})

describe("parseOrigin", () => {
  it.each([
    ["http://127.0.0.1:5000", "127.0.0.1:5000", true],
    ["https://registry.example.com", "registry.example.com", false],
    ["https://registry.example.com/", "registry.example.com", false],
    ["https://localhost:5000", "localhost:5000", false],
    ["https://127.0.0.1:5000", "127.0.0.1:5000", false]
  ])("reads %s", (text, registry, plainHttp) => {
    assert.deepStrictEqual(Cli.parseOrigin(text), Result.succeed({ registry, plainHttp }) as never)
  })

  it.each(["", "registry.example.com", "ftp://registry.example.com", "https://user:secret@registry.example.com"])(
    'refuses "%s"',
    (text) => {
      assert.isTrue(Result.isFailure(Cli.parseOrigin(text)))
    }
  )
})
