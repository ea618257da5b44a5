/**
 * Files of containerd's that hold a block of ours.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { replaceFile } from "../runtime/replaceFile.ts"
import * as MarkedBlock from "./MarkedBlock.ts"

/** What became of one file. */
export const Change = Schema.Struct({
  path: Schema.String,
  outcome: Schema.Literals(["written", "unchanged", "restored", "removed", "refused"]),
  /** Why it was refused. */
  detail: Schema.optionalKey(Schema.String)
})
export type Change = typeof Change.Type

/** More than any file of containerd's has. */
const maxBytes = 1024 * 1024

const refused = (path: string, detail: string): Change => ({ path, outcome: "refused", detail })

/** The text of a file; none if there is no such file. */
export const read = Effect.fnUntraced(function* (
  path: string
): Effect.fn.Return<Option.Option<string>, PlatformError, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  return yield* fs.readFileString(path).pipe(
    Effect.asSome,
    Effect.catchReason("PlatformError", "NotFound", () => Effect.succeedNone)
  )
})

/** Gives a file the text that is made from its own, or tells why not. Its directory is made if need be. */
export const write = Effect.fnUntraced(
  function* (path: string, make: (text: Option.Option<string>) => Result.Result<string, string>) {
    const fs = yield* FileSystem.FileSystem
    const paths = yield* Path.Path
    const former = yield* read(path)
    const made = make(former)
    if (Result.isFailure(made)) return refused(path, made.failure)
    if (Option.contains(former, made.success)) return { path, outcome: "unchanged" } as const
    yield* fs.makeDirectory(paths.dirname(path), { recursive: true, mode: 0o755 })
    yield* replaceFile(path, made.success)
    return { path, outcome: "written" } as const
  },
  (effect, path) => Effect.catch(effect, ({ message }) => Effect.succeed(refused(path, message)))
)

/** Takes our block out of a file, and the file and its directory away if we made them; none if it holds no such block. */
export const restore = Effect.fnUntraced(
  function* (path: string) {
    const fs = yield* FileSystem.FileSystem
    const directory = (yield* Path.Path).dirname(path)
    if ((yield* fs.stat(path)).size > maxBytes) return Option.none<Change>()
    const removal = MarkedBlock.remove(yield* fs.readFileString(path))
    if (Option.isNone(removal)) return Option.none<Change>()
    const { made, text } = removal.value
    if (!made.includes("file") || text !== "") {
      yield* replaceFile(path, text)
      return Option.some<Change>({ path, outcome: "restored" })
    }
    yield* fs.remove(path)
    // The directory goes only if nobody has put anything else there.
    const others = yield* fs.readDirectory(directory)
    if (made.includes("directory") && others.length === 0) yield* fs.remove(directory, { recursive: true })
    return Option.some<Change>({ path, outcome: "removed" })
  },
  (effect, path) =>
    effect.pipe(
      Effect.catchReason("PlatformError", "NotFound", () => Effect.succeedNone),
      Effect.catch(({ message }) => Effect.succeedSome(refused(path, message)))
    )
)
