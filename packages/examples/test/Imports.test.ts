import { fileURLToPath } from "node:url"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Path } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

const root = fileURLToPath(new URL("../../..", import.meta.url))

/** What `npm run check:imports` prints over a copy of the sources with some files added, and its exit code. */
const check = Effect.fnUntraced(function* (added: Record<string, string>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const copy = yield* fs.makeTempDirectoryScoped()
  for (const file of ["biome.json", "package.json", ".gitignore"]) {
    yield* fs.copyFile(path.join(root, file), path.join(copy, file))
  }
  for (const name of yield* fs.readDirectory(path.join(root, "packages"))) {
    const source = path.join(root, "packages", name, "src")
    if ((yield* fs.stat(path.dirname(source))).type !== "Directory" || !(yield* fs.exists(source))) continue
    yield* fs.makeDirectory(path.join(copy, "packages", name), { recursive: true })
    yield* fs.copy(source, path.join(copy, "packages", name, "src"))
  }
  yield* fs.symlink(path.join(root, "node_modules"), path.join(copy, "node_modules"))
  for (const [name, text] of Object.entries(added)) yield* fs.writeFileString(path.join(copy, "packages", name), text)
  return yield* spawner.string(
    ChildProcess.make("sh", ["-c", "npm run --silent check:imports 2>&1; echo exit code $?"], { cwd: copy })
  )
})

describe("The check of imports", () => {
  it.effect("passes on the sources as they are", () =>
    Effect.gen(function* () {
      const output = yield* check({})
      assert.match(output, /Checked \d{2,} files/)
      assert.match(output, /exit code 0\n$/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("fails on an import that goes up", () =>
    Effect.gen(function* () {
      const output = yield* check({ "protocol/src/Up.ts": 'export * from "@gantry/coord"\n' })
      assert.include(output, "protocol/src/Up.ts:1:15 lint/style/noRestrictedImports")
      assert.match(output, /exit code 1\n$/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("fails on a circle, of types too", () =>
    Effect.gen(function* () {
      const output = yield* check({
        "coord/src/One.ts": 'import type { Two } from "./Two.ts"\nexport type One = Two | 1\n',
        "coord/src/Two.ts": 'import type { One } from "./One.ts"\nexport type Two = ReadonlyArray<One>\n'
      })
      assert.include(output, "coord/src/One.ts:1:26 lint/suspicious/noImportCycles")
      assert.match(output, /exit code 1\n$/)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
