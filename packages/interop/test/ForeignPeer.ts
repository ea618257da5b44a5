/**
 * A node of another libp2p implementation, in a process of its own, that does
 * with its streams what a test tells it.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import { PeerId, protocolId } from "@gantry/protocol"
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
import type { Language } from "./build.ts"

/** An `Envelope` in the JSON form of protobuf. */
export type Json = Schema.Json

/** One call on a stream of the foreign peer. */
export const Step = Schema.Struct({
  do: Schema.Literals(["write", "writeBytes", "read", "readAll", "closeWrite", "close", "reset", "closeConnection"]),
  message: Schema.optionalKey(Schema.Json),
  bytes: Schema.optionalKey(Schema.Uint8ArrayFromBase64),
  segment: Schema.optionalKey(Schema.Int),
  code: Schema.optionalKey(Schema.Int)
})
export type Step = typeof Step.Type

/** Sends a message in a frame of its own, in one write. */
export const write = (message: Json): Step => ({ do: "write", message })

/** Sends bytes, in writes of so many if that is said. */
export const writeBytes = (bytes: Uint8Array, segment = 0): Step => ({ do: "writeBytes", bytes, segment })

/** Reads one frame and gives its message. */
export const read: Step = { do: "read" }

/** Gives all bytes until the end of the stream. */
export const readAll: Step = { do: "readAll" }

/** Ends the peer's side. */
export const closeWrite: Step = { do: "closeWrite" }

/** Ends both sides in peace. */
export const close: Step = { do: "close" }

/** Ends the stream at once. */
export const reset: Step = { do: "reset" }

/** Ends the stream at once and says why, which only later versions of Yamux know. */
export const resetWith = (code: number): Step => ({ do: "reset", code })

/** Closes the connection that carries the stream, with a reason if it is not 0. */
export const closeConnection = (code: number): Step => ({ do: "closeConnection", code })

/**
 * What became of a step: a message or bytes, if it brings any, or an error:
 * `eof`, `unexpected eof`, `reset`, `too large`, or words of the
 * implementation's own.
 */
export const Outcome = Schema.Struct({
  message: Schema.optionalKey(Schema.Json),
  bytes: Schema.optionalKey(Schema.Uint8ArrayFromBase64),
  error: Schema.optionalKey(Schema.String)
})
export type Outcome = typeof Outcome.Type

const Command = Schema.Struct({
  id: Schema.Int,
  open: Schema.optionalKey(
    Schema.Struct({ addr: Schema.String, protocols: Schema.Array(Schema.String), lazy: Schema.Boolean })
  ),
  stream: Schema.optionalKey(Schema.String),
  steps: Schema.Array(Step),
  decode: Schema.optionalKey(Schema.Array(Schema.Uint8ArrayFromBase64))
})

const Described = {
  stream: Schema.String,
  peer: PeerId,
  protocol: Schema.String,
  security: Schema.optionalKey(Schema.String),
  muxer: Schema.optionalKey(Schema.String)
}

const Event = Schema.Union([
  Schema.Struct({ event: Schema.Literal("ready"), peer: PeerId, addrs: Schema.Array(Schema.String) }),
  Schema.Struct({ event: Schema.Literal("stream"), ...Described }),
  Schema.Struct({ event: Schema.Literal("done"), id: Schema.Int, error: Schema.String }),
  Schema.Struct({
    event: Schema.Literal("done"),
    id: Schema.Int,
    ...Described,
    outcomes: Schema.optionalKey(Schema.Array(Outcome))
  }),
  Schema.Struct({ event: Schema.Literal("done"), id: Schema.Int, outcomes: Schema.Array(Outcome) })
])
type Event = typeof Event.Type
type Done = Extract<Event, { readonly event: "done" }>

/** Two whole messages in base 64, and what is around them. */
const maxLineBytes = 4 * 1024 * 1024

/** A stream as the foreign peer has it. */
export interface ForeignStream {
  /** Who is at the other end. */
  readonly peer: PeerId
  readonly protocol: string
  readonly security: string | undefined
  readonly muxer: string | undefined
  /** Takes the steps one after the other, whatever becomes of them. */
  readonly run: (...steps: ReadonlyArray<Step>) => Effect.Effect<ReadonlyArray<Outcome>>
}

