import { assert, describe, it } from "@effect/vitest"
import type { StreamMuxerFactory } from "@libp2p/interface"
import { Effect } from "effect"
import { limitFrameSize } from "../../src/internal/patches/limitFrameSize.ts"
import { eventually, frameHeader } from "../support.ts"
import { connect, muxers } from "./unpatched.ts"

const windowBytes = 262_144

/** Announces a frame, sends nothing of it, and gives what became of the connection. */
const announce = Effect.fnUntraced(function* (factory: StreamMuxerFactory, bytes: number) {
  const { far, near } = connect()
  let received = 0
  far.addEventListener("message", ({ data }) => {
    received += data.byteLength
  })
  factory.createStreamMuxer(far)
  const header = frameHeader("data", 1, bytes)
  near.send(header.subarray(0, 5))
  near.send(header.subarray(5))
  yield* eventually(() => received === header.length)
  return far.status
})

describe("limitFrameSize", () => {
  it.effect("ends a connection whose peer announces a frame beyond the limit, and no other", () =>
    Effect.gen(function* () {
      const limited = () => limitFrameSize(muxers(), windowBytes)
      assert.strictEqual(yield* announce(limited(), windowBytes), "open")
      assert.strictEqual(yield* announce(limited(), windowBytes + 1), "aborted")
    })
  )

  it.effect("is needed as long as the muxer waits for the rest of a frame of any size", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* announce(muxers(), 2 ** 32 - 1), "open")
    })
  )
})
