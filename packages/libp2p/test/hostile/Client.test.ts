/**
 * Servers that keep to no rules, over real TCP: how each call to one ends, and
 * that the client is none the worse for it.
 */
import { assert, describe, it } from "@effect/vitest"
import type { CoordClientError } from "@gantry/coord/CoordClient"
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import type { DuplexStream } from "@gantry/coord/StreamTransport"
import {
  type Digest,
  encodeFrame,
  encodeMessage,
  type Message,
  maxMessageBytes,
  NodeId,
  PleasePullOutcome,
  PleasePullRequest,
  PullIntent,
  protocolId,
  Registry,
  Repository,
  Started,
  timestampFromMillis,
  Unspecified
} from "@gantry/protocol"
import { digestOf } from "@gantry/testkit/Fixtures"
import { frameOf, type Peer, readToEnd, startClient, whileTimePasses } from "@gantry/testkit/suites/CoordFixture"
import { Deferred, Effect, Fiber, Option, type Scope } from "effect"
import { eventually, listen, type Node, serve, startNode, startRogue, streamsOf } from "../support.ts"
import * as TcpPeers from "../TcpPeers.ts"
import { startClientProcess } from "./ClientProcess.ts"

const hostileNode = NodeId.make("hostile")
const honestNode = NodeId.make("honest")
const wanted = digestOf("wanted")
const other = digestOf("other")

const nothingKnown = new PullIntent({
  hasCached: false,
  inFlight: false,
  startedAt: Option.none(),
  hrwRank: 0,
  recentlyFailed: false,
  cooldownUntil: Option.none(),
  failureClass: "unspecified"
})
const answer: Message = { _tag: "PullIntentResponse", intent: nothingKnown }
const started = new Started({ startedAt: Option.some(timestampFromMillis(1_750_000_000_000)) })
const pullAnswer = (...digests: ReadonlyArray<string>): Message => ({
  _tag: "PleasePullResponse",
  results: digests.map((digest) => ({ digest, verdict: started }))
})

const bytes = (...values: ReadonlyArray<number>) => Uint8Array.from(values)
const varint = (value: number): ReadonlyArray<number> =>
  value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)]
/** A field of Protobuf that holds bytes. */
const field = (number: number, ...content: ReadonlyArray<number>) => [
  (number << 3) | 2,
  ...varint(content.length),
  ...content
]
const ascii = (text: string) => [...new TextEncoder().encode(text)]
const frame = (...body: ReadonlyArray<number>) => encodeFrame(Uint8Array.from(body))

/** An answer that knows nothing, in a body of this length. */
const frameWithPadding = (length: number) => {
  const reply = new Uint8Array(length)
  // The tag of field 15, and its length in three bytes.
  reply.set([...field(2), 0x7a, ...varint(length - 6)])
  return encodeFrame(reply)
}

/** What a hostile server can tell of itself while it has a stream. */
type Script = (stream: DuplexStream, stall: Effect.Effect<unknown>) => Effect.Effect<unknown, unknown>

/** Takes the request, and then says nothing more for ever. */
const say =
  (reply: Uint8Array): Script =>
  (stream, stall) =>
    readToEnd(stream).pipe(Effect.andThen(stream.write(reply)), Effect.andThen(stall), Effect.andThen(Effect.never))
/** Takes the request, answers with these bytes and closes. */
const sayAndClose =
  (reply: Uint8Array): Script =>
  (stream) =>
    readToEnd(stream).pipe(Effect.andThen(stream.write(reply)), Effect.andThen(stream.close))
const sayAndReset =
  (reply: Uint8Array): Script =>
  (stream) =>
    readToEnd(stream).pipe(Effect.andThen(stream.write(reply)), Effect.andThen(stream.reset))

const queryOf = (digest: Digest) => ({ call: "pull_intent_query" as const, digest })
const pullOf = (digests: ReadonlyArray<Digest>) => ({ call: "please_pull" as const, digests })
type Question = ReturnType<typeof queryOf> | ReturnType<typeof pullOf>

/** How a call ends: with this answer, or for this reason in this phase. */
type Outcome = { readonly answer: unknown } | Pick<CoordClientError, "reason" | "phase">
const answers = (answer: unknown): Outcome => ({ answer })
const fails = (reason: CoordClientError["reason"], phase: CoordClientError["phase"] = "reply"): Outcome => ({
  reason,
  phase
})
const outcomes = (...given: ReadonlyArray<readonly [Digest, Started | Unspecified]>) =>
  answers(given.map(([digest, verdict]) => new PleasePullOutcome({ digest, verdict })))

