import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import type { Store } from "@gantry/coord"
import { BlobStore, ImageLayout } from "@gantry/oci"
import { type Digest, digestHex } from "@gantry/protocol"
import { Effect, Exit, Fiber, FileSystem, Latch, Layer, Option, Scope, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { TestClock } from "effect/testing"
import { blobStoreSuite } from "./support/blobStoreSuite.ts"
import { bytesOf, putBlob, readBlob } from "./support/bytes.ts"
import { errno, layerFileSystem, replaceIn } from "./support/fileSystem.ts"

const bytes = bytesOf(1, 300_000)
const digest = BlobStore.digestOf(bytes)

const temporaryDirectory = Effect.flatMap(FileSystem.FileSystem, (fs) =>
  fs.makeTempDirectoryScoped({ prefix: "gantry-layout-" })
)

/** A layout in a directory of its own, which is gone with the layer. */
const layerTemporary = Layer.unwrap(
  Effect.map(temporaryDirectory, (directory) => ImageLayout.layer({ directory }))
).pipe(Layer.provide(NodeServices.layer))

/** Runs in a process life of its own over the directory: nothing is remembered from before. */
const inLayout = (
  directory: string,
  layerFs: Layer.Layer<FileSystem.FileSystem, never, never> = NodeServices.layer
): (<A, E, R>(
  effect: Effect.Effect<A, E, R>
) => Effect.Effect<A, E | ImageLayout.ImageLayoutError, Exclude<R, BlobStore.BlobStore | Store.Store>>) =>
  Effect.provide(Layer.fresh(ImageLayout.layer({ directory }).pipe(Layer.provide(layerFs))))

const has = (digest: Digest) => BlobStore.BlobStore.use((store) => store.has(digest))
const verify = (digest: Digest) => BlobStore.BlobStore.use((store) => store.verify(digest))
const tag = (name: string, of: Digest) =>
  BlobStore.BlobStore.use((store) =>
    store.tag(name, { mediaType: "application/vnd.oci.image.manifest.v1+json", digest: of, size: 1 })
  )

const blobFile = (directory: string, of: Digest) => `${directory}/blobs/sha256/${digestHex(of)}`
const readJson = (path: string) =>
  FileSystem.FileSystem.use((fs) => Effect.map(fs.readFileString(path), (text): unknown => JSON.parse(text)))
const list = (path: string) => FileSystem.FileSystem.use((fs) => fs.readDirectory(path))

const provideNode = Effect.provide(NodeServices.layer)

describe("ImageLayout", () => {
  blobStoreSuite(Layer.fresh(layerTemporary))

  describe("as a directory", () => {
    it.effect("is an OCI image layout, made where there was nothing", () =>
      Effect.gen(function* () {
        const directory = `${yield* temporaryDirectory}/not/yet/there`
        yield* inLayout(directory)(putBlob(bytes))
        assert.deepStrictEqual(yield* readJson(`${directory}/oci-layout`), { imageLayoutVersion: "1.0.0" })
        assert.deepStrictEqual(yield* readJson(`${directory}/index.json`), { schemaVersion: 2, manifests: [] })
        assert.deepStrictEqual(yield* list(`${directory}/blobs/sha256`), [digestHex(digest)])
        assert.deepStrictEqual(yield* list(`${directory}/.gantry-tmp`), [])
      }).pipe(provideNode)
    )

    it.effect("is refused, and left as it is, when it is a layout of another version", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        yield* fs.writeFileString(`${directory}/oci-layout`, `{"imageLayoutVersion":"2.0.0"}`)
        const error = yield* Effect.flip(inLayout(directory)(has(digest)))
        assert.strictEqual((error as ImageLayout.ImageLayoutError).reason, "Invalid")
        assert.include(error.message, "oci-layout")
        assert.deepStrictEqual(yield* readJson(`${directory}/oci-layout`), { imageLayoutVersion: "2.0.0" })
      }).pipe(provideNode)
    )

    it.effect("is refused when it cannot be made", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        yield* fs.writeFileString(`${directory}/file`, "")
        const error = yield* Effect.flip(inLayout(`${directory}/file/layout`)(has(digest)))
        assert.strictEqual((error as ImageLayout.ImageLayoutError).reason, "Unreachable")
      }).pipe(provideNode)
    )

    it.effect("is refused at the start when its blobs are in another file system", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const divided = layerFileSystem((real) => ({
          rename: (from, to) =>
            to.startsWith(`${directory}/blobs/`) ? Effect.fail(errno("EXDEV")) : real.rename(from, to)
        }))
        const error = yield* Effect.flip(inLayout(directory, divided)(has(digest)))
        assert.strictEqual((error as ImageLayout.ImageLayoutError).reason, "Divided")
        assert.include(error.message, `${directory}/blobs/sha256`)
        assert.deepStrictEqual(yield* list(`${directory}/.gantry-tmp`), [])
      }).pipe(provideNode)
    )

    it.effect.each(["EROFS", "EACCES", "EPERM"])("says %s when it may not be written to", (code) =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const closed = layerFileSystem(() => ({
          // As Node does it.
          makeDirectory: (_path, options) => Effect.fail(errno(options?.recursive === true ? "ENOENT" : code))
        }))
        const error = yield* Effect.flip(inLayout(directory, closed)(has(digest)))
        assert.strictEqual((error as ImageLayout.ImageLayoutError).reason, "ReadOnly")
        assert.include(error.message, code)
      }).pipe(provideNode)
    )
  })

  describe("writing", () => {
    it.effect("makes bytes durable before the name, and the name before commit returns", () =>
      Effect.gen(function* () {
        const events: Array<string> = []
        const record = (event: string) => Effect.sync(() => events.push(event))
        const place = (path: string) =>
          path.endsWith(digestHex(digest)) ? "name" : path.endsWith("/blobs/sha256") ? "directory" : "file"
        const recording = layerFileSystem((real) => ({
          open: (path, options) =>
            Effect.map(real.open(path, options), (file) =>
              replaceIn(file, {
                writeAll: (chunk) => Effect.tap(file.writeAll(chunk), () => record(`write ${place(path)}`)),
                sync: Effect.tap(file.sync, () => record(`sync ${place(path)}`))
              })
            ),
          rename: (from, to) => Effect.tap(real.rename(from, to), () => record(`rename ${place(from)} to ${place(to)}`))
        }))
        const directory = yield* temporaryDirectory
        yield* inLayout(directory)(Effect.void)
        yield* inLayout(directory, recording)(putBlob(bytes, bytes.length))
        assert.deepStrictEqual(events.slice(-4), ["write file", "sync file", "rename file to name", "sync directory"])
      }).pipe(provideNode)
    )

    it.effect("shows no file under a blob's name before the commit", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        yield* Effect.gen(function* () {
          const store = yield* BlobStore.BlobStore
          const writer = yield* store.writer(digest)
          yield* writer.append(bytes)
          assert.deepStrictEqual(yield* list(`${directory}/blobs/sha256`), [])
          yield* Effect.flip((yield* store.writer(digest)).commit)
          assert.deepStrictEqual(yield* list(`${directory}/blobs/sha256`), [])
          yield* writer.commit
          assert.deepStrictEqual(yield* list(`${directory}/blobs/sha256`), [digestHex(digest)])
        }).pipe(inLayout(directory))
      }).pipe(provideNode)
    )

    it.effect(
      "leaves nothing partial under a blob's name when the process is killed",
      () =>
        Effect.gen(function* () {
          const directory = yield* temporaryDirectory
          const third = BlobStore.digestOf(bytesOf(3, 300_000))
          const child = yield* ChildProcess.make(
            process.execPath,
            ["--conditions=@gantry/source", `${import.meta.dirname}/support/writerProcess.ts`, directory],
            { stderr: "inherit" }
          )
          const said = yield* child.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
          assert.deepStrictEqual(said, Option.some("half-way"))
          yield* Effect.ignore(child.kill({ killSignal: "SIGKILL" }))
          yield* Effect.exit(child.exitCode)

          const committed = [1, 2].map((seed) => BlobStore.digestOf(bytesOf(seed, 300_000)))
          const names = yield* list(`${directory}/blobs/sha256`)
          assert.deepStrictEqual(names.sort(), committed.map(digestHex).sort())
          const left = yield* list(`${directory}/.gantry-tmp`)
          assert.lengthOf(left, 1)
          yield* Effect.gen(function* () {
            for (const digest of committed) assert.isTrue(yield* verify(digest))
            assert.isFalse(yield* has(third))
            const own = yield* list(`${directory}/.gantry-tmp`)
            assert.lengthOf(own, 1)
            assert.notDeepEqual(own, left)
          }).pipe(inLayout(directory))
        }).pipe(provideNode),
      60_000
    )

    it.effect("gives the disk back at a restart, and when a writer is given up", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        const sizes = Effect.gen(function* () {
          const names = yield* fs.readDirectory(`${directory}/.gantry-tmp`, { recursive: true })
          const infos = yield* Effect.forEach(names, (name) => fs.stat(`${directory}/.gantry-tmp/${name}`))
          return infos.filter(({ type }) => type === "File").map(({ size }) => Number(size))
        })
        yield* Effect.gen(function* () {
          const store = yield* BlobStore.BlobStore
          const scope = yield* Scope.make()
          const writer = yield* Scope.provide(store.writer(digest), scope)
          yield* writer.append(bytes)
          assert.deepStrictEqual(yield* sizes, [bytes.length])
          yield* writer.restart
          assert.deepStrictEqual(yield* sizes, [0])
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(yield* sizes, [])
        }).pipe(inLayout(directory))
      }).pipe(provideNode)
    )

    it.effect("tells a full disk, keeps nothing, and goes on where a failed write began", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        let full = true
        const filling = layerFileSystem((real) => ({
          open: (path, options) =>
            Effect.map(real.open(path, options), (file) =>
              replaceIn(file, {
                writeAll: (chunk) =>
                  full && chunk.length > 1000
                    ? Effect.andThen(file.writeAll(chunk.subarray(0, 1000)), Effect.fail(errno("ENOSPC")))
                    : file.writeAll(chunk)
              })
            )
        }))
        yield* Effect.gen(function* () {
          const store = yield* BlobStore.BlobStore
          const writer = yield* store.writer(digest)
          const error = yield* Effect.flip(writer.append(bytes))
          assert.strictEqual(error.reason, "NoSpace")
          assert.include(error.message, "ENOSPC")
          assert.strictEqual(yield* writer.offset, 0)
          full = false
          yield* writer.append(bytes)
          full = true
          yield* Effect.flip(writer.append(bytes))
          yield* writer.commit
          assert.deepStrictEqual(yield* store.size(digest), Option.some(bytes.length))
          assert.isTrue(yield* store.verify(digest))
        }).pipe(Effect.scoped, inLayout(directory, filling))
        assert.deepStrictEqual(yield* list(`${directory}/.gantry-tmp`), [])
      }).pipe(provideNode)
    )

    it.effect.each([
      ["NoSpace", "ENOSPC"],
      ["NoSpace", "EDQUOT"],
      ["ReadOnly", "EROFS"],
      ["ReadOnly", "EACCES"],
      ["Failed", "EIO"]
    ] as const)("tells %s by %s, whatever it was about to do", ([reason, code]) =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        let broken = ""
        const breaking = layerFileSystem((real) => ({
          open: (path, options) =>
            broken === "open" && options?.flag === "wx+"
              ? Effect.fail(errno(code))
              : Effect.map(real.open(path, options), (file) =>
                  replaceIn(file, {
                    writeAll: (chunk) => (broken === "write" ? Effect.fail(errno(code)) : file.writeAll(chunk)),
                    sync: Effect.suspend(() => (broken === "sync" ? Effect.fail(errno(code)) : file.sync))
                  })
                ),
          rename: (from, to) => (broken === "rename" ? Effect.fail(errno(code)) : real.rename(from, to))
        }))
        yield* Effect.gen(function* () {
          for (broken of ["open", "write", "sync", "rename"]) {
            const error = yield* Effect.flip(putBlob(bytes))
            assert.deepStrictEqual([error.reason, broken], [reason, broken])
            assert.include(error.message, code)
          }
        }).pipe(inLayout(directory, breaking))
      }).pipe(provideNode)
    )

    it.effect("replaces a damaged file by a commit", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        yield* inLayout(directory)(putBlob(bytes))
        yield* fs.writeFileString(blobFile(directory, digest), "damaged")
        yield* Effect.gen(function* () {
          assert.isFalse(yield* has(digest))
          yield* putBlob(bytes)
          assert.isTrue(yield* has(digest))
        }).pipe(inLayout(directory))
      }).pipe(provideNode)
    )
  })

  describe("has", () => {
    it.effect("sees that a file was truncated, changed or removed after its commit", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        const path = blobFile(directory, digest)
        const denied = Effect.gen(function* () {
          assert.isFalse(yield* has(digest))
          assert.deepStrictEqual(yield* readBlob(digest), Option.none())
          assert.isFalse(yield* verify(digest))
        })
        yield* Effect.gen(function* () {
          yield* putBlob(bytes)
          yield* fs.truncate(path, 299_999)
          yield* denied
          yield* putBlob(bytes)
          assert.isTrue(yield* has(digest))
          yield* fs.writeFile(path, bytesOf(2, 300_000))
          yield* fs.utimes(path, 1, 1)
          yield* denied
          yield* fs.remove(path)
          yield* denied
          yield* fs.makeDirectory(path)
          assert.isFalse(yield* has(digest))
          assert.deepStrictEqual(yield* readBlob(digest), Option.none())
        }).pipe(inLayout(directory))
      }).pipe(provideNode)
    )

    it.effect("hashes a file that it finds once, for all who ask, and again only when it has changed", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        yield* inLayout(directory)(putBlob(bytes))
        let opened = 0
        const counting = layerFileSystem((real) => ({
          open: (path, options) => {
            if (path.endsWith(digestHex(digest))) opened++
            return real.open(path, options)
          }
        }))
        yield* Effect.gen(function* () {
          const answers = yield* Effect.replicateEffect(has(digest), 20, { concurrency: "unbounded" })
          assert.deepStrictEqual(answers, new Array(20).fill(true))
          assert.isTrue(yield* has(digest))
          assert.strictEqual(opened, 1)
        }).pipe(inLayout(directory, counting))
      }).pipe(provideNode)
    )

    it.effect("denies a file it finds with the wrong bytes, and does not hash it twice", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        yield* inLayout(directory)(Effect.void)
        yield* fs.writeFile(blobFile(directory, digest), bytes.subarray(1))
        let opened = 0
        const counting = layerFileSystem((real) => ({
          open: (path, options) => {
            if (path.endsWith(digestHex(digest))) opened++
            return real.open(path, options)
          }
        }))
        yield* Effect.gen(function* () {
          assert.isFalse(yield* has(digest))
          assert.isFalse(yield* has(digest))
          assert.strictEqual(opened, 1)
        }).pipe(inLayout(directory, counting))
      }).pipe(provideNode)
    )

    it.effect("says no within 50 ms while a found file is still being hashed, and yes once it is", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        yield* inLayout(directory)(putBlob(bytes))
        const reading = yield* Latch.make()
        const disk = yield* Latch.make()
        const slow = layerFileSystem((real) => ({
          open: (path, options) =>
            Effect.map(real.open(path, options), (file) =>
              replaceIn(file, {
                read: (buffer, at) => Effect.all([reading.open, disk.await]).pipe(Effect.andThen(file.read(buffer, at)))
              })
            )
        }))
        yield* Effect.gen(function* () {
          const scope = yield* Scope.make()
          const asking = yield* Effect.forkIn(has(digest), scope)
          yield* reading.await
          yield* TestClock.adjust("49 millis")
          assert.isUndefined(asking.pollUnsafe())
          yield* TestClock.adjust("1 millis")
          assert.isFalse(yield* Fiber.join(asking))

          const again = yield* Effect.forkIn(has(digest), scope)
          yield* Scope.close(scope, Exit.void)
          assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(again)))
          yield* disk.open
          assert.isTrue(yield* has(digest))
        }).pipe(inLayout(directory, slow))
      }).pipe(provideNode)
    )

    it.effect("does not go by what a file was while it is being hashed again", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        const reading = yield* Latch.make()
        const stuck = layerFileSystem((real) => ({
          open: (path, options) =>
            Effect.map(real.open(path, options), (file) =>
              replaceIn(file, { read: () => Effect.andThen(reading.open, Effect.never) })
            )
        }))
        yield* Effect.gen(function* () {
          yield* putBlob(bytes)
          assert.isTrue(yield* has(digest))
          yield* fs.truncate(blobFile(directory, digest), 299_999)
          const asking = yield* Effect.forkChild(has(digest))
          yield* reading.await
          yield* TestClock.adjust("50 millis")
          assert.isFalse(yield* Fiber.join(asking))
        }).pipe(inLayout(directory, stuck))
      }).pipe(provideNode)
    )

    it.effect("tells an unreachable directory from any other failure, and neither from absence", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        let failure = "EIO"
        const failing = layerFileSystem((real) => ({
          stat: (path) => (path.includes("/blobs/") && failure !== "" ? Effect.fail(errno(failure)) : real.stat(path))
        }))
        const reason = Effect.map(Effect.flip(has(digest)), (error) => error.message.split(",")[0])
        yield* Effect.gen(function* () {
          for (failure of ["EIO", "EACCES", "ESTALE"]) assert.strictEqual(yield* reason, "the store cannot be reached")
          failure = "EMFILE"
          assert.strictEqual(yield* reason, "the store failed")
          failure = ""
          assert.isFalse(yield* has(digest))
          yield* fs.rename(directory, `${directory}.unmounted`)
          assert.strictEqual(yield* reason, "the store cannot be reached")
          assert.strictEqual((yield* Effect.flip(readBlob(digest))).reason, "Unavailable")
          yield* fs.makeDirectory(directory)
          assert.strictEqual(yield* reason, "the store cannot be reached")
          yield* fs.remove(directory, { recursive: true })
          yield* fs.rename(`${directory}.unmounted`, directory)
          assert.isFalse(yield* has(digest))
        }).pipe(inLayout(directory, failing))
      }).pipe(provideNode)
    )
  })

  describe("tag", () => {
    const named = (name: string, of: Digest) => ({
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest: of,
      size: 1,
      annotations: { "org.opencontainers.image.ref.name": name }
    })
    const other = BlobStore.digestOf(bytesOf(2, 10))

    it.effect("moves a name, and keeps all that others have written", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        const unnamed = { mediaType: "x/y", digest: other, size: 7, platform: { os: "linux" }, data: "e30=" }
        const foreign = { ...named("theirs", other), annotations: { ...named("theirs", other).annotations, more: "1" } }
        const theirs = {
          schemaVersion: 2,
          mediaType: "application/vnd.oci.image.index.v1+json",
          manifests: [unnamed, foreign, named("ours", other)],
          annotations: { left: "alone" }
        }
        yield* inLayout(directory)(Effect.void)
        yield* fs.writeFileString(`${directory}/index.json`, JSON.stringify(theirs))
        yield* inLayout(directory)(tag("ours", digest))
        assert.deepStrictEqual(yield* readJson(`${directory}/index.json`), {
          ...theirs,
          manifests: [unnamed, foreign, named("ours", digest)]
        })
      }).pipe(provideNode)
    )

    it.effect("loses none of many at once", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const names = Array.from({ length: 20 }, (_, index) => `tag-${index}`)
        yield* Effect.forEach(names, (name) => tag(name, digest), { concurrency: "unbounded" }).pipe(
          inLayout(directory)
        )
        assert.deepStrictEqual(yield* readJson(`${directory}/index.json`), {
          schemaVersion: 2,
          manifests: names.map((name) => named(name, digest))
        })
      }).pipe(provideNode)
    )

    it.effect("takes the null that umoci writes for no images", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        yield* fs.writeFileString(`${directory}/index.json`, `{"schemaVersion":2,"manifests":null}`)
        yield* inLayout(directory)(tag("first", digest))
        assert.deepStrictEqual(yield* readJson(`${directory}/index.json`), {
          schemaVersion: 2,
          manifests: [named("first", digest)]
        })
      }).pipe(provideNode)
    )

    it.effect("says what is wrong with an invalid index, and does not touch it", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* temporaryDirectory
        for (const invalid of ["{", `{"schemaVersion":1,"manifests":[]}`, `{"schemaVersion":2,"manifests":{}}`]) {
          yield* fs.writeFileString(`${directory}/index.json`, invalid)
          const error = yield* Effect.flip(inLayout(directory)(tag("ours", digest)))
          assert.include(error.message, "index.json")
          assert.strictEqual(yield* fs.readFileString(`${directory}/index.json`), invalid)
        }
      }).pipe(provideNode)
    )
  })
})
