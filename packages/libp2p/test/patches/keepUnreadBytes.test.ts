import { assert, describe, it } from "@effect/vitest"
import type { StreamMuxerFactory } from "@libp2p/interface"
import { byteStream } from "@libp2p/utils"
import { Effect } from "effect"
import { keepUnreadBytes } from "../../src/internal/patches/keepUnreadBytes.ts"
import { bytes, eventually, text } from "../support.ts"
import { connect, muxers } from "./unpatched.ts"

/**
 * A peer sends bytes and the end of its side before anyone listens for its
 * stream. Reads some of them, gives the rest back, and gives what comes then.
 */
const readAndGiveBack = Effect.fnUntraced(function* (factory: StreamMuxerFactory) {
  const { far, near } = connect()
  const client = muxers().createStreamMuxer(near)
  const server = factory.createStreamMuxer(far)
  const sent = yield* Effect.promise(async () => client.createStream())
  sent.send(bytes("name and request"))
  yield* Effect.promise(() => sent.close())
  yield* eventually(() => server.streams[0]?.remoteWriteStatus === "closed")
  const stream = server.streams[0] as (typeof server.streams)[0]
  const reader = byteStream(stream)
  const name = yield* Effect.promise(() => reader.read({ bytes: 8 }))
  yield* Effect.try({ try: () => reader.unwrap(), catch: (cause) => (cause as Error).name })
  let rest = ""
  stream.addEventListener("message", ({ data }) => {
    rest += text(data.subarray())
  })
  yield* eventually(() => rest.length === 8)
  return [text(name.subarray()), rest]
})

describe("keepUnreadBytes", () => {
  it.effect("takes back the bytes of a stream whose peer has ended its side", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* readAndGiveBack(keepUnreadBytes(muxers())), ["name and", " request"])
    })
  )

  it.effect("is needed as long as such a stream takes none", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Effect.flip(readAndGiveBack(muxers())), "StreamStateError")
    })
  )
})