interface Case {
  readonly title: string
  readonly server: (stall: Effect.Effect<unknown>) => Effect.Effect<PeerAddress, unknown, Scope.Scope>
  readonly question: Question
  readonly ends: Outcome
  readonly counts: Record<string, number>
}

/** A peer that speaks libp2p well, and handles our streams as scripted. */
const scripted =
  (script: Script): Case["server"] =>
  (stall) =>
    Effect.gen(function* () {
      const node = yield* startNode()
      const scope = yield* Effect.scope
      yield* node.transport.handle(
        protocolId,
        serve(scope, (stream) => Effect.ignore(script(stream, stall)))
      )
      return node.address
    })

const hostile = (title: string, script: Script, ends: Outcome): Case => ({
  title,
  server: scripted(script),
  question: queryOf(wanted),
  ends,
  counts: {}
})
const hostilePull = (
  title: string,
  digests: ReadonlyArray<Digest>,
  script: Script,
  ends: Outcome,
  counts: Record<string, number> = {}
): Case => ({ title, server: scripted(script), question: pullOf(digests), ends, counts })
const below = (title: string, server: Case["server"], ends: Outcome): Case => ({
  title,
  server,
  question: queryOf(wanted),
  ends,
  counts: {}
})

/** A TCP server instead of a peer; its address carries the id of a peer that could be there. */
const socketServer = (onSocket: Parameters<typeof listen>[0]) =>
  Effect.gen(function* () {
    const { address: absent } = yield* Effect.scoped(startNode())
    const { address } = yield* listen(onSocket)
    return { peerId: absent.peerId, addresses: [address] }
  })

const manyDigests = Array.from({ length: 256 }, (_, index) => digestOf(`digest ${index}`))
const unknownOutcome = frame(...field(4, ...field(1, ...field(1, ...ascii(wanted)), 0x10, 0x63)))
/** As many results for one digest as a frame has room for. */
const fullReply = encodeMessage(pullAnswer(...new Array(11_000).fill(other)))

