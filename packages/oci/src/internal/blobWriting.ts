/**
 * Brings blobs into a layout: into a temporary file first, and under their name
 * once they are whole and durable.
 */
import type { Digest } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Semaphore from "effect/Semaphore"
import { type BlobStore, makeWriter } from "../BlobStore.ts"
import { type AtomicFiles, syncDirectory } from "./atomicFiles.ts"
import { writeError } from "./errno.ts"
import type { StoredBlobs } from "./storedBlobs.ts"

/** Where blobs go, and who is told of them. */
export interface Destination {
  readonly files: AtomicFiles
  readonly directory: string
  readonly fileOf: (digest: Digest) => string
  readonly stored: StoredBlobs
}

export const make = Effect.fnUntraced(function* ({ directory, fileOf, files, stored }: Destination) {
  const fs = yield* FileSystem.FileSystem
  /** Makes the order of admissions that of the renames. */
  const renaming = yield* Semaphore.make(1)

  const writer: BlobStore["Service"]["writer"] = Effect.fnUntraced(
    function* (digest, options) {
      const { file, path } = yield* files.temporary
      const publish = Effect.fnUntraced(
        function* (size: number) {
          yield* file.truncate(size)
          yield* file.sync
          const info = yield* file.stat
          yield* renaming.withPermit(Effect.map(fs.rename(path, fileOf(digest)), () => stored.admit(digest, info)))
          yield* syncDirectory(directory)
        },
        Effect.mapError(writeError(digest)),
        Effect.provideService(FileSystem.FileSystem, fs)
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
    (effect, digest) => Effect.catchTag(effect, "PlatformError", (error) => Effect.fail(writeError(digest)(error)))
  )
  return writer
})
