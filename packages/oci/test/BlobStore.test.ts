import { assert, describe, it } from "@effect/vitest"
import { BlobStore } from "@gantry/oci"
import { Effect, Option } from "effect"
import { blobStoreSuite } from "./support/blobStoreSuite.ts"
import { bytesOf, readBlob } from "./support/bytes.ts"

describe("BlobStore.layerMemory", () => {
  blobStoreSuite(BlobStore.layerMemory())

  it.effect("begins with the given blobs", () => {
    const bytes = bytesOf(1, 1000)
    return Effect.gen(function* () {
      const digest = BlobStore.digestOf(bytes)
      assert.deepStrictEqual(yield* readBlob(digest), Option.some(digest))
    }).pipe(Effect.provide(BlobStore.layerMemory([bytes])))
  })
})
