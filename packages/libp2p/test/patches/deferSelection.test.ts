import { assert, describe, it } from "@effect/vitest"
import type { StreamMuxerFactory } from "@libp2p/interface"
import { Effect } from "effect"
import { deferSelection } from "../../src/internal/patches/deferSelection.ts"
import { muxers, startPlain } from "./unpatched.ts"

/** Opens a stream of a protocol that the peer does not speak, without waiting for it; or so it says. */
const openUnknown = Effect.fnUntraced(function* (factory: () => StreamMuxerFactory) {
  const [client, server] = yield* Effect.all([startPlain({ streamMuxers: [factory] }), startPlain()])
  const connection = yield* Effect.promise(() => client.dial(server.getMultiaddrs()))
  const open = Effect.tryPromise({
    try: () => connection.newStream("/gantry/unknown/1.0.0", { negotiateFully: false }),
    catch: (cause) => (cause as Error).name
  })
  return yield* Effect.match(open, { onFailure: (name) => name, onSuccess: () => "opened" })
})

describe("deferSelection", () => {
  it.effect("hands out a stream before the peer has agreed to its protocol, where that is wished", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* openUnknown(() => deferSelection(muxers())), "opened")
    })
  )

  it.effect("is needed as long as a new stream waits for its protocol in any case", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* openUnknown(muxers), "UnsupportedProtocolError")
    })
  )
})
