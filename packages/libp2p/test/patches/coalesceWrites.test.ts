import { assert, describe, it } from "@effect/vitest"
import type { StreamMuxerFactory } from "@libp2p/interface"
import { Effect } from "effect"
import { coalesceWrites } from "../../src/internal/patches/coalesceWrites.ts"
import { eventually } from "../support.ts"
import { connect, muxers } from "./unpatched.ts"

/** Sends two frames of data in one turn; gives the sizes of the writes that carried them. */
const sendTwice = Effect.fnUntraced(function* (factory: StreamMuxerFactory) {
  const { far, near } = connect()
  const muxer = factory.createStreamMuxer(near)
  const stream = yield* Effect.promise(async () => muxer.createStream())
  const writes: Array<number> = []
  let received = 0
  // The stream itself is announced first.
  yield* eventually(() => true)
  far.addEventListener("message", ({ data }) => {
    writes.push(data.byteLength)
    received += data.byteLength
  })
  stream.send(new Uint8Array(100))
  stream.send(new Uint8Array(100))
  yield* eventually(() => received >= 224)
  return { muxer, near, stream, writes }
})

describe("coalesceWrites", () => {
  it.effect("sends what a muxer sends in one turn in one write", () =>
    Effect.gen(function* () {
      const { writes } = yield* sendTwice(coalesceWrites(muxers()))
      assert.lengthOf(writes, 1)
    })
  )

  it.effect("brings out the last words of a muxer before its connection is closed", () =>
    Effect.gen(function* () {
      for (const end of ["close", "abort"] as const) {
        const { far, near } = connect()
        const muxer = coalesceWrites(muxers()).createStreamMuxer(near)
        let received = 0
        far.addEventListener("message", ({ data }) => {
          received += data.byteLength
        })
        yield* Effect.promise(async () => {
          if (end === "close") await muxer.close()
          else muxer.abort(new Error("enough"))
          await near.close()
        })
        yield* eventually(() => far.status !== "open")
        assert.strictEqual(received, 12, end)
      }
    })
  )

  it.effect("is needed as long as the muxer writes each frame by itself", () =>
    Effect.gen(function* () {
      const { writes } = yield* sendTwice(muxers())
      assert.isAbove(writes.length, 1)
    })
  )
})
