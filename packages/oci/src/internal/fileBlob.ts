/**
 * The bytes of a blob in a file.
 */
import { StoreError } from "@gantry/coord/Store"
import type { Digest } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Stream from "effect/Stream"
import type { Blob, ByteRange } from "../BlobStore.ts"
import { storeError } from "./errno.ts"

/** How many bytes are read at once. */
const pieceSize = 256 * 1024

/** Reads into the memory that it is given for each piece. */
const read = (
  file: FileSystem.File,
  digest: Digest,
  { length, offset }: ByteRange,
  memory: (size: number) => Uint8Array
) =>
  Stream.unfold(
    offset,
    Effect.fnUntraced(function* (position) {
      const remaining = offset + length - position
      if (remaining === 0) return undefined
      const piece = memory(Math.min(pieceSize, remaining))
      const size = yield* Effect.mapError(file.read(piece, { position: BigInt(position) }), storeError(digest))
      if (size > 0) return [piece.subarray(0, size), position + size] as const
      const cause = new RangeError(`the file ends at ${position}, ${remaining} bytes early`)
      return yield* new StoreError({ reason: "Failed", digest, cause })
    })
  )

/** A part of a blob of that size, from its open file. */
export const fileBlob = (file: FileSystem.File, digest: Digest, size: number, range: ByteRange): Blob => ({
  size,
  stream: read(file, digest, range, Buffer.allocUnsafeSlow),
  runForEach: (use) =>
    Effect.suspend(() => {
      const buffer = Buffer.allocUnsafeSlow(Math.min(pieceSize, range.length))
      return Stream.runForEach(
        read(file, digest, range, (size) => buffer.subarray(0, size)),
        use
      )
    })
})
