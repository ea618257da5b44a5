import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { needNamespaces } from "./support/namespaces.ts"

/** What becomes of a blob that a process puts into the layout `$1/layout`, on disks that the script makes first. */
const putOn = Effect.fnUntraced(function* (script: string) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "gantry-disk-" })
  const store = `exec "$0" --conditions=@gantry/source ${import.meta.dirname}/support/storeProcess.ts "$1/layout"`
  const child = yield* ChildProcess.make(
    "unshare",
    ["--map-root-user", "--mount", "sh", "-ec", `${script}\n${store}`, process.execPath, directory],
    { stderr: "inherit" }
  )
  return (yield* child.stdout.pipe(Stream.decodeText(), Stream.mkString)).trim()
})

describe("a layout on a real disk", () => {
  it.effect.each([
    ["takes a blob", `mount -t tmpfs -o size=1m tmpfs "$1"`, /^Stored$/],
    ["says that there is no space", `mount -t tmpfs -o size=200k tmpfs "$1"`, /^BlobWriteError NoSpace .*ENOSPC/],
    [
      "says that it is read-only",
      `mount -t tmpfs -o size=1m tmpfs "$1"; mkdir "$1/layout"; mount -o remount,ro "$1"`,
      /^ImageLayoutError ReadOnly .*EROFS/
    ],
    [
      "says that its blobs are in another file system",
      `mkdir -p "$1/layout/blobs" "$1/other"; mount -t tmpfs tmpfs "$1/other"; ln -s "$1/other" "$1/layout/blobs/sha256"`,
      /^ImageLayoutError Divided .*blobs\/sha256 is in another file system/
    ],
    [
      "says so of the same file system, mounted twice",
      `mkdir -p "$1/layout/blobs/sha256" "$1/other"; mount --bind "$1/other" "$1/layout/blobs/sha256"`,
      /^ImageLayoutError Divided .*EXDEV/
    ]
  ] as const)("%s", ([, script, said], context) =>
    Effect.gen(function* () {
      yield* needNamespaces(context)
      assert.match(yield* putOn(script), said)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
