/**
 * Where the demo keeps its files.
 */
import { statfs } from "node:fs/promises"
import { tmpdir } from "node:os"
import type { NodeId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { formatBytes } from "./Report.ts"

/** `NotEmpty`: the directory to keep the nodes in holds something already. `NoSpace`: the disk is too full. */
export class WorkspaceError extends Schema.TaggedError<WorkspaceError>("@gantry/agent/WorkspaceError")(
  "WorkspaceError",
  { reason: Schema.Literals(["NotEmpty", "NoSpace"]), directory: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `${this.directory} ${this.detail}`
  }
}

/** The directories of one run. */
export interface Workspace {
  /** For the compiled code of the nodes' program. */
  readonly compileCache: string
  /** An image layout for the embedded registry. */
  readonly origin: string
  /** The image layout of a node. */
  readonly layoutOf: (nodeId: NodeId) => string
  /** A file of a node that is no business of others. */
  readonly secretOf: (nodeId: NodeId, name: string) => string
  /** Fails unless so many bytes have room where the nodes keep theirs. */
  readonly ensureSpace: (bytes: number) => Effect.Effect<void, WorkspaceError>
}

/** What Linux calls a file system in memory. */
const inMemory: ReadonlySet<number> = new Set([0x01021994, 0x858458f6])

const fileSystemOf = (directory: string) => Effect.option(Effect.tryPromise(() => statfs(directory)))

/** The system's temporary directory, or the one for larger files where the first is in memory. */
const temporaryRoot = Effect.gen(function* () {
  const root = tmpdir()
  const roots = process.env.TMPDIR === undefined ? [root, "/var/tmp"] : [root]
  for (const candidate of roots) {
    const stats = yield* fileSystemOf(candidate)
    if (Option.isSome(stats) && !inMemory.has(stats.value.type)) return candidate
  }
  return root
})

/** Makes the directories of a run. They go with the scope, except those of the nodes if `keep` says where to put them. */
export const make = Effect.fnUntraced(function* (
  keep: Option.Option<string>
): Effect.fn.Return<Workspace, WorkspaceError | PlatformError, FileSystem.FileSystem | Path.Path | Scope.Scope> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const root = yield* fs.makeTempDirectoryScoped({ directory: yield* temporaryRoot, prefix: "gantry-demo-" })
  const nodes = Option.match(keep, {
    onNone: () => path.join(root, "nodes"),
    onSome: (directory) => path.resolve(directory)
  })
  yield* fs.makeDirectory(nodes, { recursive: true })
  if ((yield* fs.readDirectory(nodes)).length > 0) {
    return yield* new WorkspaceError({ reason: "NotEmpty", directory: nodes, detail: "is not empty" })
  }
  const secrets = path.join(root, "secrets")
  yield* fs.makeDirectory(secrets, { mode: 0o700 })

  return {
    compileCache: path.join(root, "compiled"),
    origin: path.join(root, "origin"),
    layoutOf: (nodeId) => path.join(nodes, nodeId),
    secretOf: (nodeId, name) => path.join(secrets, `${nodeId}.${name}`),
    ensureSpace: Effect.fnUntraced(function* (bytes) {
      const stats = yield* fileSystemOf(nodes)
      const free = Option.match(stats, { onNone: () => Infinity, onSome: ({ bavail, bsize }) => bavail * bsize })
      if (free < bytes) {
        return yield* new WorkspaceError({
          reason: "NoSpace",
          directory: nodes,
          detail: `has room for ${formatBytes(free)}; this run needs ${formatBytes(bytes)}`
        })
      }
    })
  }
})
