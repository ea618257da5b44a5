/**
 * Changes a file that others read at any moment: they see all of the old text
 * or all of the new.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"

/**
 * Puts a text in place of what a path leads to. A symbolic link stays one; mode
 * and owner stay, where we may give them. A file that is not there yet gets
 * mode 0644.
 */
export const replaceFile: (
  path: string,
  text: string
) => Effect.Effect<void, PlatformError, FileSystem.FileSystem | Path.Path> = Effect.fnUntraced(function* (path, text) {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const target = yield* Effect.orElseSucceed(fs.realPath(path), () => path)
  const former = yield* Effect.option(fs.stat(target))
  const directory = yield* fs.makeTempDirectoryScoped({ directory: paths.dirname(target), prefix: ".gantry-" })
  const temporary = paths.join(directory, paths.basename(target))
  yield* Effect.scoped(
    Effect.gen(function* () {
      const file = yield* fs.open(temporary, { flag: "wx", mode: 0o644 })
      yield* file.writeAll(new TextEncoder().encode(text))
      yield* file.sync
    })
  )
  if (Option.isSome(former)) {
    const { gid, mode, uid } = former.value
    yield* fs.chmod(temporary, mode & 0o7777)
    const owner = Option.all([uid, gid])
    // Only root may give a file away; who could write the former one may own the new one.
    if (Option.isSome(owner)) yield* Effect.ignore(fs.chown(temporary, ...owner.value))
  }
  yield* fs.rename(temporary, target)
}, Effect.scoped)
