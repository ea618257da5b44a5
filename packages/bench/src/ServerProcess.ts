/**
 * A server in a process of its own, as the one that measures handles it.
 */
import { fileURLToPath } from "node:url"
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import type { PeerId } from "@gantry/protocol"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Census } from "./Census.ts"
import { Command, Event, type Report, type Weight } from "./Message.ts"

/** A running server. */
export interface ServerProcess {
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

const maxLineBytes = 16 * 1024 * 1024

/** Starts a program that speaks the messages of this package on its standard input and output; the scope ends it. */
export const spawn = Effect.fn("ServerProcess.spawn")(function* (
  program: string,
  args: ReadonlyArray<string>
): Effect.fn.Return<ServerProcess, never, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope> {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const commands = yield* Queue.unbounded<Command, Cause.Done>()
  const child = yield* Effect.orDie(
    spawner.spawn(
      ChildProcess.make(program, args, {
        stdin: Stream.fromQueue(commands).pipe(
          Stream.pipeThroughChannel(Ndjson.encodeSchema(Schema.toCodecJson(Command))()),
          Stream.orDie
        ),
        stderr: "inherit",
        killSignal: "SIGKILL"
      })
    )
  )
  const events = yield* child.stdout.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(Schema.toCodecJson(Event))({ maxLineBytes })),
    Stream.toQueue({ capacity: "unbounded" })
  )

  const hear = <Tag extends Event["_tag"]>(tag: Tag) =>
    Effect.flatMap(Effect.orDie(Queue.take(events)), (event) =>
      event._tag === tag
        ? Effect.succeed(event as Extract<Event, { readonly _tag: Tag }>)
        : Effect.die(new Error(`the server told ${event._tag} instead of ${tag}`))
    )
  const tell = <Tag extends Event["_tag"]>(command: Command, tag: Tag) =>
    Effect.andThen(Queue.offer(commands, command), hear(tag))

  const { addresses, peerId } = yield* hear("Ready")
  return {
    address: { peerId, addresses },
    join: (peers, { churns = false, members = peers.length + 1 } = {}) =>
      Effect.asVoid(tell({ _tag: "Join", peers, members, churns }, "Done")),
    fail: (references) => Effect.asVoid(tell({ _tag: "Fail", references }, "Done")),
    report: tell({ _tag: "Report" }, "Report"),
    weight: tell({ _tag: "Weigh" }, "Weight"),
    census: Effect.map(tell({ _tag: "Count" }, "Counted"), ({ census }) => census)
  }
})

const program = fileURLToPath(new URL("./server.ts", import.meta.url))

/** Starts one of our own servers, which serves the echo as well. */
export const spawnOurs = spawn(process.execPath, [...process.execArgv, "--expose-gc", program])
