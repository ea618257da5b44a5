/**
 * Files that appear whole or not at all.
 */
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type { PlatformError } from "effect/PlatformError"
import type * as Scope from "effect/Scope"
import { isNotFound } from "./errno.ts"
import * as Ownership from "./ownership.ts"

/** A file that nobody knows of yet. */
export interface TemporaryFile {
  readonly path: string
  readonly file: FileSystem.File
}

export interface AtomicFiles {
  /** A new file, gone with the scope unless it has been renamed by then. */
  readonly temporary: Effect.Effect<TemporaryFile, PlatformError, Scope.Scope>
  /** Puts a text into the place of whatever a file holds, and makes that durable. */
  readonly replace: (path: string, text: string) => Effect.Effect<void, PlatformError>
}

/** Makes a directory, and those that it is in. */
export const makeDirectories = (path: string): Effect.Effect<void, PlatformError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const make = Effect.catchIf(
      fs.makeDirectory(path),
      ({ reason }) => reason._tag === "AlreadyExists",
      () => Effect.void
    )
    // Not in one go: Node then says of a place that may not be written to that it does not exist.
    const parent = Path.dirname(path)
    yield* Effect.catchIf(
      make,
      (error) => isNotFound(error) && parent !== path,
      () => Effect.andThen(makeDirectories(parent), make)
    )
  })

/** Makes the renames in a directory durable. */
export const syncDirectory = (path: string): Effect.Effect<void, PlatformError, FileSystem.FileSystem> =>
  FileSystem.FileSystem.use((fs) => Effect.scoped(Effect.flatMap(fs.open(path, { flag: "r" }), ({ sync }) => sync)))

/**
 * Files that are written in a place beside their destination, in the same file
 * system. What others have left there when they ended is removed first; what
 * this process has there is gone with the scope.
 */
export const make = Effect.fnUntraced(function* (
  place: string
): Effect.fn.Return<AtomicFiles, PlatformError, FileSystem.FileSystem | Scope.Scope> {
  const fs = yield* FileSystem.FileSystem
  yield* makeDirectories(place)
  yield* Ownership.sweep(place)
  const own = yield* Ownership.claim(place)

  let count = 0
  const temporary = Effect.suspend(() => {
    const path = `${own}/${count++}`
    return Effect.acquireRelease(Effect.void, () => Ownership.remove(path)).pipe(
      Effect.andThen(fs.open(path, { flag: "wx+" })),
      Effect.map((file) => ({ path, file }))
    )
  }).pipe(Effect.provideService(FileSystem.FileSystem, fs))

  const replace = Effect.fnUntraced(
    function* (path: string, text: string) {
      const written = yield* temporary
      yield* written.file.writeAll(new TextEncoder().encode(text))
      yield* written.file.sync
      yield* fs.rename(written.path, path)
      yield* syncDirectory(Path.dirname(path))
    },
    Effect.scoped,
    Effect.provideService(FileSystem.FileSystem, fs)
  )

  return { temporary, replace }
})
