/**
 * A blob store in an OCI image-layout directory, the format that skopeo,
 * crane, umoci and oras read: `oci-layout`, `index.json` and
 * `blobs/sha256/<hex>`.
 */

import { createHash } from "node:crypto"
import { type Store, StoreError } from "@gantry/coord/Store"
import { type Digest, digestHex } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import {
  type Blob,
  BlobStore,
  BlobWriteError,
  type ByteRange,
  type Descriptor,
  layerStore,
  makeWriter,
  type WriterOptions
} from "./BlobStore.ts"

/**
 * Why a directory does not serve as a layout. `Unreachable`: it cannot be made,
 * read or written. `Invalid`: a file of it is something else, and is left as it is.
 */
export class ImageLayoutError extends Schema.TaggedError<ImageLayoutError>("@gantry/oci/ImageLayoutError")(
  "ImageLayoutError",
  {
    reason: Schema.Literals(["Unreachable", "Invalid"]),
    path: Schema.String,
    detail: Schema.String
  }
) {
  override get message(): string {
    return this.reason === "Unreachable"
      ? `cannot keep an image layout in ${this.path}: ${this.detail}`
      : `${this.path} is not that of an image layout: ${this.detail}`
  }
}

/** Where the layout is. */
export interface Options {
  /** Made if it does not exist. One process at a time writes into it; any may read. */
  readonly directory: string
}

/** How many bytes are read at once. */
const pieceSize = 256 * 1024

/** How many blobs of unknown content are hashed at once; bounds open files and memory. */
const concurrentExaminations = 16

/**
 * How long a query waits for the hash of a blob that this process has not
 * written. It has 100 ms in all; a manifest is done by then, and a large layer
 * is said to be absent until it is done.
 */
const examinationPatience = Duration.millis(50)

/** Error codes of a file system that is out of reach, whatever one asks of it. */
const unreachableCodes: ReadonlySet<string | undefined> = new Set([
  "EACCES",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "EIO",
  "ENODEV",
  "ENOTCONN",
  "ENOTDIR",
  "ENXIO",
  "EPERM",
  "ESTALE",
  "ETIMEDOUT"
])

const refName = "org.opencontainers.image.ref.name"

const whatever = [Schema.Record(Schema.String, Schema.Unknown)] as const

const LayoutFile = Schema.fromJsonString(Schema.Struct({ imageLayoutVersion: Schema.Literal("1.0.0") }))

/** What a name changes of an index; everything else stays as it was. Of no images, umoci makes `null`. */
const IndexFile = Schema.fromJsonString(
  Schema.StructWithRest(
    Schema.Struct({
      schemaVersion: Schema.Literal(2),
      manifests: Schema.NullOr(
        Schema.Array(
          Schema.StructWithRest(
            Schema.Struct({
              annotations: Schema.optionalKey(Schema.NullOr(Schema.Record(Schema.String, Schema.String)))
            }),
            whatever
          )
        )
      )
    }),
    whatever
  )
)

const errno = (error: PlatformError) => (error.cause ?? error) as NodeJS.ErrnoException
const isNotFound = (error: PlatformError) => error.reason._tag === "NotFound"
const storeError = (digest: Digest) => (error: PlatformError) => {
  const cause = errno(error)
  return new StoreError({ reason: unreachableCodes.has(cause.code) ? "Unavailable" : "Failed", digest, cause })
}
const writeError = (digest: Digest) => (error: PlatformError) =>
  new BlobWriteError({ reason: "Failed", digest, detail: errno(error).message })

/** Tells one state of a file from another without reading it. */
const stampOf = ({ ino, mtime, size }: FileSystem.File.Info): string =>
  [Option.getOrUndefined(ino), size, Option.getOrUndefined(mtime)?.getTime()].join()

/**
 * Names this process, and none before it that had the same number, as the
 * first process of every container has.
 */
const processName = `${process.pid}.${Math.round(performance.timeOrigin)}`

