/**
 * A program in Go, in a process of its own, that fetches blobs and hands them
 * out as Gantry's Go agents do.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Digest } from "@gantry/protocol"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { inject } from "vitest"

/** One request; `x/net` is the client that the Go agents use. */
const Fetch = Schema.Struct({
  client: Schema.Literals(["x/net", "net/http"]),
  method: Schema.Literals(["GET", "HEAD"]),
  url: Schema.String,
  headers: Schema.Record(Schema.String, Schema.String)
})
export type Fetch = typeof Fetch.Type

/** A server with one blob, and what it does with every request; `cut` breaks off after `cutAfter` bytes. */
const Serve = Schema.Struct({
  protocols: Schema.Literals(["h2c", "both"]),
  blob: Schema.Uint8ArrayFromBase64,
  does: Schema.Literals(["deliver", "busy", "absent", "cut"]),
  cutAfter: Schema.optionalKey(Schema.Int)
})
export type Serve = typeof Serve.Type

/** A response as Go has it, its body as length and digest. */
const Fetched = Schema.Struct({
  status: Schema.Int,
  proto: Schema.String,
  headers: Schema.Record(Schema.String, Schema.String),
  length: Schema.Int,
  digest: Digest
})
export type Fetched = typeof Fetched.Type

/** A request as Go has it. */
const Request = Schema.Struct({
  proto: Schema.String,
  path: Schema.String,
  range: Schema.optionalKey(Schema.String),
  mirrored: Schema.optionalKey(Schema.String)
})
export type Request = typeof Request.Type

const Command = Schema.Struct({
  id: Schema.Int,
  fetch: Schema.optionalKey(Fetch),
  serve: Schema.optionalKey(Serve),
  asked: Schema.optionalKey(Schema.Int)
})
type Command = typeof Command.Type

const Answer = Schema.Struct({
  id: Schema.Int,
  error: Schema.optionalKey(Schema.String),
  fetched: Schema.optionalKey(Fetched),
  address: Schema.optionalKey(Schema.String),
  asked: Schema.optionalKey(Schema.Array(Request))
})
type Answer = typeof Answer.Type

/** The program while it runs. Errors are in Go's words. */
export interface GoBlobs {
  readonly fetch: (fetch: Fetch) => Effect.Effect<Fetched, string>
  readonly serve: (serve: Serve) => Effect.Effect<{
    readonly address: string
    /** All requests so far. */
    readonly asked: Effect.Effect<ReadonlyArray<Request>>
  }>
}

const start = Effect.gen(function* () {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const commands = yield* Queue.unbounded<Command, Cause.Done>()
  const pending = new Map<number, Deferred.Deferred<Answer>>()
  let lastId = 0

  const child = yield* spawner.spawn(
    ChildProcess.make(inject("programs")["go-blobs"] as string, [], {
      stdin: Stream.fromQueue(commands).pipe(
        Stream.pipeThroughChannel(Ndjson.encodeSchema(Schema.toCodecJson(Command))()),
        Stream.orDie
      ),
      stderr: "inherit",
      killSignal: "SIGKILL"
    })
  )

  const send = Effect.fnUntraced(function* (command: Omit<Command, "id">) {
    const id = ++lastId
    const answer = yield* Deferred.make<Answer>()
    pending.set(id, answer)
    yield* Queue.offer(commands, { id, ...command })
    return yield* Deferred.await(answer)
  })

  yield* child.stdout.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(Schema.toCodecJson(Answer))()),
    Stream.runForEach((answer) => {
      const waiting = pending.get(answer.id)
      pending.delete(answer.id)
      return waiting === undefined ? Effect.die(`no command ${answer.id}`) : Deferred.succeed(waiting, answer)
    }),
    Effect.andThen(Effect.die("the Go program ended")),
    Effect.orDie,
    Effect.catchCause((cause) => Effect.forEach(pending.values(), (waiting) => Deferred.failCause(waiting, cause))),
    Effect.forkScoped
  )

  const program: GoBlobs = {
    fetch: (fetch) =>
      Effect.flatMap(send({ fetch }), ({ error = "nothing came", fetched }) =>
        fetched === undefined ? Effect.fail(error) : Effect.succeed(fetched)
      ),
    serve: Effect.fnUntraced(function* (serve) {
      const { address, error, id } = yield* send({ serve })
      if (address === undefined) return yield* Effect.die(error)
      return { address, asked: Effect.map(send({ asked: id }), ({ asked = [] }) => asked) }
    })
  }
  return program
})

/** Starts the program; it ends with the scope. */
export const spawn: Effect.Effect<GoBlobs, never, Scope.Scope> = start.pipe(
  Effect.orDie,
  Effect.provide(NodeServices.layer)
)
