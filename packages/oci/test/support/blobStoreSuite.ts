import { assert, it } from "@effect/vitest"
import { Store } from "@gantry/coord"
import { BlobStore } from "@gantry/oci"
import { Effect, Exit, type Layer, Option, Scope } from "effect"
import { bytesOf, putBlob, readBlob } from "./bytes.ts"

/** What every blob store does, as cases over a layer of one that is empty. */
export const blobStoreSuite = (layer: Layer.Layer<BlobStore.BlobStore | Store.Store, unknown>): void => {
  const bytes = bytesOf(1, 300_000)
  const digest = BlobStore.digestOf(bytes)

  it.effect("has a blob from its commit on, and not before", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const coordStore = yield* Store.Store
      const writer = yield* store.writer(digest)
      yield* writer.append(bytes.subarray(0, 200_000))
      yield* writer.append(bytes.subarray(200_000))
      assert.strictEqual(yield* writer.offset, 300_000)
      assert.isFalse(yield* store.has(digest))
      assert.isFalse(yield* coordStore.has(digest))
      assert.deepStrictEqual(yield* store.size(digest), Option.none())
      assert.deepStrictEqual(yield* readBlob(digest), Option.none())
      assert.isFalse(yield* store.verify(digest))
      yield* writer.commit
      assert.isTrue(yield* store.has(digest))
      assert.isTrue(yield* coordStore.has(digest))
      assert.deepStrictEqual(yield* store.size(digest), Option.some(300_000))
      assert.deepStrictEqual(yield* readBlob(digest), Option.some(digest))
      assert.isTrue(yield* store.verify(digest))
    }).pipe(Effect.provide(layer))
  )

  it.effect("gives the part of a blob that is asked for, and refuses one that is not in it", () =>
    Effect.gen(function* () {
      yield* putBlob(bytes)
      for (const [offset, length] of [
        [0, 1],
        [1, 131_072],
        [131_071, 140_000],
        [299_999, 1],
        [300_000, 0]
      ] as const) {
        const part = yield* readBlob(digest, { offset, length })
        assert.deepStrictEqual(part, Option.some(BlobStore.digestOf(bytes.subarray(offset, offset + length))))
      }
      const error = yield* Effect.flip(readBlob(digest, { offset: 299_999, length: 2 }))
      assert.strictEqual(error.reason, "Failed")
    }).pipe(Effect.provide(layer))
  )

  it.effect("refuses wrong bytes, and takes the right ones after a restart", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const writer = yield* store.writer(digest)
      yield* writer.append(bytesOf(2, 400_000))
      const error = yield* Effect.flip(writer.commit)
      assert.strictEqual(error.reason, "WrongDigest")
      assert.isFalse(yield* store.has(digest))
      yield* writer.restart
      assert.strictEqual(yield* writer.offset, 0)
      yield* writer.append(bytes)
      yield* writer.commit
      assert.deepStrictEqual(yield* readBlob(digest), Option.some(digest))
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes as many bytes as were announced, and not one more", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const writer = yield* store.writer(digest, { maxSize: bytes.length })
      yield* writer.append(bytes)
      const error = yield* Effect.flip(writer.append(new Uint8Array(1)))
      assert.strictEqual(error.reason, "TooLarge")
      assert.strictEqual(yield* writer.offset, bytes.length)
      yield* writer.commit
      assert.isTrue(yield* store.has(digest))
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes nothing more once a blob is committed", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const writer = yield* store.writer(digest)
      yield* writer.append(bytes)
      yield* writer.commit
      for (const late of [writer.append(bytes), writer.restart, writer.commit]) {
        assert.strictEqual((yield* Effect.flip(late)).reason, "Failed")
      }
      assert.deepStrictEqual(yield* readBlob(digest), Option.some(digest))
    }).pipe(Effect.provide(layer))
  )

  it.effect("lets two writers of one blob both commit, at any time", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const first = yield* store.writer(digest)
      const second = yield* store.writer(digest)
      yield* first.append(bytes.subarray(0, 100_000))
      yield* second.append(bytes)
      yield* second.commit
      yield* first.append(bytes.subarray(100_000))
      yield* first.commit
      yield* Effect.all([putBlob(bytes), putBlob(bytes)], { concurrency: "unbounded" })
      assert.isTrue(yield* store.has(digest))
      assert.isTrue(yield* store.verify(digest))
    }).pipe(Effect.provide(layer))
  )

  it.effect("forgets what a writer did not commit", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const scope = yield* Scope.make()
      const writer = yield* Scope.provide(store.writer(digest), scope)
      yield* writer.append(bytes)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(yield* store.has(digest))
    }).pipe(Effect.provide(layer))
  )

  it.effect("keeps what the writer's caller does with its buffer out of the blob", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const buffer = Buffer.from(bytes)
      const writer = yield* store.writer(digest)
      yield* writer.append(buffer)
      buffer.fill(0)
      yield* writer.commit
      assert.isTrue(yield* store.verify(digest))
    }).pipe(Effect.provide(layer))
  )

  it.effect("stores the blob of no bytes", () =>
    Effect.gen(function* () {
      const store = yield* BlobStore.BlobStore
      const empty = yield* putBlob(new Uint8Array())
      assert.deepStrictEqual(yield* store.size(empty), Option.some(0))
      assert.deepStrictEqual(yield* readBlob(empty), Option.some(empty))
    }).pipe(Effect.provide(layer))
  )
}