/** Whether the process of that name may still be writing. */
const isAlive = (name: string): Effect.Effect<boolean> => {
  const pid = Number.parseInt(name, 10)
  if (name === processName) return Effect.succeed(true)
  if (!(pid > 0) || pid === process.pid) return Effect.succeed(false)
  return Effect.try({ try: () => process.kill(pid, 0), catch: (error) => (error as NodeJS.ErrnoException).code }).pipe(
    Effect.match({ onSuccess: () => true, onFailure: (code) => code === "EPERM" })
  )
}

const make = Effect.fnUntraced(function* ({ directory }: Options) {
  const fs = yield* FileSystem.FileSystem
  const blobs = `${directory}/blobs/sha256`
  const layoutFile = `${directory}/oci-layout`
  const indexFile = `${directory}/index.json`
  const temporaries = `${directory}/.gantry-tmp`
  const blobFile = (digest: Digest) => `${blobs}/${digestHex(digest)}`

  const unreachable = (error: PlatformError) =>
    new ImageLayoutError({ reason: "Unreachable", path: directory, detail: errno(error).message })
  const decode = <A>(schema: Schema.Codec<A, string>, path: string, text: string) =>
    Effect.mapError(
      Schema.decodeEffect(schema)(text),
      ({ message }) => new ImageLayoutError({ reason: "Invalid", path, detail: message })
    )
  const remove = (path: string) =>
    Effect.ignore(fs.remove(path, { recursive: true, force: true }), { log: "Warn", message: `cannot remove ${path}` })

  // Files that appear whole or not at all

  /** Removes what processes that are no more have left, and makes a place for this one. */
  const claimTemporary = Effect.gen(function* () {
    yield* fs.makeDirectory(temporaries, { recursive: true })
    for (const entry of yield* fs.readDirectory(temporaries)) {
      const [owner = ""] = entry.split("-")
      if (!(yield* isAlive(owner))) yield* remove(`${temporaries}/${entry}`)
    }
    return yield* fs.makeTempDirectory({ directory: temporaries, prefix: `${processName}-` })
  })
  const temporary = yield* Effect.acquireRelease(Effect.mapError(claimTemporary, unreachable), remove)

  let temporaryFiles = 0
  /** A new file, gone with the scope unless it has been renamed by then. */
  const temporaryFile = Effect.gen(function* () {
    const path = `${temporary}/${temporaryFiles++}`
    yield* Effect.addFinalizer(() => remove(path))
    return { path, file: yield* fs.open(path, { flag: "wx" }) }
  })

  /** Makes the renames in a directory durable. */
  const syncDirectory = (path: string) =>
    Effect.scoped(Effect.flatMap(fs.open(path, { flag: "r" }), ({ sync }) => sync))

  const replaceFile = Effect.fnUntraced(function* (path: string, text: string) {
    const written = yield* temporaryFile
    yield* written.file.writeAll(new TextEncoder().encode(text))
    yield* written.file.sync
    yield* fs.rename(written.path, path)
    yield* syncDirectory(directory)
  }, Effect.scoped)

  const readOrInit = (path: string, initial: string) =>
    Effect.catchIf(fs.readFileString(path), isNotFound, () => Effect.as(replaceFile(path, initial), initial))

  const layout = yield* fs
    .makeDirectory(blobs, { recursive: true })
    .pipe(
      Effect.andThen(syncDirectory(`${directory}/blobs`)),
      Effect.andThen(readOrInit(layoutFile, `{"imageLayoutVersion":"1.0.0"}`)),
      Effect.tap(readOrInit(indexFile, `{"schemaVersion":2,"manifests":[]}`)),
      Effect.mapError(unreachable)
    )
  yield* decode(LayoutFile, layoutFile, layout)

  // Reading

  /** What hashing a blob has shown, and the state of its file then. */
  const verdicts = new Map<Digest, { readonly stamp: string; readonly whole: boolean }>()
  const examinations = yield* FiberMap.make<Digest, boolean, StoreError>()
  const examining = yield* Semaphore.make(concurrentExaminations)

  /** Turns errors into the store's. What is not found is absent, if the layout is there to say so. */
  const answer = <A, R>(digest: Digest, absent: A, effect: Effect.Effect<A, PlatformError | StoreError, R>) =>
    Effect.catchTag(effect, "PlatformError", (error) => {
      if (!isNotFound(error)) return Effect.fail(storeError(digest)(error))
      verdicts.delete(digest)
      return Effect.mapBoth(fs.access(layoutFile), {
        onSuccess: () => absent,
        onFailure: (gone) => new StoreError({ reason: "Unavailable", digest, cause: errno(gone) })
      })
    })

  /** Reads into the memory that it is given for each piece. */
  const read = (
    file: FileSystem.File,
    digest: Digest,
    { length, offset }: ByteRange,
    memory: (size: number) => Uint8Array
  ) =>
    Stream.unfold(
      offset,
      Effect.fnUntraced(function* (position) {
        const remaining = offset + length - position
        if (remaining === 0) return undefined
        const piece = memory(Math.min(pieceSize, remaining))
        const size = yield* Effect.mapError(file.read(piece, { position: BigInt(position) }), storeError(digest))
        if (size > 0) return [piece.subarray(0, size), position + size] as const
        const cause = new RangeError(`the file ends at ${position}, ${remaining} bytes early`)
        return yield* new StoreError({ reason: "Failed", digest, cause })
      })
    )

  const blobOf = (file: FileSystem.File, digest: Digest, size: number, range: ByteRange): Blob => ({
    size,
    stream: read(file, digest, range, Buffer.allocUnsafeSlow),
    runForEach: (use) =>
      Effect.suspend(() => {
        const buffer = Buffer.allocUnsafeSlow(Math.min(pieceSize, range.length))
        return Stream.runForEach(
          read(file, digest, range, (size) => buffer.subarray(0, size)),
          use
        )
      })
  })

  const rehash = Effect.fnUntraced(function* (digest: Digest) {
    const known = verdicts.get(digest)
    const file = yield* fs.open(blobFile(digest), { flag: "r" })
    const before = yield* file.stat
    const hash = createHash("sha256")
    const size = Number(before.size)
    yield* blobOf(file, digest, size, { offset: 0, length: size }).runForEach((piece) =>
      Effect.sync(() => void hash.update(piece))
    )
    const whole = hash.digest("hex") === digestHex(digest)
    const stamp = stampOf(yield* file.stat)
    // Unless the file was changed, or another one was committed, in the meantime.
    if (stamp === stampOf(before) && verdicts.get(digest) === known) verdicts.set(digest, { stamp, whole })
    if (!whole) yield* Effect.logWarning(`${blobFile(digest)} has the wrong bytes and counts as absent`)
    return whole
  }, Effect.scoped)
  const verify = (digest: Digest) => answer(digest, false, rehash(digest))

  /** Has a blob hashed in the background, once for all who ask, and waits a little for it. */
  const examine = Effect.fnUntraced(function* (digest: Digest) {
    const examination = Effect.tapError(examining.withPermit(verify(digest)), (error) =>
      Effect.logWarning(error.message)
    )
    yield* FiberMap.run(examinations, digest, examination, { onlyIfMissing: true })
    const running = yield* FiberMap.get(examinations, digest)
    if (Option.isSome(running)) yield* Effect.timeoutOption(Fiber.join(running.value), examinationPatience)
  })

  const isWhole = Effect.fnUntraced(function* (digest: Digest, info: FileSystem.File.Info) {
    if (info.type !== "File") return false
    const stamp = stampOf(info)
    if (verdicts.get(digest)?.stamp !== stamp) yield* examine(digest)
    const verdict = verdicts.get(digest)
    return verdict?.stamp === stamp && verdict.whole
  })

  // Not by opening: a query must be able to leave a file system that hangs,
  // and what is being opened cannot be interrupted.
  const stat = Effect.fnUntraced(function* (digest: Digest) {
    const info = yield* fs.stat(blobFile(digest))
    yield* fs.access(blobFile(digest), { readable: true })
    return (yield* isWhole(digest, info)) ? Option.some(Number(info.size)) : Option.none()
  })
  const size = (digest: Digest) => answer(digest, Option.none(), stat(digest))

  const openWhole = Effect.fnUntraced(function* (digest: Digest, range?: ByteRange) {
    const file = yield* fs.open(blobFile(digest), { flag: "r" })
    const info = yield* file.stat
    if (!(yield* isWhole(digest, info))) return Option.none()
    const size = Number(info.size)
    const { length, offset } = range ?? { offset: 0, length: size }
    if (offset + length > size) {
      const cause = new RangeError(`bytes ${offset} to ${offset + length} of ${size}`)
      return yield* new StoreError({ reason: "Failed", digest, cause })
    }
    return Option.some(blobOf(file, digest, size, { offset, length }))
  })
  const open = (digest: Digest, range?: ByteRange) => answer(digest, Option.none(), openWhole(digest, range))

  // Writing

  /** Makes the order of verdicts that of the renames. */
  const renaming = yield* Semaphore.make(1)

  const writer = Effect.fnUntraced(
    function* (digest: Digest, options?: WriterOptions) {
      const { file, path } = yield* temporaryFile
      const publish = Effect.fnUntraced(
        function* (size: number) {
          yield* file.truncate(size)
          yield* file.sync
          const stamp = stampOf(yield* file.stat)
          yield* renaming.withPermit(
            Effect.map(fs.rename(path, blobFile(digest)), () => verdicts.set(digest, { stamp, whole: true }))
          )
          yield* syncDirectory(blobs)
        },
        Effect.mapError(writeError(digest))
      )

      return makeWriter(digest, options?.maxSize, {
        write: (chunk, offset) =>
          Effect.andThen(file.seek(BigInt(offset), "start"), file.writeAll(chunk)).pipe(
            Effect.mapError(writeError(digest))
          ),
        read: (position, into) =>
          Effect.mapBoth(file.read(into, { position: BigInt(position) }), {
            onSuccess: Number,
            onFailure: writeError(digest)
          }),
        clear: Effect.mapError(file.truncate(0), writeError(digest)),
        publish
      })
    },
    (effect, digest) => Effect.mapError(effect, writeError(digest))
  )

  const tagging = yield* Semaphore.make(1)
  const replaceTag = Effect.fnUntraced(function* (name: string, { digest, mediaType, size }: Descriptor) {
    const index = yield* decode(IndexFile, indexFile, yield* fs.readFileString(indexFile))
    const others = (index.manifests ?? []).filter(({ annotations }) => annotations?.[refName] !== name)
    const manifests = [...others, { mediaType, digest, size, annotations: { [refName]: name } }]
    yield* replaceFile(indexFile, JSON.stringify({ ...index, manifests }))
  })
  const tag = (name: string, descriptor: Descriptor) =>
    Effect.uninterruptible(tagging.withPermit(replaceTag(name, descriptor))).pipe(
      Effect.catchTags({
        PlatformError: (error) => Effect.fail(storeError(descriptor.digest)(error)),
        ImageLayoutError: (cause) => Effect.fail(new StoreError({ reason: "Failed", digest: descriptor.digest, cause }))
      })
    )

  return BlobStore.of({
    has: (digest) => Effect.map(size(digest), Option.isSome),
    size,
    open,
    verify,
    writer,
    tag
  })
})

/**
 * The blobs of an image-layout directory. What this process writes is verified
 * as it is written; what it finds is hashed when it is first asked for, and
 * again when the file has changed since.
 */
export const layer = (options: Options): Layer.Layer<BlobStore | Store, ImageLayoutError, FileSystem.FileSystem> =>
  Layer.provideMerge(layerStore, Layer.effect(BlobStore, make(options)))
