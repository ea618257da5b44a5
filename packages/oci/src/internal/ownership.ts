/**
 * Directories that belong to a process for as long as it lives, in a place
 * that others write into as well: where the process is no more, what it left
 * can be told from what one that lives is writing.
 *
 * The owner holds a lock that the kernel takes back however the process ends:
 * a Unix socket in the directory, on which it listens. Who wants to know
 * connects. It is accepted by a process that lives, also by one that is stopped
 * or in another container with its own process numbers, for a socket is found
 * by its file alone; it is refused once the process is gone, whoever has its
 * number by then. Nothing has to be given back after a crash, and no clock or
 * heartbeat decides.
 *
 * That holds on one machine. Processes of several machines must not write into
 * one directory; a layout has one writer anyway.
 */
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import type * as Scope from "effect/Scope"

const lockName = "lock"

/** A directory that is being claimed. Its lock is not held yet, and there is nothing else in it. */
const unfinished = "new-"

/** A directory on a file system that has no sockets. Nobody can tell whether its owner lives: it is never removed. */
const unlocked = "unlocked-"

/** An unfinished claim of this age is given up; to finish one takes milliseconds. */
const patienceMillis = 60_000

/** What fits into the address of a socket, everywhere; Linux has 108 bytes, others 104. */
const maxSocketPath = 100

/** A lock cannot be held here. */
export class NoLock extends Data.TaggedError("NoLock")<{ readonly cause: Error }> {
  override get message(): string {
    return this.cause.message
  }
}

/** Listens until the scope ends. */
export type Listen = (path: string) => Effect.Effect<void, NoLock, Scope.Scope>

const listen: Listen = (path) =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.callback<Net.Server, NoLock>((resume) => {
        const server = Net.createServer((socket) => socket.destroy())
        server.once("error", (cause) => resume(Effect.fail(new NoLock({ cause }))))
        server.listen(path, () => resume(Effect.succeed(server)))
        // A lock is no reason to stay alive.
        server.unref()
      }),
      (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
    )
  )

/** Whether somebody listens, or may listen; not if that is certain. */
const answers = (path: string) =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect(path)
    const end = (isAnswer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(isAnswer))
    }
    socket.once("connect", () => end(true))
    socket.once("error", ({ code }: NodeJS.ErrnoException) =>
      end(code !== "ECONNREFUSED" && code !== "ENOENT" && code !== "ENOTDIR" && code !== "ENOTSOCK")
    )
    return Effect.sync(() => socket.destroy())
  })

/** A path to the lock of a directory that fits into the address of a socket. The scope keeps it valid. */
const lockIn = (directory: string): Effect.Effect<string, NoLock, Scope.Scope> => {
  const path = `${directory}/${lockName}`
  if (Buffer.byteLength(path) <= maxSocketPath) return Effect.succeed(path)
  return Effect.acquireRelease(
    Effect.try({ try: () => Fs.openSync(directory, "r"), catch: (error) => new NoLock({ cause: error as Error }) }),
    (descriptor) => Effect.sync(() => Fs.closeSync(descriptor))
  ).pipe(Effect.map((descriptor) => `/proc/self/fd/${descriptor}/${lockName}`))
}

/** Removes a directory and all in it, or says why it could not. */
export const remove = (path: string): Effect.Effect<void, never, FileSystem.FileSystem> =>
  FileSystem.FileSystem.use((fs) =>
    Effect.ignore(fs.remove(path, { recursive: true, force: true }), {
      log: "Warn",
      message: `cannot remove ${path}`
    })
  )

/**
 * A new directory in a place, of this process until the scope ends, which
 * removes it.
 */
export const claim = Effect.fnUntraced(function* (
  place: string,
  hold: Listen = listen
): Effect.fn.Return<string, PlatformError, FileSystem.FileSystem | Scope.Scope> {
  const fs = yield* FileSystem.FileSystem
  // Others see the directory by its name only once the lock is held: there is no instant at which it looks abandoned.
  const nascent = yield* Effect.acquireRelease(fs.makeTempDirectory({ directory: place, prefix: unfinished }), remove)
  const name = nascent.slice(`${place}/${unfinished}`.length)
  const isHeld = yield* Effect.matchEffect(Effect.flatMap(lockIn(nascent), hold), {
    onSuccess: () => Effect.succeed(true),
    onFailure: ({ message }) =>
      Effect.as(
        Effect.logWarning(
          `cannot hold a lock in ${place} (${message}): what a crash of this process leaves there has to be removed by hand`
        ),
        false
      )
  })
  const directory = `${place}/${isHeld ? "" : unlocked}${name}`
  return yield* Effect.acquireRelease(Effect.as(fs.rename(nascent, directory), directory), remove)
})

/** Removes from a place what processes that are no more have left. */
export const sweep = Effect.fnUntraced(function* (place: string) {
  const fs = yield* FileSystem.FileSystem
  const isAbandoned = Effect.fnUntraced(function* (name: string) {
    if (name.startsWith(unlocked)) return false
    const path = `${place}/${name}`
    if (name.startsWith(unfinished)) {
      const { mtime } = yield* fs.stat(path)
      const age = (yield* Clock.currentTimeMillis) - Option.getOrElse(mtime, () => new Date(0)).getTime()
      if (age < patienceMillis) return false
    }
    return !(yield* Effect.flatMap(lockIn(path), answers))
  }, Effect.scoped)

  for (const name of yield* fs.readDirectory(place)) {
    // What cannot be looked at is left alone.
    if (yield* Effect.orElseSucceed(isAbandoned(name), () => false)) yield* remove(`${place}/${name}`)
  }
})
