/**
 * Calls between our nodes and foreign peers, and what they are about.
 */
import { assert, it } from "@effect/vitest"
import { type Digest, NodeId, Timestamp } from "@gantry/protocol"
import { digestOf } from "@gantry/testkit/Fixtures"
import { type Peers, type ServerOptions, startClient, startServer } from "@gantry/testkit/suites/CoordFixture"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Language } from "./build.ts"
import {
  close,
  closeWrite,
  type ForeignPeer,
  type Json,
  type Outcome,
  read,
  readAll,
  type Step,
  spawn,
  write
} from "./ForeignPeer.ts"
import * as OurPeers from "./OurPeers.ts"

export const wanted = digestOf("wanted")
export const other = digestOf("other")
export const manyDigests = (count: number): ReadonlyArray<Digest> =>
  Array.from({ length: count }, (_, index) => digestOf(`digest ${index}`))

/** A foreign peer's query. */
export const query: Json = { pullIntentRequest: { digest: wanted } }

/** A foreign peer's please_pull. */
export const batch = (digests: ReadonlyArray<string>, fields: Record<string, Json> = {}): Json => ({
  pleasePullRequest: {
    digests: [...digests],
    upstreamRegistry: "registry.example.com",
    repository: "library/nginx",
    kind: "KIND_BLOB",
    ...fields
  }
})

/** The 15th of June 2025, to the nanosecond. */
export const instant = Timestamp.make(1_750_000_000_123_456_789n)
export const instantText = "2025-06-15T15:06:40.123456789Z"

/** A step that did what it was asked to, or a stream that ended in peace without a byte. */
export const nothing: Outcome = {}

/** A server of ours, and a foreign peer. */
export const startOurServer = Effect.fnUntraced(function* (language: Language, options: ServerOptions = {}) {
  const peer = yield* OurPeers.join
  const foreign = yield* spawn(language)
  const server = yield* startServer({ ...options, peer })
  return { ...server, peer, foreign }
})

/** The node id behind which our clients find the foreign peer. */
export const target = NodeId.make("target")

/** A client of ours, and the foreign peer behind its target. */
export const startOurClient = Effect.fnUntraced(function* (language: Language) {
  const peer = yield* OurPeers.join
  const foreign = yield* spawn(language)
  const client = yield* startClient({ peer, resolve: () => Effect.succeedSome(foreign.address) })
  return { ...client, peer, foreign }
})

/** Opens a stream and takes steps on it. */
export const talk = (from: ForeignPeer, to: OurPeers.OurPeer, ...steps: ReadonlyArray<Step>) =>
  Effect.flatMap(from.open(to.address), (stream) => stream.run(...steps))

/** Calls as agents do, and gives the reply, with nothing behind it and no trouble around it, or why there is none. */
export const ask = Effect.fnUntraced(function* (from: ForeignPeer, to: OurPeers.OurPeer, message: Json) {
  const [written, ended, reply, ...rest] = yield* talk(from, to, write(message), closeWrite, read, readAll, close)
  if (reply?.error === undefined) {
    assert.deepStrictEqual([written, ended, ...rest], [nothing, nothing, nothing, nothing])
  }
  return reply
})

/** Makes a call and has the foreign peer take steps on its stream. */
export const serve = Effect.fnUntraced(function* <A, E>(
  by: ForeignPeer,
  call: Effect.Effect<A, E>,
  ...steps: ReadonlyArray<Step>
) {
  const calling = yield* Effect.forkChild(Effect.exit(call), { startImmediately: true })
  const stream = yield* Effect.raceFirst(by.accept, Effect.flatMap(Fiber.join(calling), Effect.die))
  const outcomes = yield* stream.run(...steps)
  return { exit: yield* Fiber.join(calling), outcomes, stream }
})

/** A call that the foreign peer answers with the steps, after it has read the request to its end. */
export const answered = <A, E>(by: ForeignPeer, call: Effect.Effect<A, E>, ...steps: ReadonlyArray<Step>) =>
  Effect.flatMap(serve(by, call, read, readAll, ...steps), ({ exit }) => exit)

/** A test with nodes of ours. */
export const test = (title: string, body: Effect.Effect<void, unknown, Scope.Scope | Peers>) =>
  it.effect(title, () => Effect.provide(body, OurPeers.layer))
