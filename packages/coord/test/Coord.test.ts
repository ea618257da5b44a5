import { assert, describe, it } from "@effect/vitest"
import {
  Coord,
  CoordConfig,
  CoordServer,
  FetchError,
  Inflight,
  Members,
  Metrics,
  NegativeCache,
  PullLog,
  Pump,
  Store,
  StreamTransport
} from "@gantry/coord"
import { timestampToMillis } from "@gantry/protocol"
import { Fixtures, MemoryNetwork, RecordingMetrics } from "@gantry/testkit"
import { Clock, Context, Effect, Fiber, Layer, Option, Stream } from "effect"
import { TestClock } from "effect/testing"

const digest = Fixtures.digestOf("a layer")

/** What a node lives in: no blobs, two members, a network in memory. */
const surroundings = Layer.mergeAll(
  Store.layerMemory(),
  Members.layerStatic(Fixtures.nodeIdOf(1), Fixtures.members(2)),
  Layer.effect(
    StreamTransport.StreamTransport,
    MemoryNetwork.MemoryNetwork.use((network) => network.join(Fixtures.peerIdOf(1)))
  )
).pipe(Layer.provide(MemoryNetwork.layer))

/** A pump whose registry does not have it, or has not said so yet. */
const pump = Pump.layerBackground({
  fetch: () =>
    Effect.delay(
      Effect.fail(
        new FetchError.FetchError({
          reason: new FetchError.OriginFailure({ failureClass: "not_found" }),
          detail: "scripted"
        })
      ),
      "1 seconds"
    )
})

/** Has a node pull the digest. */
const pull = Effect.fnUntraced(function* (node: Context.Context<CoordServer.CoordServer>) {
  const reason: Pump.PullReason = { rule: "designated", requester: "node-1", rank: 0 }
  const server = Context.get(node, CoordServer.CoordServer)
  const [outcome] = yield* server.startLocalPull(Fixtures.pleasePull([digest]), reason)
  return outcome?.verdict._tag
})

describe("Coord.layer", () => {
  it.effect("answers from the claims and the failures of its own pump", () =>
    Effect.gen(function* () {
      const node = yield* Layer.build(Coord.layer({ pump }).pipe(Layer.provide(surroundings)))
      const { localPullIntent } = Context.get(node, CoordServer.CoordServer)
      assert.strictEqual(yield* pull(node), "Started")
      assert.isTrue((yield* localPullIntent(digest)).inFlight)
      assert.strictEqual(yield* Context.get(node, Inflight.Inflight).size, 1)

      yield* TestClock.adjust("1 seconds")
      const intent = yield* localPullIntent(digest)
      assert.isFalse(intent.inFlight)
      assert.strictEqual(intent.failureClass, "not_found")
      assert.strictEqual(yield* pull(node), "RecentlyFailed")
    })
  )

  it.effect("has one NegativeCache and one Metrics, those that it is given", () =>
    Effect.gen(function* () {
      const recording = yield* Layer.build(RecordingMetrics.layer)
      const node = yield* Layer.build(
        Coord.layer({
          pump,
          negativeCache: NegativeCache.layer({ initial: "1 minute" }),
          metrics: Layer.succeed(Metrics.Metrics, Context.get(recording, Metrics.Metrics))
        }).pipe(Layer.provide(surroundings))
      )
      yield* pull(node)
      yield* TestClock.adjust("1 seconds")
      const { cooldownUntil } = yield* Context.get(node, CoordServer.CoordServer).localPullIntent(digest)
      assert.strictEqual(timestampToMillis(Option.getOrThrow(cooldownUntil)), 61_000)
      assert.strictEqual(yield* Context.get(node, NegativeCache.NegativeCache).size, 1)
      assert.deepStrictEqual(yield* Context.get(recording, RecordingMetrics.RecordingMetrics).counts, {
        negativeCacheEntries: 1,
        "negativeCacheEnter:not_found": 1,
        "originPull:layer": 1,
        "originPullFailure:layer:not_found": 1,
        pleasePullStarted: 1
      })
    })
  )

  it.effect("gives what its pump gives beside the pump", () =>
    Effect.gen(function* () {
      const node = yield* Layer.build(Coord.layer({ pump }).pipe(Layer.provide(surroundings)))
      const { pulls } = Context.get(node, PullLog.PullLog)
      const first = yield* Effect.forkChild(Stream.runHead(pulls), { startImmediately: true })
      yield* pull(node)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(Option.getOrThrow(yield* Fiber.join(first)).outcome._tag, "Failed")
    })
  )

  it.effect.each([
    ["the defaults", undefined, undefined, 2],
    ["the settings around it", undefined, { dispatchTimeout: "3 seconds" }, 3],
    ["its own settings", { dispatchTimeout: "4 seconds" }, { dispatchTimeout: "3 seconds" }, 4]
  ] satisfies ReadonlyArray<
    readonly [string, CoordConfig.Options | undefined, CoordConfig.Options | undefined, number]
  >)("follows %s", ([, config, around, seconds]) =>
    Effect.gen(function* () {
      const hanging = Layer.succeed(Pump.Pump, { pull: () => Effect.never })
      const node = yield* Layer.build(
        Coord.layer({ pump: hanging, config }).pipe(Layer.provide([surroundings, CoordConfig.layer(around)]))
      )
      const pulling = yield* Effect.forkChild(Effect.andThen(pull(node), Clock.currentTimeMillis), {
        startImmediately: true
      })
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(pulling), seconds * 1000)
    })
  )

  it.effect("is not built from a setting that cannot be read", () =>
    Effect.gen(function* () {
      const config = { rpcTimeout: "banana" } as unknown as CoordConfig.Options
      const layer = Coord.layer({ pump: Pump.layerNone, config }).pipe(Layer.provide(surroundings))
      assert.strictEqual((yield* Effect.flip(Layer.build(layer))).setting, "rpcTimeout")
    })
  )
})