const cases: ReadonlyArray<Case> = [
  below(
    "accepts the connection and never speaks",
    (stall) => socketServer(() => Effect.runFork(stall)),
    fails("TimedOut", "dial")
  ),
  below(
    "dies in the middle of Noise",
    () =>
      socketServer((socket) => {
        socket.once("data", () => socket.write(bytes(0x13)))
        socket.on("data", () => socket.destroy())
      }),
    fails("Unreachable", "dial")
  ),
  below(
    "is somebody else",
    () =>
      Effect.gen(function* () {
        const { address: absent } = yield* Effect.scoped(startNode())
        const node = yield* startNode()
        const elsewhere = node.address.addresses.map((address) => address.replace(/\/p2p\/.*$/, ""))
        return { peerId: absent.peerId, addresses: elsewhere }
      }),
    fails("Unreachable", "dial")
  ),
  below("refuses the protocol", () => Effect.map(startNode(), ({ address }) => address), fails("UnsupportedProtocol")),
  below(
    "accepts the stream and never agrees to a protocol",
    (stall) =>
      Effect.gen(function* () {
        const { address } = yield* startRogue({ onStream: () => Effect.runFork(stall) })
        return address
      }),
    fails("TimedOut")
  ),
  hostile("takes the request and never answers", say(bytes()), fails("TimedOut")),
  hostile(
    "sends one byte of the reply per second",
    (stream, stall) =>
      Effect.gen(function* () {
        yield* readToEnd(stream)
        yield* stall
        for (const byte of frameOf(pullAnswer(wanted))) {
          yield* stream.write(bytes(byte))
          yield* Effect.sleep("1 second")
        }
      }),
    fails("TimedOut")
  ),
  hostile("sends the header and nothing after it", say(bytes(...varint(maxMessageBytes))), fails("TimedOut")),
  hostile("sends half a frame and is silent then", say(frameOf(pullAnswer(wanted)).subarray(0, 40)), fails("TimedOut")),
  hostile(
    "sends half a frame and closes",
    sayAndClose(frameOf(pullAnswer(wanted)).subarray(0, 40)),
    fails("ReplyMalformed")
  ),
  hostile(
    "answers with 1 MiB, most of it a field that nobody knows",
    say(frameWithPadding(maxMessageBytes)),
    answers(nothingKnown)
  ),
  hostile("answers with 1 MiB and one byte", say(frameWithPadding(maxMessageBytes + 1)), fails("ReplyTooLarge")),
  hostile(
    "dates its pull beyond the end of time",
    say(frame(...field(2, 0x10, 0x01, ...field(3, 0x08, ...new Array(8).fill(0xff), 0x7f)))),
    answers(new PullIntent({ ...nothingKnown, inFlight: true }))
  ),
  hostile("announces one byte more than 1 MiB", say(bytes(...varint(maxMessageBytes + 1))), fails("ReplyTooLarge")),
  hostile("sends a length of 10 bytes", say(bytes(...new Array(9).fill(0xff), 0x01)), fails("ReplyMalformed")),
  hostile("sends a length that is not minimal", say(bytes(0x82, 0x00, 0x12, 0x00)), fails("ReplyMalformed")),
  hostile("sends no protobuf", say(frame(0x12, 0x7f)), fails("ReplyMalformed")),
  hostile(
    "sends text that is not UTF-8",
    say(frame(...field(4, ...field(1, ...field(1, 0xff))))),
    fails("ReplyMalformed")
  ),
  hostile("sends an empty envelope", say(bytes(0)), fails("UnexpectedReply")),
  hostile(
    "answers with the request",
    say(frameOf({ _tag: "PullIntentRequest", digest: wanted })),
    fails("UnexpectedReply")
  ),
  hostile("answers a query as a please_pull", say(frameOf(pullAnswer(wanted))), fails("UnexpectedReply")),
  hostilePull("answers a please_pull as a query", [wanted], say(frameOf(answer)), fails("UnexpectedReply")),
  hostile("answers both, the other kind last", say(frame(0x12, 0x00, 0x22, 0x00)), fails("UnexpectedReply")),
  hostile("answers both, the right kind last", say(frame(0x22, 0x00, 0x12, 0x00)), answers(nothingKnown)),
  hostile("names a failure that nobody knows", say(frame(...field(2, 0x38, 0x63))), answers(nothingKnown)),
  hostilePull(
    "names an outcome that nobody knows",
    [wanted],
    say(unknownOutcome),
    outcomes([wanted, new Unspecified()])
  ),
  hostilePull(
    "answers for more digests than it was asked for",
    [wanted],
    say(frameOf(pullAnswer(wanted, other, "not a digest"))),
    outcomes([wanted, started]),
    { foreignOutcomes: 2 }
  ),
  hostilePull(
    "answers for fewer digests",
    [wanted, other],
    say(frameOf(pullAnswer(other))),
    outcomes([wanted, new Unspecified()], [other, started])
  ),
  hostilePull(
    "answers for other digests alone",
    [wanted],
    say(frameOf(pullAnswer(other))),
    outcomes([wanted, new Unspecified()]),
    { foreignOutcomes: 1 }
  ),
  hostilePull(
    "answers twice for a digest",
    [wanted],
    say(
      frameOf({
        _tag: "PleasePullResponse",
        results: [
          { digest: wanted, verdict: started },
          { digest: wanted, verdict: new Unspecified() }
        ]
      })
    ),
    outcomes([wanted, started])
  ),
  hostilePull(
    "answers with 11,000 digests that nobody asked for",
    [wanted],
    say(encodeFrame(fullReply)),
    outcomes([wanted, new Unspecified()]),
    { foreignOutcomes: 11_000 }
  ),
  hostilePull(
    "never reads a request of 256 digests",
    manyDigests,
    (_stream, stall) => Effect.andThen(stall, Effect.never),
    fails("TimedOut")
  ),
  hostile("resets after the request", sayAndReset(bytes()), fails("Reset")),
  hostile(
    "resets in the middle of the reply",
    sayAndReset(frameOf(pullAnswer(wanted)).subarray(0, 40)),
    fails("Reset")
  ),
  hostile("closes without a reply", sayAndClose(bytes()), fails("NoReply")),
  hostile("never closes after the reply", say(frameOf(answer)), answers(nothingKnown)),
  hostile(
    "goes on after the reply",
    (stream) =>
      readToEnd(stream).pipe(
        Effect.andThen(stream.write(frameOf(answer))),
        Effect.andThen(Effect.forever(stream.write(new Uint8Array(65_536))))
      ),
    answers(nothingKnown)
  )
]

