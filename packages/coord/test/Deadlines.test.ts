import { assert, describe, it } from "@effect/vitest"
import type { CoordClient } from "@gantry/coord"
import { PumpResult } from "@gantry/coord/Pump"
import {
  type Digest,
  NodeId,
  PleasePullRequest,
  protocolId,
  Registry,
  Repository,
  timestampFromMillis
} from "@gantry/protocol"
import { MemoryNetwork } from "@gantry/testkit"
import { digestOf } from "@gantry/testkit/Fixtures"
import {
  frameOf,
  messageIn,
  openRaw,
  Peers,
  readToEnd,
  sendRaw,
  silence,
  startClient,
  startServer,
  whileTimePasses
} from "@gantry/testkit/suites/CoordFixture"
import * as MemoryPeers from "@gantry/testkit/suites/MemoryPeers"
import { Clock, Effect, Option, type Scope } from "effect"
import { TestClock } from "effect/testing"

const wanted = digestOf("wanted")
const query = frameOf({ _tag: "PullIntentRequest", digest: wanted })
const batchOf = (digests: ReadonlyArray<Digest>) =>
  frameOf({
    _tag: "PleasePullRequest",
    registry: "registry.example.com",
    repository: "library/nginx",
    kind: "layer",
    digests
  })
const target = NodeId.make("target")

const test = (title: string, body: Effect.Effect<void, unknown, Peers | MemoryNetwork.MemoryNetwork | Scope.Scope>) =>
  it.effect(title, () => Effect.provide(body, MemoryPeers.layer))

/** The result of an effect and the milliseconds that it took on Effect's clock. */
const timed = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const from = yield* Clock.currentTimeMillis
  const result = yield* effect
  return { result, millis: (yield* Clock.currentTimeMillis) - from }
})

/** Runs an effect while virtual time passes, and gives what it took. */
const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>) => whileTimePasses(timed(effect))

const pairUp = Effect.fnUntraced(function* (options?: Parameters<typeof startServer>[0]) {
  const { join } = yield* Peers
  const server = yield* startServer(options)
  return { ...server, from: yield* join, to: server.peer }
})

describe("The server's deadlines", () => {
  test(
    "drop a silent stream 5 seconds after it came",
    Effect.gen(function* () {
      const { from, to } = yield* pairUp()
      const stream = yield* openRaw(from, to)
      assert.deepStrictEqual(yield* inTime(readToEnd(stream)), { result: silence, millis: 5000 })
    })
  )

  test(
    "are not renewed by bytes that trickle in",
    Effect.gen(function* () {
      const { counts, from, to } = yield* pairUp()
      const stream = yield* openRaw(from, to)
      yield* Effect.forkChild(
        Effect.forEach(query, (byte) => Effect.delay(Effect.ignore(stream.write(Uint8Array.of(byte))), "1 second"))
      )
      assert.deepStrictEqual(yield* inTime(readToEnd(stream)), { result: silence, millis: 5000 })
      assert.deepStrictEqual(yield* counts, { "streamError:deadline": 1 })
    })
  )

  test(
    "give a batch 2 seconds from its decoding to its reply",
    Effect.gen(function* () {
      const { from, to } = yield* pairUp({ pull: () => Effect.never })
      const { millis, result } = yield* inTime(sendRaw(from, to, batchOf([wanted])))
      assert.strictEqual(millis, 2000)
      assert.isTrue(Option.isSome(messageIn(result)))
    })
  )

  test(
    "leave a request that comes late the time for its reply",
    Effect.gen(function* () {
      const { from, to } = yield* pairUp({ pull: () => Effect.never })
      const stream = yield* openRaw(from, to)
      yield* Effect.forkChild(Effect.delay(stream.write(batchOf([wanted])), "4900 millis"))
      const { millis, result } = yield* inTime(readToEnd(stream))
      assert.strictEqual(millis, 4950)
      assert.isTrue(Option.isSome(messageIn(result)))
    })
  )

  test(
    "bound reading, dispatch and reply as one, by the setting",
    Effect.gen(function* () {
      const { counts, from, to } = yield* pairUp({
        config: { streamHandshakeTimeout: "1 second" },
        view: Effect.never
      })
      assert.deepStrictEqual(yield* inTime(sendRaw(from, to, query)), { result: silence, millis: 1000 })
      assert.deepStrictEqual(yield* counts, { "streamError:deadline": 1 })
    })
  )
})

