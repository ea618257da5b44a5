import { assert, describe, it } from "@effect/vitest"
import { CoordConfig } from "@gantry/coord"
import { ConfigProvider, Duration, Effect, Layer } from "effect"

describe("CoordConfig", () => {
  it.effect("has the defaults of the protocol, for who says nothing", () =>
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
      assert.deepStrictEqual(yield* CoordConfig.make(), config)
    })
  )

  it.effect("ignores settings that are not positive", () =>
    Effect.gen(function* () {
      const config = yield* CoordConfig.make({
        rpcTimeout: 0,
        dialTimeout: "-1 seconds",
        maxConcurrentStreams: 0,
        maxDigestsPerPleasePull: -5,
        maxConcurrentStreamsPerPeer: Number.NaN
      })
      assert.deepStrictEqual(config, CoordConfig.defaults)
    })
  )

  it.effect("takes what is given", () =>
    Effect.gen(function* () {
      const config = yield* CoordConfig.CoordConfig
      assert.deepStrictEqual(config, {
        ...CoordConfig.defaults,
        rpcTimeout: Duration.seconds(7),
        maxConcurrentStreams: 3,
        peerAuthorization: "enforce"
      })
    }).pipe(
      Effect.provide(
        CoordConfig.layer({ rpcTimeout: "7 seconds", maxConcurrentStreams: 3, peerAuthorization: "enforce" })
      )
    )
  )

  it.effect.each([
    [{ rpcTimeout: "banana" }, "the setting rpcTimeout has to be a duration"],
    [{ shutdownGrace: null }, "the setting shutdownGrace has to be a duration"],
    [{ maxConcurrentStreams: "9" }, "the setting maxConcurrentStreams has to be a number"],
    [{ peerAuthorization: "enforced" }, `the setting peerAuthorization has to be "observe" or "enforce"`]
  ] satisfies ReadonlyArray<readonly [object, string]>)(
    "is not built from what cannot be read: %j",
    ([options, message]) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Layer.build(CoordConfig.layer(options as CoordConfig.Options)))
        assert.strictEqual(error._tag, "SettingError")
        assert.include(error.message, message)
        assert.include(error.message, JSON.stringify(Object.values(options)[0]))
      })
  )

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
