/**
 * A file that others write while we run: an editor in place, a deployment by
 * renaming, Kubernetes by turning a symbolic link to another directory.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Stream from "effect/Stream"

/** Settings. */
export interface Options {
  /** How long to wait after a change for what belongs to it; 200 milliseconds. */
  readonly settleTime?: Duration.Input | undefined
  /** How often to look where nothing was reported, as network file systems do; 10 seconds. */
  readonly pollInterval?: Duration.Input | undefined
}

/** Tells one state of what a path leads to from another, without reading it. */
const stateOf = (fs: FileSystem.FileSystem, path: string): Effect.Effect<string> =>
  Effect.match(fs.stat(path), {
    onFailure: ({ reason }) => reason._tag,
    onSuccess: ({ dev, ino, mtime, size }) =>
      [dev, Option.getOrUndefined(ino), Option.getOrUndefined(mtime)?.getTime(), size].join()
  })

/**
 * Runs the effect at first, and again whenever the file at the path is another
 * or has been written to, one run after the other. The file need not exist.
 */
export const follow = Effect.fnUntraced(function* <E, R>(
  path: string,
  use: Effect.Effect<void, E, R>,
  options: Options = {}
): Effect.fn.Return<never, E, R | FileSystem.FileSystem | Path.Path> {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const settleTime = Duration.fromInputUnsafe(options.settleTime ?? Duration.millis(200))
  const pollInterval = Duration.fromInputUnsafe(options.pollInterval ?? Duration.seconds(10))
  let known: string | undefined

  /** Opens the latch at the first event in a directory. A directory that cannot be watched is looked at all the same. */
  const watch = Effect.fnUntraced(function* (directory: string, changed: Latch.Latch) {
    const ready = yield* Latch.make()
    const events = fs.watch(directory, { onReady: () => ready.openUnsafe() })
    yield* Effect.forkScoped(
      events.pipe(
        Stream.take(1),
        Stream.runDrain,
        Effect.andThen(changed.open),
        Effect.ignore,
        Effect.ensuring(ready.open)
      )
    )
    yield* ready.await
  })

  /** Looks at the file, once it is being watched, and waits until it may have changed. */
  const round = Effect.gen(function* () {
    const directory = paths.dirname(path)
    const behind = yield* Effect.orElseSucceed(Effect.map(fs.realPath(path), paths.dirname), () => directory)
    const changed = yield* Latch.make()
    yield* Effect.forEach(new Set([directory, behind]), (place) => watch(place, changed), { discard: true })
    const state = yield* stateOf(fs, path)
    if (state !== known) {
      known = state
      yield* use
    }
    if (Option.isSome(yield* Effect.timeoutOption(changed.await, pollInterval))) yield* Effect.sleep(settleTime)
  })

  return yield* Effect.forever(Effect.scoped(round))
})