const client = Effect.fnUntraced(function* (node: Node, addresses: ReadonlyMap<NodeId, PeerAddress>) {
  const { client, counts } = yield* startClient({
    peer: node satisfies Peer,
    resolve: (target) => Effect.succeed(Option.fromUndefinedOr(addresses.get(target)))
  })
  const ask = (question: Question): Effect.Effect<unknown, CoordClientError> =>
    question.call === "pull_intent_query"
      ? client.pullIntentQuery(hostileNode, question.digest)
      : client.pleasePull(
          hostileNode,
          new PleasePullRequest({
            registry: Registry.make("registry.example.com"),
            repository: Repository.make("library/nginx"),
            kind: "layer",
            digests: question.digests
          })
        )
  return { ask, askHonest: client.pullIntentQuery(honestNode, wanted), counts }
})

describe("A client is unharmed by a server that", () => {
  for (const { counts, ends, question, server, title } of cases) {
    it.effect(title, () =>
      Effect.gen(function* () {
        const stalled = yield* Deferred.make<void>()
        const hostileAddress = yield* server(Deferred.succeed(stalled, undefined))
        const honest = yield* scripted(sayAndClose(frameOf(answer)))(Effect.void)
        const node = yield* startNode()
        const asker = yield* client(
          node,
          new Map([
            [hostileNode, hostileAddress],
            [honestNode, honest]
          ])
        )

        const call = yield* Effect.forkChild(
          asker.ask(question).pipe(
            Effect.map((answer): Outcome => ({ answer })),
            Effect.catch(({ phase, reason }) => Effect.succeed<Outcome>({ reason, phase }))
          ),
          { startImmediately: true }
        )
        // Time stands still until the server has nothing more to do: only its stalling can use the deadline up.
        yield* Effect.race(Deferred.await(stalled), Fiber.await(call))
        assert.deepStrictEqual(yield* asker.askHonest, nothingKnown)
        assert.deepStrictEqual(yield* whileTimePasses(Fiber.join(call)), ends)
        assert.deepStrictEqual(yield* asker.counts, counts)
        assert.deepStrictEqual(yield* asker.askHonest, nothingKnown)
        yield* whileTimePasses(eventually(() => streamsOf(node).length === 0))
      }).pipe(Effect.provide(TcpPeers.layer))
    )
  }

  const mebibyte = 1_048_576

  it.effect("announces 1 MiB on 600 streams and sends nothing of it: memory follows what came", () =>
    Effect.gen(function* () {
      let announced = 0
      let isHostile = false
      const announce: Script = (stream) =>
        readToEnd(stream).pipe(
          Effect.andThen(stream.write(bytes(...varint(maxMessageBytes)))),
          Effect.andThen(Effect.sync(() => announced++)),
          Effect.andThen(Effect.never)
        )
      const address = yield* scripted((stream, stall) =>
        (isHostile ? announce : sayAndClose(frameOf(answer)))(stream, stall)
      )(Effect.void)
      const asker = yield* startClientProcess(address)
      // What any 600 streams at once cost is no part of it: code is compiled and pools are filled before.
      yield* asker.order({ asks: 6_000, atOnce: 600, waits: true })
      isHostile = true
      const before = yield* asker.order({ asks: 600, atOnce: 600, waits: false })
      yield* eventually(() => announced === 600)
      const after = yield* asker.order({ asks: 0, atOnce: 1, waits: true })
      assert.strictEqual(after.streams, 600)
      assert.isBelow(after.rss - before.rss, 20 * mebibyte)
    })
  )

  it.effect("resets each of 10,000 streams: neither they nor what they held stays", () =>
    Effect.gen(function* () {
      const asker = yield* startClientProcess(yield* scripted(sayAndReset(bytes()))(Effect.void))
      const before = yield* asker.order({ asks: 2_000, atOnce: 50, waits: true })
      const after = yield* asker.order({ asks: 10_000, atOnce: 50, waits: true })
      assert.strictEqual(after.streams, 0)
      assert.deepStrictEqual(after.reasons, { Reset: 12_000 })
      // The streams and calls themselves were some hundred.
      assert.isBelow(after.live - before.live, 2 * mebibyte)
    })
  )
})
