/**
 * What a coordination client does, over any transport (protocol, sections 7
 * and 9).
 */

import { assert, describe, it } from "@effect/vitest"
import type { CoordClientReason } from "@gantry/coord/CoordClient"
import type { DuplexStream } from "@gantry/coord/StreamTransport"
import {
  AlreadyPulling,
  type Digest,
  encodeFrame,
  type Message,
  NodeId,
  PleasePullOutcome,
  PleasePullRequest,
  PullIntent,
  protocolId,
  RecentlyFailed,
  Registry,
  Repository,
  Started,
  timestampFromMillis,
  Unspecified,
  type Verdict
} from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { digestOf } from "../Fixtures.ts"
import {
  type Ending,
  frameOf,
  ioTurn,
  messageIn,
  type Peer,
  PeerFaults,
  Peers,
  readToEnd,
  startClient,
  whileTimePasses
} from "./CoordFixture.ts"

const wanted = digestOf("wanted")
const other = digestOf("other")
const target = NodeId.make("target")
const startedAt = Option.some(timestampFromMillis(1_750_000_000_000))

const intent = new PullIntent({
  hasCached: true,
  inFlight: true,
  startedAt,
  hrwRank: 2,
  recentlyFailed: false,
  cooldownUntil: Option.none(),
  failureClass: "unspecified"
})
const answer: Message = { _tag: "PullIntentResponse", intent }

const requestFor = (digests: ReadonlyArray<Digest>) =>
  new PleasePullRequest({
    registry: Registry.make("registry.example.com"),
    repository: Repository.make("library/nginx"),
    kind: "manifest",
    digests
  })
const manyDigests = (count: number) => Array.from({ length: count }, (_, index) => digestOf(`digest ${index}`))

/** Serves raw streams as scripted, until the test's scope closes. */
const serveRaw = (peer: Peer, script: (stream: DuplexStream) => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    yield* peer.transport.handle(protocolId, (stream) =>
      Effect.asVoid(Effect.forkIn(Effect.ignore(script(stream)), scope))
    )
  })

/** Reads the request to its end, then answers as the function says. */
const replying = (reply: (request: Message) => Message) => (stream: DuplexStream) =>
  Effect.gen(function* () {
    const request = Option.getOrThrow(messageIn(yield* readToEnd(stream)))
    yield* stream.write(frameOf(reply(request)))
    yield* stream.close
  })

/** A client, and the peer behind its target. */
const pairUp = Effect.fnUntraced(function* (options: Partial<Parameters<typeof startClient>[0]> = {}) {
  const { join } = yield* Peers
  const peer = yield* join
  const client = yield* startClient({ resolve: () => Effect.succeedSome(peer.address), ...options })
  return { ...client, peer }
})

