import { assert, describe, it } from "@effect/vitest"
import type { ComponentLogger, Logger } from "@libp2p/interface"
import { Effect } from "effect"
import { silenceLoggers } from "../../src/internal/patches/silenceLoggers.ts"
import { startPlain } from "./unpatched.ts"

describe("silenceLoggers", () => {
  it("makes no logger for whoever asks for one", () => {
    const logger = silenceLoggers.logger?.forComponent("libp2p")
    assert.isDefined(logger)
    assert.strictEqual(logger?.newScope("stream"), logger)
    assert.strictEqual(silenceLoggers.logger?.forComponent("other"), logger)
  })

  it.effect("is needed as long as each stream makes loggers", () =>
    Effect.gen(function* () {
      let made = 0
      const counting: Logger = Object.assign(() => {}, {
        enabled: false,
        error: () => {},
        trace: () => {},
        newScope: () => {
          made++
          return counting
        }
      })
      const logger: ComponentLogger = { forComponent: () => counting }
      const [client, server] = yield* Effect.all([startPlain({ logger }), startPlain()])
      yield* Effect.promise(() => server.handle("/gantry/test/1.0.0", () => {}))
      const connection = yield* Effect.promise(() => client.dial(server.getMultiaddrs()))
      const before = made
      yield* Effect.promise(() => connection.newStream("/gantry/test/1.0.0"))
      assert.isAbove(made, before)
    })
  )
})
