import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, FileSystem, Logger, Option, Scope, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { TestClock } from "effect/testing"
import * as Ownership from "../src/internal/ownership.ts"
import { needNamespaces } from "./support/namespaces.ts"

const place = Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped({ prefix: "gantry-place-" }))
const list = (path: string) =>
  FileSystem.FileSystem.use((fs) => Effect.map(fs.readDirectory(path), (names) => names.sort()))
const nameOf = (directory: string) => directory.slice(directory.lastIndexOf("/") + 1)
const provideNode = Effect.provide(NodeServices.layer)

/** A process that claims a directory, and has it until it is killed; and the name of that directory. */
const startOwner = Effect.fnUntraced(function* (path: string, ...wrapper: ReadonlyArray<string>) {
  const [command = process.execPath, ...parameters] = [
    ...wrapper,
    process.execPath,
    "--conditions=@gantry/source",
    `${import.meta.dirname}/support/ownerProcess.ts`,
    path
  ]
  const child = yield* ChildProcess.make(command, parameters, { stderr: "inherit" })
  const said = yield* child.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
  const [name = "", pid = ""] = Option.getOrThrow(said).split(" ")
  return {
    name,
    pid: Number(pid),
    kill: Effect.andThen(Effect.ignore(child.kill({ killSignal: "SIGKILL" })), Effect.exit(child.exitCode))
  }
})

describe("a directory of one's own", () => {
  it.effect("is there until the scope ends", () =>
    Effect.gen(function* () {
      const path = yield* place
      const scope = yield* Scope.make()
      const directory = yield* Scope.provide(Ownership.claim(path), scope)
      assert.deepStrictEqual(yield* list(path), [nameOf(directory)])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* list(path), [])
    }).pipe(provideNode)
  )

  it.effect("is left alone by all others, in this process too", () =>
    Effect.gen(function* () {
      const path = yield* place
      const [first, second] = [yield* Ownership.claim(path), yield* Ownership.claim(path)]
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [nameOf(first), nameOf(second)].sort())
    }).pipe(provideNode)
  )

  it.effect("may have a name of any length", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* place}/${"long".repeat(50)}`
      yield* fs.makeDirectory(path)
      const scope = yield* Scope.make()
      const directory = yield* Scope.provide(Ownership.claim(path), scope)
      assert.notInclude(nameOf(directory), "unlocked")
      yield* fs.makeDirectory(`${path}/abandoned`)
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [nameOf(directory)])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* list(path), [])
    }).pipe(provideNode)
  )

  it.effect("is kept without a lock, and said to be, where there are no sockets", () =>
    Effect.gen(function* () {
      const path = yield* place
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => void warnings.push(String(message)))
      const directory = yield* Ownership.claim(path, () =>
        Effect.fail(new Ownership.NoLock({ cause: new Error("EPERM: no sockets") }))
      ).pipe(Effect.provide(Logger.layer([logger])))
      assert.match(warnings.join(), /EPERM: no sockets.*by hand/)
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [nameOf(directory)])
    }).pipe(provideNode)
  )
})

describe("what was left", () => {
  it.effect("by who held no lock is removed, whatever it is", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* place
      yield* fs.makeDirectory(`${path}/${process.pid}.1-earlier`)
      yield* fs.writeFileString(`${path}/${process.pid}.1-earlier/0`, "half a blob")
      yield* fs.writeFileString(`${path}/junk`, "")
      yield* fs.makeDirectory(`${path}/other`)
      yield* fs.writeFileString(`${path}/other/lock`, "")
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [])
    }).pipe(provideNode)
  )

  it.effect("of a claim that never came to its end is removed after a minute, and not before", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* place
      yield* fs.makeDirectory(`${path}/new-claim`)
      const { mtime } = yield* fs.stat(`${path}/new-claim`)
      yield* TestClock.setTime(Option.getOrThrow(mtime).getTime() + 59_000)
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), ["new-claim"])
      yield* TestClock.setTime(Option.getOrThrow(mtime).getTime() + 61_000)
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [])
    }).pipe(provideNode)
  )

  it.effect("is not taken for left while its process lives, also if it is stopped", () =>
    Effect.gen(function* () {
      const path = yield* place
      const { kill, name, pid } = yield* startOwner(path)
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [name])
      process.kill(pid, "SIGSTOP")
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [name])
      yield* kill
      assert.deepStrictEqual(yield* list(path), [name])
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [])
    }).pipe(provideNode)
  )

  it.effect("is told by life, not by number, across PID namespaces", (context) =>
    Effect.gen(function* () {
      yield* needNamespaces(context)
      const path = yield* place
      // Both are number 1 where they live; here that is another process, which lives as well.
      const inNamespace = ["unshare", "--map-root-user", "--pid", "--kill-child", "--fork"]
      const dead = yield* startOwner(path, ...inNamespace)
      const living = yield* startOwner(path, ...inNamespace)
      assert.deepStrictEqual([dead.pid, living.pid], [1, 1])
      yield* dead.kill
      assert.deepStrictEqual(yield* list(path), [dead.name, living.name].sort())
      yield* Ownership.sweep(path)
      assert.deepStrictEqual(yield* list(path), [living.name])
      yield* living.kill
    }).pipe(provideNode)
  )
})