/** The suite, over the network that the layer provides. */
export const coordClientSuite = (name: string, network: Layer.Layer<Peers | PeerFaults>) => {
  const test = (title: string, body: Effect.Effect<void, unknown, Peers | PeerFaults | Scope.Scope>) =>
    it.effect(title, () => Effect.provide(body, network))

  describe(`CoordClient over ${name}`, () => {
    test(
      "asks with one frame, ends its side, and gives the answer",
      Effect.gen(function* () {
        const { client, peer } = yield* pairUp()
        const received: Array<Ending> = []
        yield* serveRaw(peer, (stream) =>
          Effect.gen(function* () {
            received.push(yield* readToEnd(stream))
            yield* stream.write(frameOf(answer))
            yield* stream.close
          })
        )
        assert.deepStrictEqual(yield* client.pullIntentQuery(target, wanted), intent)
        assert.deepStrictEqual(received, [
          { _tag: "Closed", bytes: frameOf({ _tag: "PullIntentRequest", digest: wanted }) }
        ])
      })
    )

    describe("resolves a node id", () => {
      const resolves = (
        title: string,
        known: { resolver?: boolean; taught?: boolean },
        expected: "resolver" | "taught"
      ) =>
        test(
          title,
          Effect.gen(function* () {
            const { join } = yield* Peers
            const peers = { resolver: yield* join, taught: yield* join }
            const asked: Array<string> = []
            for (const [name, peer] of Object.entries(peers)) {
              yield* serveRaw(
                peer,
                replying(() => {
                  asked.push(name)
                  return answer
                })
              )
            }
            const from = yield* join
            // Peers that were never met are found by their addresses, which only a resolver gives.
            for (const peer of Object.values(peers)) {
              yield* Effect.scoped(Effect.orDie(from.transport.open(peer.address, protocolId)))
            }
            const { client } = yield* startClient({
              peer: from,
              resolve: () => (known.resolver === true ? Effect.succeedSome(peers.resolver.address) : Effect.succeedNone)
            })
            if (known.taught === true) yield* client.resolvePeerId(target, peers.taught.address.peerId)
            yield* client.pullIntentQuery(target, wanted)
            assert.deepStrictEqual(asked, [expected])
          })
        )
      resolves("by the resolver first", { resolver: true, taught: true }, "resolver")
      resolves("by what it was taught, where the resolver does not know", { taught: true }, "taught")

      test(
        "by reading it as a peer id, where nothing else knows",
        Effect.gen(function* () {
          const { join } = yield* Peers
          const peer = yield* join
          const from = yield* join
          yield* serveRaw(
            peer,
            replying(() => answer)
          )
          yield* Effect.scoped(Effect.orDie(from.transport.open(peer.address, protocolId)))
          const { client } = yield* startClient({ peer: from })
          assert.deepStrictEqual(yield* client.pullIntentQuery(NodeId.make(peer.address.peerId), wanted), intent)
        })
      )

      test(
        "or fails with a typed error, before any timer and without touching the network",
        Effect.gen(function* () {
          let opened = 0
          const { join } = yield* Peers
          const peer = yield* join
          const { client } = yield* startClient({
            peer: {
              ...peer,
              transport: {
                ...peer.transport,
                open: (...call) => {
                  opened++
                  return peer.transport.open(...call)
                }
              }
            }
          })
          const error = yield* Effect.flip(client.pullIntentQuery(target, wanted))
          assert.strictEqual(error.reason, "CannotResolve")
          assert.include(error.message, "target")
          assert.strictEqual(opened, 0)
        })
      )
    })

    describe("please_pull", () => {
      /** Answers every digest with the verdict, and records the batches. */
      const startPuller = Effect.fnUntraced(function* (peer: Peer, verdict: Verdict = new Started({ startedAt })) {
        const batches: Array<number> = []
        yield* serveRaw(
          peer,
          replying((request) => {
            const digests = request._tag === "PleasePullRequest" ? request.digests : []
            batches.push(digests.length)
            return { _tag: "PleasePullResponse", results: digests.map((digest) => ({ digest, verdict })) }
          })
        )
        return batches
      })

      for (const [count, expected] of [
        [0, [0]],
        [1, [1]],
        [256, [256]],
        [257, [256, 1]],
        [600, [256, 256, 88]]
      ] as const) {
        test(
          `for ${count} digests goes out in batches of ${expected.join(", ")}`,
          Effect.gen(function* () {
            const { client, peer } = yield* pairUp()
            const batches = yield* startPuller(peer)
            const digests = manyDigests(count)
            const outcomes = yield* client.pleasePull(target, requestFor(digests))
            assert.deepStrictEqual<ReadonlyArray<number>>(batches, expected)
            assert.deepStrictEqual(
              outcomes,
              digests.map((digest) => new PleasePullOutcome({ digest, verdict: new Started({ startedAt }) }))
            )
          })
        )
      }

      test(
        "goes out in batches of the size that is set",
        Effect.gen(function* () {
          const { client, peer } = yield* pairUp({ config: { clientMaxDigestsPerPleasePull: 2 } })
          const batches = yield* startPuller(peer)
          yield* client.pleasePull(target, requestFor(manyDigests(5)))
          assert.deepStrictEqual(batches, [2, 2, 1])
        })
      )

      test(
        "fails with the first batch that fails, and sends none after it",
        Effect.gen(function* () {
          const { client, peer } = yield* pairUp({ config: { clientMaxDigestsPerPleasePull: 1 } })
          let streams = 0
          yield* serveRaw(peer, (stream) =>
            ++streams === 2 ? stream.reset : replying(() => ({ _tag: "PleasePullResponse", results: [] }))(stream)
          )
          const error = yield* Effect.flip(client.pleasePull(target, requestFor(manyDigests(4))))
          assert.strictEqual(error.reason, "Reset")
          assert.strictEqual(streams, 2)
        })
      )

      test(
        "gives one outcome per digest in the order of the request, whatever the reply holds",
        Effect.gen(function* () {
          const { client, counts, peer } = yield* pairUp()
          const already = new AlreadyPulling({ startedAt })
          const failed = new RecentlyFailed({ cooldownUntil: Option.none(), failureClass: "not_found" })
          yield* serveRaw(
            peer,
            replying(() => ({
              _tag: "PleasePullResponse",
              results: [
                { digest: digestOf("never asked for"), verdict: already },
                { digest: other, verdict: failed },
                { digest: "not even a digest", verdict: already },
                { digest: wanted, verdict: already },
                { digest: wanted, verdict: failed }
              ]
            }))
          )
          const missing = digestOf("missing")
          assert.deepStrictEqual(yield* client.pleasePull(target, requestFor([wanted, missing, other])), [
            new PleasePullOutcome({ digest: wanted, verdict: already }),
            new PleasePullOutcome({ digest: missing, verdict: new Unspecified() }),
            new PleasePullOutcome({ digest: other, verdict: failed })
          ])
          assert.deepStrictEqual(yield* counts, { foreignOutcomes: 2 })
        })
      )
    })

    describe("fails with a typed error", () => {
      const failsWith = (
        title: string,
        reason: CoordClientReason,
        script: (stream: DuplexStream) => Effect.Effect<unknown, unknown>
      ) =>
        test(
          title,
          Effect.gen(function* () {
            const { client, peer } = yield* pairUp()
            yield* serveRaw(peer, script)
            const error = yield* Effect.flip(client.pullIntentQuery(target, wanted))
            assert.strictEqual(error.reason, reason)
            assert.strictEqual(error.phase, "reply")
            assert.strictEqual(error.target, target)
          })
        )
      const answering = (bytes: Uint8Array) => (stream: DuplexStream) =>
        Effect.gen(function* () {
          yield* readToEnd(stream)
          yield* stream.write(bytes)
          yield* stream.close
        })

      failsWith("when the peer closes without a reply", "NoReply", answering(Uint8Array.of()))
      failsWith("when the peer resets the stream", "Reset", (stream) => Effect.andThen(readToEnd(stream), stream.reset))
      failsWith("when the reply announces more than 1 MiB", "ReplyTooLarge", answering(Uint8Array.of(0x81, 0x80, 0x40)))
      failsWith("when the reply ends in the middle", "ReplyMalformed", answering(frameOf(answer).subarray(0, 5)))
      failsWith("when the reply's length is not minimal", "ReplyMalformed", answering(Uint8Array.of(0x80, 0x00)))
      failsWith(
        "when the reply is not an envelope",
        "ReplyMalformed",
        answering(encodeFrame(Uint8Array.of(0x12, 0x7f)))
      )
      failsWith("when the reply is empty", "UnexpectedReply", (stream) =>
        Effect.andThen(stream.write(Uint8Array.of(0)), stream.close)
      )
      failsWith(
        "when the reply answers another kind of request",
        "UnexpectedReply",
        replying(() => ({ _tag: "PleasePullResponse", results: [] }))
      )
      failsWith(
        "when the reply is a request",
        "UnexpectedReply",
        replying((request) => request)
      )

      test(
        "when a please_pull is answered as a query",
        Effect.gen(function* () {
          const { client, peer } = yield* pairUp()
          yield* serveRaw(
            peer,
            replying(() => answer)
          )
          const error = yield* Effect.flip(client.pleasePull(target, requestFor([wanted])))
          assert.strictEqual(error.reason, "UnexpectedReply")
        })
      )

      test(
        "when the peer does not speak the protocol",
        Effect.gen(function* () {
          const { client } = yield* pairUp()
          const error = yield* Effect.flip(client.pullIntentQuery(target, wanted))
          assert.strictEqual(error.reason, "UnsupportedProtocol")
          // The peer got the request, and may tell before or after our side has ended.
          assert.include(["request", "reply"], error.phase)
        })
      )

      test(
        "when the peer cannot be reached",
        Effect.gen(function* () {
          const { join } = yield* Peers
          const gone = yield* Effect.scoped(join)
          const { client } = yield* startClient({ resolve: () => Effect.succeedSome(gone.address) })
          const error = yield* Effect.flip(client.pullIntentQuery(target, wanted))
          assert.strictEqual(error.reason, "Unreachable")
          assert.strictEqual(error.phase, "dial")
        })
      )

      test(
        "when the reply does not come within the time of the call, and the stream is reset",
        Effect.gen(function* () {
          const { client, peer } = yield* pairUp()
          const received = yield* Deferred.make<void>()
          const ended = yield* Deferred.make<Ending>()
          yield* serveRaw(peer, (stream) =>
            Effect.gen(function* () {
              yield* readToEnd(stream)
              yield* Deferred.succeed(received, undefined)
              yield* stream.write(Uint8Array.of(0x80))
              yield* Deferred.succeed(ended, yield* untilWriteFails(stream))
            })
          )
          const call = yield* Effect.forkChild(Effect.flip(client.pullIntentQuery(target, wanted)))
          yield* Deferred.await(received)
          yield* TestClock.adjust("2 seconds")
          const error = yield* Fiber.join(call)
          assert.strictEqual(error.reason, "TimedOut")
          assert.strictEqual(error.phase, "reply")
          assert.deepStrictEqual(yield* Deferred.await(ended), { _tag: "Reset" })
        })
      )
    })

    describe("tells a request that may have arrived from one that cannot have", () => {
      /** A client that has asked the peer before, and how its next call fails. */
      const asksAgain = Effect.fnUntraced(function* (
        wrong: (faults: PeerFaults["Service"], peer: Peer) => Effect.Effect<unknown>
      ) {
        let served = 0
        const { client, peer } = yield* pairUp()
        yield* serveRaw(peer, (stream) => {
          served++
          return replying(() => answer)(stream)
        })
        yield* client.pullIntentQuery(target, wanted)
        yield* wrong(yield* PeerFaults, peer)
        const { phase, reason } = yield* whileTimePasses(Effect.flip(client.pullIntentQuery(target, wanted)))
        return { phase, reason, served }
      })

      test(
        "when the reply is lost",
        Effect.gen(function* () {
          const { served, ...error } = yield* asksAgain((faults, peer) => faults.mute(peer))
          assert.deepStrictEqual(error, { reason: "TimedOut", phase: "reply" })
          assert.strictEqual(served, 2)
        })
      )

      test(
        "when the request is lost, which looks the same from here",
        Effect.gen(function* () {
          const { served, ...error } = yield* asksAgain((faults, peer) => faults.isolate(peer))
          assert.deepStrictEqual(error, { reason: "TimedOut", phase: "reply" })
          assert.strictEqual(served, 1)
        })
      )

      test(
        "when there was no connection in time",
        Effect.gen(function* () {
          const { client, peer } = yield* pairUp()
          yield* (yield* PeerFaults).isolate(peer)
          const error = yield* whileTimePasses(Effect.flip(client.pullIntentQuery(target, wanted)))
          assert.deepInclude(error, { reason: "TimedOut", phase: "dial" })
        })
      )
    })

    test(
      "resets its stream at once when its caller is interrupted",
      Effect.gen(function* () {
        const { client, peer } = yield* pairUp()
        const received = yield* Deferred.make<void>()
        const ended = yield* Deferred.make<Ending>()
        yield* serveRaw(peer, (stream) =>
          Effect.gen(function* () {
            yield* readToEnd(stream)
            yield* Deferred.succeed(received, undefined)
            yield* Deferred.succeed(ended, yield* untilWriteFails(stream))
          })
        )
        const call = yield* Effect.forkChild(client.pullIntentQuery(target, wanted))
        yield* Deferred.await(received)
        yield* Fiber.interrupt(call)
        assert.deepStrictEqual(yield* Deferred.await(ended), { _tag: "Reset" })
      })
    )
  })
}

/** A reset shows in writes, once both have told the other that they will not write. */
const untilWriteFails = (stream: DuplexStream): Effect.Effect<Ending> =>
  Effect.forever(Effect.andThen(stream.write(Uint8Array.of(0x80)), ioTurn)).pipe(
    Effect.orElseSucceed(() => ({ _tag: "Reset" as const }))
  )