describe("The server's default caps", () => {
  test(
    "are 128 streams of one peer and 512 of all",
    Effect.gen(function* () {
      const { join } = yield* Peers
      const {
        counts,
        from,
        inflight,
        peer: to
      } = yield* pairUp({
        pull: () => Effect.succeed(PumpResult.Started({ startedAt: timestampFromMillis(0) }))
      })
      const hold = (count: number, peer: typeof from) => Effect.replicateEffect(openRaw(peer, to), count)
      yield* hold(128, from)
      assert.deepStrictEqual(yield* sendRaw(from, to, query), { _tag: "Reset" })
      for (let others = 0; others < 3; others++) yield* hold(128, yield* join)
      assert.deepStrictEqual(yield* sendRaw(yield* join, to, query), { _tag: "Reset" })
      assert.deepStrictEqual(yield* counts, { "streamError:peer_stream_limit": 1, "streamError:stream_limit": 1 })
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(Option.isSome(messageIn(yield* sendRaw(from, to, query))))
      assert.strictEqual(yield* inflight.size, 0)
    })
  )
})

describe("The client's deadlines", () => {
  /** A client whose target is silent, or cut off. */
  const callSilence = Effect.fnUntraced(function* (
    options: Parameters<typeof startClient>[0]["config"],
    reachable: boolean
  ) {
    const { join } = yield* Peers
    const network = yield* MemoryNetwork.MemoryNetwork
    const peer = yield* join
    yield* peer.transport.handle(protocolId, () => Effect.void)
    if (!reachable) yield* Effect.asVoid(network.partition([peer.address.peerId]))
    const { client } = yield* startClient({
      resolve: () => Effect.succeedSome(peer.address),
      ...(options !== undefined && { config: options })
    })
    const { millis, result } = yield* inTime(Effect.flip(client.pullIntentQuery(target, wanted)))
    return { millis, reason: result.reason, phase: result.phase }
  })
  const timedOut = (phase: CoordClient.CoordClientError["phase"], millis: number) => ({
    reason: "TimedOut",
    phase,
    millis
  })

  test(
    "end a dial after 2 seconds",
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* callSilence(undefined, false), timedOut("dial", 2000))
    })
  )

  test(
    "end a dial after the time that is set for it",
    Effect.gen(function* () {
      const config = { dialTimeout: "300 millis", rpcTimeout: "1 second" } as const
      assert.deepStrictEqual(yield* callSilence(config, false), timedOut("dial", 300))
    })
  )

  test(
    "end a dial with the call, when the call has less time",
    Effect.gen(function* () {
      const config = { dialTimeout: "5 seconds", rpcTimeout: "1 second" } as const
      assert.deepStrictEqual(yield* callSilence(config, false), timedOut("dial", 1000))
    })
  )

  test(
    "say of a request that does not get away that it may have arrived",
    Effect.gen(function* () {
      const { join } = yield* Peers
      const [peer, from] = [yield* join, yield* join]
      yield* peer.transport.handle(protocolId, () => Effect.void)
      const open: typeof from.transport.open = (...call) =>
        Effect.map(from.transport.open(...call), (stream) => ({ ...stream, closeWrite: Effect.never }))
      const { client } = yield* startClient({
        peer: { ...from, transport: { ...from.transport, open } },
        resolve: () => Effect.succeedSome(peer.address)
      })
      const { millis, result } = yield* inTime(Effect.flip(client.pullIntentQuery(target, wanted)))
      assert.deepStrictEqual({ millis, reason: result.reason, phase: result.phase }, timedOut("request", 2000))
    })
  )

  test(
    "end a call without a reply after 2 seconds",
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* callSilence(undefined, true), timedOut("reply", 2000))
    })
  )

  test(
    "give each batch of a please_pull a time of its own",
    Effect.gen(function* () {
      const { join } = yield* Peers
      const server = yield* startServer({
        pull: () => Effect.delay(Effect.succeed(PumpResult.Declined()), "1500 millis")
      })
      const { client } = yield* startClient({
        peer: yield* join,
        config: { clientMaxDigestsPerPleasePull: 1 },
        resolve: () => Effect.succeedSome(server.peer.address)
      })
      const request = new PleasePullRequest({
        registry: Registry.make("registry.example.com"),
        repository: Repository.make("library/nginx"),
        kind: "layer",
        digests: [wanted, digestOf("other"), digestOf("third")]
      })
      const { millis, result } = yield* inTime(client.pleasePull(target, request))
      assert.strictEqual(millis, 4500)
      assert.strictEqual(result.length, 3)
    })
  )

  test(
    "keep within those of the caller",
    Effect.gen(function* () {
      const { join } = yield* Peers
      const peer = yield* join
      yield* peer.transport.handle(protocolId, () => Effect.void)
      const { client } = yield* startClient({ resolve: () => Effect.succeedSome(peer.address) })
      const { millis, result } = yield* inTime(
        Effect.timeoutOption(client.pullIntentQuery(target, wanted), "100 millis")
      )
      assert.strictEqual(millis, 100)
      assert.isTrue(Option.isNone(result))
    })
  )
})
