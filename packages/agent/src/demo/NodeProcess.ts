/**
 * A node of the demo, in a process of its own, as the demo handles it.
 */
import { fileURLToPath } from "node:url"
import type { Member, NodeId } from "@gantry/protocol"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Command, commandLine, type Event, eventLine, maxLineBytes, type Start } from "./NodeMessage.ts"

/**
 * Why a node does not come along. `Spawn`: its process did not start. `Ended`:
 * its process is gone. `Failed`: it says so itself. `Malformed`: it says what no
 * node says.
 */
export class NodeProcessError extends Schema.TaggedError<NodeProcessError>("@gantry/agent/NodeProcessError")(
  "NodeProcessError",
  { reason: Schema.Literals(["Spawn", "Ended", "Failed", "Malformed"]), nodeId: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `${this.nodeId}: ${this.detail}`
  }
}

/** A running node. */
export interface NodeProcess {
  readonly nodeId: NodeId
  readonly send: (command: Command) => Effect.Effect<void>
  /** Succeeds when the node serves. */
  readonly ready: Effect.Effect<Member, NodeProcessError>
  /** Succeeds when the node knows the members. */
  readonly joined: Effect.Effect<void, NodeProcessError>
  /** Succeeds when the node has had an answer from the member that it was to greet. */
  readonly greeted: Effect.Effect<void, NodeProcessError>
  /** Succeeds when the node has brought the image in. */
  readonly finished: Effect.Effect<void, NodeProcessError>
  /** Has the node end itself; succeeds when its process is gone and everything it told has been taken. */
  readonly stop: Effect.Effect<void>
  /** Ends the process at once, as a machine that loses its power. */
  readonly kill: Effect.Effect<void>
}

export interface Options {
  readonly start: Start
  /** A directory in which the processes leave their compiled code to each other. */
  readonly compileCache: string
  /** Sees every event, in order, before it takes effect. */
  readonly onEvent: (event: Event) => Effect.Effect<void>
  /** Takes the lines of the node's log. */
  readonly onLog: (line: string) => Effect.Effect<void>
}

/** How long a node may take to end after it was told to. */
const stopGrace = "5 seconds"

/** A small nursery for young objects, in MiB: a larger one makes no node faster, and takes its memory 64 times. */
const semiSpace = "--max-semi-space-size=2"

/** The node's program lies beside this file, as source or compiled; sources find each other by a condition. */
const program = (): ReadonlyArray<string> => {
  const [extension, conditions] = import.meta.url.endsWith(".ts") ? ["ts", ["--conditions=@gantry/source"]] : ["js", []]
  return [semiSpace, ...conditions, fileURLToPath(new URL(`./node.${extension}`, import.meta.url))]
}

/**
 * Starts a node; its scope ends it. The node ends as well when this process
 * does, however that comes about: its input ends then.
 */
export const spawn = Effect.fn("NodeProcess.spawn")(function* ({
  compileCache,
  onEvent,
  onLog,
  start
}: Options): Effect.fn.Return<NodeProcess, NodeProcessError, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope> {
  const { nodeId } = start
  const failure = (reason: NodeProcessError["reason"]) => (detail: string) =>
    new NodeProcessError({ reason, nodeId, detail })
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const commands = yield* Queue.unbounded<Command, Cause.Done>()
  const ready = yield* Deferred.make<Member, NodeProcessError>()
  const joined = yield* Deferred.make<void, NodeProcessError>()
  const greeted = yield* Deferred.make<void, NodeProcessError>()
  const finished = yield* Deferred.make<void, NodeProcessError>()

  const child = yield* spawner
    .spawn(
      ChildProcess.make(process.execPath, program(), {
        stdin: Stream.fromQueue(commands).pipe(
          Stream.pipeThroughChannel(Ndjson.encodeSchema(commandLine)()),
          Stream.orDie
        ),
        forceKillAfter: stopGrace,
        env: { NODE_COMPILE_CACHE: compileCache },
        extendEnv: true
      })
    )
    .pipe(Effect.mapError((error) => failure("Spawn")(`its process does not start: ${error.message}`)))

  const giveUp = (error: NodeProcessError) =>
    Effect.andThen(
      Deferred.fail(ready, error),
      Effect.forEach([joined, greeted, finished], (milestone) => Deferred.fail(milestone, error), { discard: true })
    )

  const react = (event: Event): Effect.Effect<unknown> => {
    switch (event._tag) {
      case "Ready":
        return Deferred.succeed(ready, event.member)
      case "Joined":
        return Deferred.succeed(joined, undefined)
      case "Greeted":
        return Deferred.succeed(greeted, undefined)
      case "Finished":
        return Deferred.succeed(finished, undefined)
      case "Failed":
        return giveUp(failure("Failed")(event.detail))
      case "Progress":
      case "Obtained":
      case "Pulled":
        return Effect.void
    }
  }

  const output = yield* child.stdout.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(eventLine)({ maxLineBytes })),
    Stream.runForEach((event) => Effect.andThen(onEvent(event), react(event))),
    Effect.matchEffect({
      onFailure: (error) => giveUp(failure("Malformed")(`its output cannot be read: ${error.message}`)),
      onSuccess: () =>
        Effect.flatMap(Effect.option(child.exitCode), (exitCode) =>
          giveUp(
            failure("Ended")(
              Option.match(exitCode, {
                onNone: () => "its process was ended by a signal",
                onSome: (code) => `its process ended with exit code ${code}`
              })
            )
          )
        )
    }),
    Effect.forkScoped
  )
  yield* child.stderr.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runForEach(onLog),
    Effect.ignore,
    Effect.forkScoped
  )
  yield* Queue.offer(commands, start)

  return {
    nodeId,
    send: (command) => Effect.asVoid(Queue.offer(commands, command)),
    ready: Deferred.await(ready),
    joined: Deferred.await(joined),
    greeted: Deferred.await(greeted),
    finished: Deferred.await(finished),
    stop: Effect.andThen(Queue.end(commands), Fiber.await(output)),
    kill: Effect.ignore(child.kill({ killSignal: "SIGKILL" }))
  }
})
