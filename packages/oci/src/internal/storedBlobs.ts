/**
 * The blobs that are there, which are those that are whole. What this process
 * has written was verified on the way; what it finds is hashed when it is first
 * asked for, and again when the file has changed since.
 */
import { createHash } from "node:crypto"
import { StoreError } from "@gantry/coord/Store"
import { type Digest, digestHex } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { BlobStore, ByteRange } from "../BlobStore.ts"
import { errno, isNotFound, storeError } from "./errno.ts"
import { fileBlob } from "./fileBlob.ts"

/** How many blobs of unknown content are hashed at once; bounds open files and memory. */
const concurrentExaminations = 16

/**
 * How long a query waits for the hash of a blob that this process has not
 * written. It has 100 ms in all; a manifest is done by then, and a large layer
 * is said to be absent until it is done.
 */
const examinationPatience = Duration.millis(50)

/** Tells one state of a file from another without reading it. */
const stampOf = ({ ino, mtime, size }: FileSystem.File.Info): string =>
  [Option.getOrUndefined(ino), size, Option.getOrUndefined(mtime)?.getTime()].join()

export interface StoredBlobs extends Pick<BlobStore["Service"], "size" | "open" | "verify"> {
  /** Takes the word of who wrote a blob that its file, in this state, is whole. */
  readonly admit: (digest: Digest, info: FileSystem.File.Info) => void
}

/** Where the blobs are. */
export interface Place {
  readonly fileOf: (digest: Digest) => string
  /** A file that is there as long as the place can be reached. */
  readonly landmark: string
}

export const make = Effect.fnUntraced(function* ({
  fileOf,
  landmark
}: Place): Effect.fn.Return<StoredBlobs, never, FileSystem.FileSystem | Scope.Scope> {
  const fs = yield* FileSystem.FileSystem
  /** What hashing a blob has shown, and the state of its file then. */
  const verdicts = new Map<Digest, { readonly stamp: string; readonly isWhole: boolean }>()
  const examinations = yield* FiberMap.make<Digest, boolean, StoreError>()
  const examining = yield* Semaphore.make(concurrentExaminations)

  /** Turns errors into the store's. What is not found is absent, if the place is there to say so. */
  const answer = <A, R>(digest: Digest, absent: A, effect: Effect.Effect<A, PlatformError | StoreError, R>) =>
    Effect.catchTag(effect, "PlatformError", (error) => {
      if (!isNotFound(error)) return Effect.fail(storeError(digest)(error))
      verdicts.delete(digest)
      return Effect.mapBoth(fs.access(landmark), {
        onSuccess: () => absent,
        onFailure: (gone) => new StoreError({ reason: "Unavailable", digest, cause: errno(gone) })
      })
    })

  const rehash = Effect.fnUntraced(function* (digest: Digest) {
    const known = verdicts.get(digest)
    const file = yield* fs.open(fileOf(digest), { flag: "r" })
    const before = yield* file.stat
    const hash = createHash("sha256")
    const size = Number(before.size)
    yield* fileBlob(file, digest, size, { offset: 0, length: size }).runForEach((piece) =>
      Effect.sync(() => void hash.update(piece))
    )
    const isWhole = hash.digest("hex") === digestHex(digest)
    const stamp = stampOf(yield* file.stat)
    // Unless the file was changed, or another one was committed, in the meantime.
    if (stamp === stampOf(before) && verdicts.get(digest) === known) verdicts.set(digest, { stamp, isWhole })
    if (!isWhole) yield* Effect.logWarning(`${fileOf(digest)} has the wrong bytes and counts as absent`)
    return isWhole
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
    return verdict?.stamp === stamp && verdict.isWhole
  })

  // Not by opening: a query must be able to leave a file system that hangs,
  // and what is being opened cannot be interrupted.
  const stat = Effect.fnUntraced(function* (digest: Digest) {
    const info = yield* fs.stat(fileOf(digest))
    yield* fs.access(fileOf(digest), { readable: true })
    return (yield* isWhole(digest, info)) ? Option.some(Number(info.size)) : Option.none()
  })

  const openWhole = Effect.fnUntraced(function* (digest: Digest, range?: ByteRange) {
    const file = yield* fs.open(fileOf(digest), { flag: "r" })
    const info = yield* file.stat
    if (!(yield* isWhole(digest, info))) return Option.none()
    const size = Number(info.size)
    const { length, offset } = range ?? { offset: 0, length: size }
    if (offset + length > size) {
      const cause = new RangeError(`bytes ${offset} to ${offset + length} of ${size}`)
      return yield* new StoreError({ reason: "Failed", digest, cause })
    }
    return Option.some(fileBlob(file, digest, size, { offset, length }))
  })

  return {
    size: (digest) => answer(digest, Option.none(), stat(digest)),
    open: (digest, range) => answer(digest, Option.none(), openWhole(digest, range)),
    verify,
    admit: (digest, info) => verdicts.set(digest, { stamp: stampOf(info), isWhole: true })
  }
})
