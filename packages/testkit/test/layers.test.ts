import { assert, describe, it } from "@effect/vitest"
import { Metrics } from "@gantry/coord/Metrics"
import { NegativeCache } from "@gantry/coord/NegativeCache"
import { PeerResolver } from "@gantry/coord/PeerResolver"
import { type PullRequest, Pump, PumpResult } from "@gantry/coord/Pump"
import { Store } from "@gantry/coord/Store"
import { Transfer } from "@gantry/coord/Transfer"
import { Digest, OriginRef, parsePeerId, timestampFromMillis } from "@gantry/protocol"
import {
  Fixtures,
  RecordingMetrics,
  TestNegativeCache,
  TestPeerResolver,
  TestPump,
  TestStore,
  TestTransfer
} from "@gantry/testkit"
import { Duration, Effect, Exit, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"

const { A, ONE, TWO, nodeIdOf, peerIdOf, registry, repository } = Fixtures
const refOf = (digest: Digest) => new OriginRef({ registry, repository, digest })
const requestFor = (digest: Digest): PullRequest => ({
  ref: refOf(digest),
  kind: "layer",
  reason: { rule: "designated", requester: nodeIdOf(0), rank: 0 }
})

describe("Fixtures", () => {
  it("hash texts as blobs are hashed", () => {
    assert.strictEqual(
      Fixtures.digestOf(""),
      Digest.make("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )
  })

  it("give the identities that libp2p derives from the same seeds", () => {
    assert.deepStrictEqual([0, 1].map(peerIdOf), [
      "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
      "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    ])
    assert.deepStrictEqual(parsePeerId(peerIdOf(77)), Option.some(peerIdOf(77)))
  })

  it("give each member a node id and a peer id of its own", () => {
    const members = Fixtures.members(5)
    assert.strictEqual(new Set(members.map(({ nodeId }) => nodeId)).size, 5)
    assert.strictEqual(new Set(members.map(({ peerId }) => Option.getOrThrow(peerId))).size, 5)
  })
})

describe("RecordingMetrics", () => {
  it.effect("counts events with their labels, and shows nothing that is zero", () =>
    Effect.gen(function* () {
      const metrics = yield* Metrics
      const { counts } = yield* RecordingMetrics.RecordingMetrics
      assert.deepStrictEqual(yield* counts, {})
      yield* metrics.pullIntentServed
      yield* metrics.pullIntentServed
      yield* metrics.streamError("read")
      yield* metrics.originPullFailure("layer", "auth")
      yield* metrics.foreignOutcomes(3)
      yield* metrics.inflightPulls(2)
      yield* metrics.inflightPulls(1)
      yield* metrics.negativeCacheEntries(1)
      yield* metrics.negativeCacheEntries(0)
      assert.deepStrictEqual(yield* counts, {
        pullIntentServed: 2,
        "streamError:read": 1,
        "originPullFailure:layer:auth": 1,
        foreignOutcomes: 3,
        inflightPulls: 1
      })
    }).pipe(Effect.provide(RecordingMetrics.layer))
  )
})

describe("TestStore", () => {
  it.effect("has what the test gives it, fails and hangs on request, and recovers", () =>
    Effect.gen(function* () {
      const store = yield* Store
      const control = yield* TestStore.TestStore
      yield* control.add(TWO)
      yield* control.remove(ONE)
      assert.deepStrictEqual([yield* store.has(ONE), yield* store.has(TWO)], [false, true])
      yield* control.fail("Unavailable")
      assert.strictEqual((yield* Effect.flip(store.has(TWO))).reason, "Unavailable")
      yield* control.hang
      const hanging = yield* Effect.forkChild(store.has(TWO), { startImmediately: true })
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(hanging.pollUnsafe())
      yield* control.recover
      assert.isTrue(yield* Fiber.join(hanging))
      assert.deepStrictEqual(yield* control.asked, [ONE, TWO, TWO, TWO])
    }).pipe(Effect.provide(TestStore.layer([ONE])))
  )
})

describe("TestNegativeCache", () => {
  it.effect("has exactly the entries that the test puts in, and keeps what is recorded", () =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache
      const control = yield* TestNegativeCache.TestNegativeCache
      const entry = { cooldownUntil: timestampFromMillis(5), failureClass: "auth" as const }
      yield* control.put(refOf(A), entry)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* cache.lookup(A), Option.some(entry))
      assert.deepStrictEqual(yield* cache.lookupRef(refOf(A), "layer"), Option.some(entry))
      assert.deepStrictEqual(yield* cache.lookup(ONE), Option.none())
      yield* cache.recordFailure(refOf(ONE), "layer", "transient", Duration.seconds(1))
      yield* cache.recordSuccess(refOf(TWO), "manifest")
      assert.deepStrictEqual(yield* cache.lookup(ONE), Option.none())
      assert.deepStrictEqual(yield* control.recorded, [
        TestNegativeCache.Recorded.Failure({
          ref: refOf(ONE),
          kind: "layer",
          failureClass: "transient",
          retryAfter: Duration.seconds(1)
        }),
        TestNegativeCache.Recorded.Success({ ref: refOf(TWO), kind: "manifest" })
      ])
      yield* control.remove(refOf(A))
      assert.deepStrictEqual(yield* cache.lookup(A), Option.none())
    }).pipe(Effect.provide(TestNegativeCache.layer))
  )
})

describe("TestPump", () => {
  it.effect("answers by its script, the last answer for ever, and starts everything else now", () =>
    Effect.gen(function* () {
      const pump = yield* Pump
      const control = yield* TestPump.TestPump
      yield* control.answer(ONE, Effect.succeed(PumpResult.Declined()), Effect.die("broken pump"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* pump.pull(requestFor(ONE)), PumpResult.Declined())
      assert.isTrue(Exit.hasDies(yield* Effect.exit(pump.pull(requestFor(ONE)))))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(pump.pull(requestFor(ONE)))))
      assert.deepStrictEqual(
        yield* pump.pull(requestFor(TWO)),
        PumpResult.Started({ startedAt: timestampFromMillis(1_000) })
      )
      assert.deepStrictEqual(
        (yield* control.requests).map(({ ref }) => ref.digest),
        [ONE, ONE, ONE, TWO]
      )
    }).pipe(Effect.provide(TestPump.layer))
  )
})

describe("TestTransfer", () => {
  it.effect("answers by its script, and delivers everything else from the first holder", () =>
    Effect.gen(function* () {
      const transfer = yield* Transfer
      const control = yield* TestTransfer.TestTransfer
      const [first, second] = Fixtures.members(2)
      assert(first !== undefined && second !== undefined)
      const request = { digest: ONE, kind: "layer" as const, size: Option.some(7), holders: [first, second] }
      assert.deepStrictEqual(yield* transfer.fetch(request), { bytes: 7, holder: first.nodeId })
      assert.strictEqual((yield* Effect.flip(transfer.fetch({ ...request, holders: [] }))).reason._tag, "NoHolder")
      yield* control.answer(ONE, Effect.succeed({ bytes: 1, holder: second.nodeId }))
      assert.deepStrictEqual(yield* transfer.fetch(request), { bytes: 1, holder: second.nodeId })
      assert.strictEqual((yield* control.requests).length, 3)
    }).pipe(Effect.provide(TestTransfer.layer))
  )
})

describe("TestPeerResolver", () => {
  it.effect("knows what the test tells it", () =>
    Effect.gen(function* () {
      const resolver = yield* PeerResolver
      const control = yield* TestPeerResolver.TestPeerResolver
      const address = { peerId: peerIdOf(1), addresses: ["/ip4/127.0.0.1/tcp/1"] }
      assert.deepStrictEqual(yield* resolver.resolve(nodeIdOf(1)), Option.none())
      yield* control.set(nodeIdOf(1), address)
      assert.deepStrictEqual(yield* resolver.resolve(nodeIdOf(1)), Option.some(address))
      yield* control.remove(nodeIdOf(1))
      assert.deepStrictEqual(yield* resolver.resolve(nodeIdOf(1)), Option.none())
      assert.deepStrictEqual(yield* control.asked, [nodeIdOf(1), nodeIdOf(1), nodeIdOf(1)])
    }).pipe(Effect.provide(TestPeerResolver.layer()))
  )
})
