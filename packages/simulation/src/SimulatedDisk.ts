/**
 * A node's disk: it survives a crash of the node, and may be slow.
 */
import type * as Store from "@gantry/coord/Store"
import { type Blob, BlobStore, layerStore, makeWriter } from "@gantry/oci/BlobStore"
import type { Digest } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

export interface SimulatedDisk {
  readonly blobs: Map<Digest, Uint8Array>
  /** How long each question takes. */
  millis: number
}

/** A store on the disk. Writes of a process that is no more come to nothing. */
export const layer = (
  disk: SimulatedDisk,
  isAlive: () => boolean,
  stored: (digest: Digest, bytes: Uint8Array) => void
): Layer.Layer<BlobStore | Store.Store> => {
  const slowly = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => (disk.millis > 0 ? Effect.delay(effect, disk.millis) : effect))
  const look = (digest: Digest) => slowly(Effect.sync(() => Option.fromUndefinedOr(disk.blobs.get(digest))))

  const store = BlobStore.of({
    has: (digest) => Effect.map(look(digest), Option.isSome),
    size: (digest) =>
      Effect.map(
        look(digest),
        Option.map(({ length }) => length)
      ),
    open: (digest, range) =>
      Effect.map(
        look(digest),
        Option.map((bytes): Blob => {
          const { length, offset } = range ?? { offset: 0, length: bytes.length }
          const part = bytes.subarray(offset, offset + length)
          return { size: bytes.length, stream: Stream.succeed(part), runForEach: (use) => use(part) }
        })
      ),
    verify: (digest) => Effect.map(look(digest), Option.isSome),
    writer: (digest, options) =>
      Effect.sync(() => {
        const chunks: Array<Uint8Array> = []
        return makeWriter(digest, options?.maxSize, {
          write: (chunk) => slowly(Effect.sync(() => void chunks.push(chunk.slice()))),
          read: (position, into) => Effect.sync(() => Buffer.concat(chunks).copy(into, 0, position)),
          clear: Effect.sync(() => void chunks.splice(0)),
          publish: () =>
            slowly(
              Effect.sync(() => {
                if (!isAlive()) return
                const bytes = Buffer.concat(chunks)
                disk.blobs.set(digest, bytes)
                stored(digest, bytes)
              })
            )
        })
      }),
    tag: () => Effect.void
  })
  return Layer.provideMerge(layerStore, Layer.succeed(BlobStore, store))
}
