/**
 * How much of an image has arrived at a node.
 */
import type { BlobStore, Manifest } from "@gantry/oci"
import type { Digest } from "@gantry/protocol"
import * as Effect from "effect/Effect"

/** What is known of the image so far, and what of that is there. */
export interface Figures {
  readonly bytes: number
  readonly totalBytes: number
  readonly digests: number
  readonly totalDigests: number
}

/** Keeps count. */
export interface Arrivals {
  /** The store, with an eye on what is written to it. */
  readonly watch: (store: BlobStore.BlobStore["Service"]) => BlobStore.BlobStore["Service"]
  /** The image has these blobs too. */
  readonly expect: (entries: ReadonlyArray<Manifest.Entry>) => void
  /** The blob is there. */
  readonly complete: (digest: Digest) => void
  readonly figures: () => Figures
}

export const make = (): Arrivals => {
  const sizes = new Map<Digest, number>()
  const arrived = new Map<Digest, number>()
  const completed = new Set<Digest>()

  const watchWriter = (digest: Digest, writer: BlobStore.BlobWriter): BlobStore.BlobWriter => ({
    ...writer,
    append: (chunk) =>
      Effect.tap(writer.append(chunk), () => Effect.map(writer.offset, (offset) => arrived.set(digest, offset)))
  })

  return {
    watch: (store) => ({
      ...store,
      writer: (digest, options) => Effect.map(store.writer(digest, options), (writer) => watchWriter(digest, writer))
    }),
    expect(entries) {
      for (const { digest, size } of entries) sizes.set(digest, size)
    },
    complete(digest) {
      completed.add(digest)
    },
    figures() {
      let bytes = 0
      let totalBytes = 0
      for (const [digest, size] of sizes) {
        totalBytes += size
        bytes += completed.has(digest) ? size : Math.min(arrived.get(digest) ?? 0, size)
      }
      return { bytes, totalBytes, digests: completed.size, totalDigests: sizes.size }
    }
  }
}
