/**
 * A server in a process of its own, as the one that measures handles it.
 */
import { extname } from "node:path"
import { fileURLToPath } from "node:url"
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import type { PeerId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import type { ChildProcessSpawner } from "effect/process"
import type * as Scope from "effect/Scope"
import type { Census } from "./Census.ts"
import * as Child from "./Child.ts"
import { Command, Event, type Report, type Weight } from "./Message.ts"

/** A running server. */
export interface ServerProcess {
  /** Its number on this machine. */
  readonly pid: number
  readonly address: PeerAddress
  /** Makes the peers members, among others up to a size. */
  readonly join: (
    peers: ReadonlyArray<PeerId>,
    options?: { readonly members?: number; readonly churns?: boolean }
  ) => Effect.Effect<void>
  /** Lets so many references have failed. */
  readonly fail: (references: number) => Effect.Effect<void>
  readonly report: Effect.Effect<Report>
  readonly weight: Effect.Effect<Weight>
  readonly census: Effect.Effect<Census>
}

/** Starts a program that speaks the messages of this package on its standard input and output; the scope ends it. */
export const spawn = Effect.fn("ServerProcess.spawn")(function* (
  program: string,
  args: ReadonlyArray<string>
): Effect.fn.Return<ServerProcess, never, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope> {
  const { hear, pid, tell } = yield* Child.spawn(program, args, { command: Command, event: Event })
  const { addresses, peerId } = yield* hear("Ready")
  return {
    pid,
    address: { peerId, addresses },
    join: (peers, { churns = false, members = peers.length + 1 } = {}) =>
      Effect.asVoid(tell({ _tag: "Join", peers, members, churns }, "Done")),
    fail: (references) => Effect.asVoid(tell({ _tag: "Fail", references }, "Done")),
    report: tell({ _tag: "Report" }, "Report"),
    weight: tell({ _tag: "Weigh" }, "Weight"),
    census: Effect.map(tell({ _tag: "Count" }, "Counted"), ({ census }) => census)
  }
})

/** Beside this file, with the same ending: the benchmark runs from its sources or as it was built. */
const program = fileURLToPath(new URL(`./server${extname(import.meta.url)}`, import.meta.url))

/** Starts one of our own servers, which serves the echo as well. */
export const spawnOurs = spawn(process.execPath, [...process.execArgv, "--expose-gc", program])
