/**
 * A process of a benchmark: it takes commands on its standard input and answers
 * each with one event on its standard output, in order, both as lines of JSON.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** What has a name. */
interface Message {
  readonly _tag: string
}

/** What a process and its parent tell each other. */
export interface Messages<Command extends Message, Event extends Message> {
  readonly command: Schema.Codec<Command, unknown>
  readonly event: Schema.Codec<Event, unknown>
}

/** A running process. */
export interface Child<Command extends Message, Event extends Message> {
  /** Its number on this machine. */
  readonly pid: number
  /** Waits for an event, which must be of this name. */
  readonly hear: <Tag extends Event["_tag"]>(tag: Tag) => Effect.Effect<Extract<Event, { readonly _tag: Tag }>>
  /** Gives a command, and waits for the event that answers it. */
  readonly tell: <Tag extends Event["_tag"]>(
    command: Command,
    tag: Tag
  ) => Effect.Effect<Extract<Event, { readonly _tag: Tag }>>
}

const maxLineBytes = 16 * 1024 * 1024

/** Starts a program; the scope ends it. */
export const spawn = Effect.fn("Child.spawn")(function* <Command extends Message, Event extends Message>(
  program: string,
  args: ReadonlyArray<string>,
  messages: Messages<Command, Event>
): Effect.fn.Return<Child<Command, Event>, never, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope> {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const commands = yield* Queue.unbounded<Command, Cause.Done>()
  const child = yield* Effect.orDie(
    spawner.spawn(
      ChildProcess.make(program, args, {
        stdin: Stream.fromQueue(commands).pipe(
          Stream.pipeThroughChannel(Ndjson.encodeSchema(Schema.toCodecJson(messages.command))()),
          Stream.orDie
        ),
        stderr: "inherit",
        killSignal: "SIGKILL"
      })
    )
  )
  const events = yield* child.stdout.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(Schema.toCodecJson(messages.event))({ maxLineBytes })),
    Stream.toQueue({ capacity: "unbounded" })
  )
  const hear = <Tag extends Event["_tag"]>(tag: Tag) =>
    Effect.flatMap(Effect.orDie(Queue.take(events)), (event) =>
      event._tag === tag
        ? Effect.succeed(event as Extract<Event, { readonly _tag: Tag }>)
        : Effect.die(new Error(`${program} told ${event._tag} instead of ${tag}`))
    )
  return {
    pid: child.pid,
    hear,
    tell: (command, tag) => Effect.andThen(Queue.offer(commands, command), hear(tag))
  }
})
