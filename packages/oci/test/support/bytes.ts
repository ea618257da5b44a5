import { assert } from "@effect/vitest"
import { BlobStore } from "@gantry/oci"
import type { Digest } from "@gantry/protocol"
import { Effect, Option, Stream } from "effect"

/** Bytes that repeat only after 256 KiB, so that a part in the wrong place shows. */
export const bytesOf = (seed: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  let state = (seed * 2_654_435_761) >>> 0 || 1
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[index] = state >>> 24
  }
  return bytes
}

/** The digest of what a blob store gives for a digest, whole or in part, and in either way. */
export const readBlob = (digest: Digest, range?: BlobStore.ByteRange) =>
  Effect.gen(function* () {
    const store = yield* BlobStore.BlobStore
    const blob = yield* store.open(digest, range)
    if (Option.isNone(blob)) return Option.none()
    const streamed = Buffer.concat(yield* Stream.runCollect(blob.value.stream))
    const pieces: Array<Uint8Array> = []
    yield* blob.value.runForEach((piece) => Effect.sync(() => void pieces.push(Buffer.from(piece))))
    const given = BlobStore.digestOf(streamed)
    assert.strictEqual(BlobStore.digestOf(Buffer.concat(pieces)), given)
    return Option.some(given)
  }).pipe(Effect.scoped)

/** Puts bytes into the store under their own digest, in pieces. */
export const putBlob = (bytes: Uint8Array, pieceSize = 100_000) =>
  Effect.gen(function* () {
    const store = yield* BlobStore.BlobStore
    const digest = BlobStore.digestOf(bytes)
    const writer = yield* store.writer(digest)
    for (let offset = 0; offset < bytes.length; offset += pieceSize) {
      yield* writer.append(bytes.subarray(offset, offset + pieceSize))
    }
    yield* writer.commit
    return digest
  }).pipe(Effect.scoped)