/** A running foreign peer. */
export interface ForeignPeer {
  readonly address: PeerAddress
  /** Opens a stream; fails with the words of the implementation. */
  readonly open: (
    to: PeerAddress,
    options?: {
      /** What it offers to speak, best first; the coordination protocol. */
      readonly protocols?: ReadonlyArray<string>
      /** Whether the protocol is sent together with the first bytes, before the other side agreed; true. */
      readonly lazy?: boolean
    }
  ) => Effect.Effect<ForeignStream, string>
  /** The next stream that somebody opened. */
  readonly accept: Effect.Effect<ForeignStream>
  /** Decodes bodies of frames; gives each anew, as the implementation encodes it. */
  readonly decode: (bodies: ReadonlyArray<Uint8Array>) => Effect.Effect<ReadonlyArray<Outcome>>
}

/** Whether the peer of a language can be run here. */
export const isBuilt = (language: Language): boolean => inject("programs")[language] !== undefined

const start = Effect.fnUntraced(function* (language: Language, protocol: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const commands = yield* Queue.unbounded<typeof Command.Type, Cause.Done>()
  const accepted = yield* Queue.unbounded<ForeignStream, Cause.Done>()
  const ready = yield* Deferred.make<PeerAddress>()
  const pending = new Map<number, Deferred.Deferred<Done>>()
  let lastId = 0

  const child = yield* spawner.spawn(
    ChildProcess.make(inject("programs")[language] as string, ["-protocol", protocol], {
      stdin: Stream.fromQueue(commands).pipe(
        Stream.pipeThroughChannel(Ndjson.encodeSchema(Schema.toCodecJson(Command))()),
        Stream.orDie
      ),
      stderr: "inherit",
      killSignal: "SIGKILL"
    })
  )

  const send = (command: Omit<typeof Command.Type, "id">) =>
    Effect.gen(function* () {
      const id = ++lastId
      const done = yield* Deferred.make<Done>()
      pending.set(id, done)
      yield* Queue.offer(commands, { id, ...command })
      return yield* Deferred.await(done)
    })

  const streamOf = (event: Extract<Event, { readonly stream: string }>): ForeignStream => ({
    peer: event.peer,
    protocol: event.protocol,
    security: event.security,
    muxer: event.muxer,
    run: (...steps) =>
      Effect.flatMap(send({ stream: event.stream, steps }), (done) =>
        "error" in done ? Effect.die(done.error) : Effect.succeed(done.outcomes ?? [])
      )
  })

  const react = (event: Event): Effect.Effect<unknown> => {
    switch (event.event) {
      case "ready":
        return Deferred.succeed(ready, { peerId: event.peer, addresses: event.addrs })
      case "stream":
        return Queue.offer(accepted, streamOf(event))
      case "done": {
        const done = pending.get(event.id)
        pending.delete(event.id)
        return done === undefined ? Effect.die(`no command ${event.id}`) : Deferred.succeed(done, event)
      }
    }
  }

  yield* child.stdout.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(Schema.toCodecJson(Event))({ maxLineBytes })),
    Stream.runForEach(react),
    Effect.andThen(Effect.die(`the ${language} peer ended`)),
    Effect.orDie,
    Effect.catchCause((cause) =>
      Effect.andThen(
        Deferred.failCause(ready, cause),
        Effect.forEach(pending.values(), (done) => Deferred.failCause(done, cause))
      )
    ),
    Effect.forkScoped
  )

  const peer: ForeignPeer = {
    address: yield* Deferred.await(ready),
    open: (to, { lazy = true, protocols = [protocolId] } = {}) =>
      Effect.flatMap(send({ open: { addr: to.addresses[0] as string, protocols, lazy }, steps: [] }), (done) => {
        if ("error" in done) return Effect.fail(done.error)
        return "stream" in done ? Effect.succeed(streamOf({ ...done, event: "stream" })) : Effect.die("no stream")
      }),
    accept: Effect.orDie(Queue.take(accepted)),
    decode: (decode) =>
      Effect.flatMap(send({ decode, steps: [] }), (done) =>
        "error" in done ? Effect.die(done.error) : Effect.succeed(done.outcomes ?? [])
      )
  }
  return peer
})

/** Starts a peer that takes streams of the protocol; it ends with the scope. */
export const spawn = (language: Language, protocol = protocolId): Effect.Effect<ForeignPeer, never, Scope.Scope> =>
  start(language, protocol).pipe(Effect.orDie, Effect.provide(NodeServices.layer))
