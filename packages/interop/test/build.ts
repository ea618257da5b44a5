/**
 * Builds the peers of other languages, once before all tests.
 */
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import type { TestProject } from "vitest/node"

/** A peer's program: how it is made, and where it is then. */
interface Recipe {
  readonly tool: string
  readonly arguments: ReadonlyArray<string>
  readonly folder: string
  readonly program: string
}

const recipes = {
  go: { tool: "go", arguments: ["build", "-o", "../dist/go-peer", "."], folder: "go", program: "dist/go-peer" },
  "go-blobs": {
    tool: "go",
    arguments: ["build", "-o", "../dist/go-blobs", "./blobs"],
    folder: "go",
    program: "dist/go-blobs"
  },
  rust: {
    tool: "cargo",
    arguments: ["build", "--locked", "--target-dir", "../dist/rust"],
    folder: "rust",
    program: "dist/rust/debug/rust-peer"
  }
} satisfies Record<string, Recipe>

/** A libp2p implementation other than ours, or a program that goes with it. */
export type Language = keyof typeof recipes

declare module "vitest" {
  interface ProvidedContext {
    /** The program of each language whose tool is installed. */
    readonly programs: Partial<Record<Language, string>>
  }
}

const pathOf = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url))

const isInstalled = (tool: string) =>
  Effect.flatMap(ChildProcessSpawner.ChildProcessSpawner, (spawner) =>
    spawner.exitCode(ChildProcess.make(tool, ["version"])).pipe(
      Effect.as(true),
      Effect.catchReason("PlatformError", "NotFound", () => Effect.succeed(false))
    )
  )

/** The path of the program, or none if its tool is missing, which only a developer's machine may lack. */
const build = Effect.fnUntraced(function* (language: Language) {
  const { arguments: args, folder, program, tool }: Recipe = recipes[language]
  if (!(yield* isInstalled(tool))) {
    if (yield* Config.withDefault(Config.Boolean("CI"), false))
      return yield* Effect.die(new Error(`${tool} is not installed`))
    yield* Effect.logWarning(`${tool} is not installed: the tests against ${language} are skipped`)
    return {}
  }
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const command = ChildProcess.make(tool, args, { cwd: pathOf(folder), stdout: "inherit", stderr: "inherit" })
  const exitCode = yield* spawner.exitCode(command)
  if (exitCode !== 0) return yield* Effect.die(new Error(`${tool} failed with exit code ${exitCode}`))
  return { [language]: pathOf(program) }
})

const buildAll = Effect.all([build("go"), build("go-blobs"), build("rust")]).pipe(Effect.provide(NodeServices.layer))

export default async ({ provide }: TestProject) => {
  const built = await Effect.runPromise(buildAll)
  provide("programs", Object.assign({}, ...built))
}
