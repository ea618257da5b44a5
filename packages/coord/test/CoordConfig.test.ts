import { assert, describe, it } from "@effect/vitest"
import { CoordConfig } from "@gantry/coord"
import { ConfigProvider, Duration, Effect } from "effect"

describe("CoordConfig", () => {
  it.effect("has the defaults of the protocol", () =>
    Effect.gen(function* () {
      const config = yield* CoordConfig.CoordConfig
      assert.strictEqual(Duration.toMillis(config.streamHandshakeTimeout), 5000)
      assert.strictEqual(Duration.toMillis(config.dispatchTimeout), 2000)
      assert.strictEqual(config.maxConcurrentStreams, 512)
      assert.strictEqual(config.maxConcurrentStreamsPerPeer, 128)
      assert.strictEqual(config.maxDigestsPerPleasePull, 256)
      assert.strictEqual(config.peerAuthorization, "observe")
      assert.strictEqual(Duration.toMillis(config.unauthorizedWarningInterval), 30_000)
      assert.strictEqual(Duration.toMillis(config.dialTimeout), 2000)
      assert.strictEqual(Duration.toMillis(config.rpcTimeout), 2000)
      assert.strictEqual(config.clientMaxDigestsPerPleasePull, 256)
    }).pipe(Effect.provide(CoordConfig.layer()))
  )

  it("ignores settings that are not positive", () => {
    const config = CoordConfig.make({
      rpcTimeout: 0,
      dialTimeout: "-1 seconds",
      maxConcurrentStreams: 0,
      maxDigestsPerPleasePull: -5,
      maxConcurrentStreamsPerPeer: Number.NaN
    })
    assert.deepStrictEqual(config, CoordConfig.defaults)
  })

  it("takes what is given", () => {
    const config = CoordConfig.make({ rpcTimeout: "7 seconds", maxConcurrentStreams: 3, peerAuthorization: "enforce" })
    assert.deepStrictEqual(config, {
      ...CoordConfig.defaults,
      rpcTimeout: Duration.seconds(7),
      maxConcurrentStreams: 3,
      peerAuthorization: "enforce"
    })
  })

  const fromEnv = (env: Record<string, string>) =>
    CoordConfig.config.pipe(Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env })))

  it.effect("reads the environment", () =>
    Effect.gen(function* () {
      const config = yield* fromEnv({
        GANTRY_COORD_RPC_TIMEOUT: "3 seconds",
        GANTRY_COORD_PEER_AUTHORIZATION: "enforce",
        GANTRY_COORD_MAX_CONCURRENT_STREAMS: "9"
      })
      assert.deepStrictEqual(config, {
        ...CoordConfig.defaults,
        rpcTimeout: Duration.seconds(3),
        peerAuthorization: "enforce",
        maxConcurrentStreams: 9
      })
      assert.deepStrictEqual(yield* fromEnv({}), CoordConfig.defaults)
    })
  )

  it.effect("says which variable of the environment cannot be read", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(fromEnv({ GANTRY_COORD_RPC_TIMEOUT: "soon" }))
      assert.include(error.message, "RPC_TIMEOUT")
    })
  )
})
