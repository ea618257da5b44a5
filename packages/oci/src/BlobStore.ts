/**
 * Blobs on this node's disk.
 */
import type { StoreError } from "@gantry/coord/Store"
import { Digest } from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/**
 * Why bytes were not taken. `WrongDigest`: they hash to something else.
 * `TooLarge`: more came than was announced. `Failed`: the disk refused.
 */
export class BlobWriteError extends Schema.TaggedError<BlobWriteError>("@gantry/oci/BlobWriteError")("BlobWriteError", {
  reason: Schema.Literals(["WrongDigest", "TooLarge", "Failed"]),
  digest: Digest,
  detail: Schema.String
}) {
  override get message(): string {
    return `cannot store ${this.digest}: ${this.detail}`
  }
}

/** A stored blob, open for reading. */
export interface Blob {
  /** Of the whole blob, in bytes. */
  readonly size: number
  /** The bytes asked for. */
  readonly stream: Stream.Stream<Uint8Array, StoreError>
}

/** A part of a blob: `length` bytes from `offset`. */
export interface ByteRange {
  readonly offset: number
  readonly length: number
}

/** A blob on its way in. Nothing is visible before `commit`; without it the scope leaves nothing behind. */
export interface BlobWriter {
  /** How many bytes have been appended. */
  readonly offset: Effect.Effect<number>
  readonly append: (chunk: Uint8Array) => Effect.Effect<void, BlobWriteError>
  /** Drops what was appended and begins again. */
  readonly restart: Effect.Effect<void, BlobWriteError>
  /** Compares the digest, makes the bytes durable and the blob visible, atomically. */
  readonly commit: Effect.Effect<void, BlobWriteError>
}

/** A descriptor of the OCI image specification. */
export const Descriptor = Schema.Struct({
  mediaType: Schema.String,
  digest: Digest,
  size: Schema.Int
})
export type Descriptor = typeof Descriptor.Type

/** Blobs by digest, and the names of images (parts, Store). */
export class BlobStore extends Context.Service<
  BlobStore,
  {
    /** True only if the blob can be opened and is whole. */
    readonly has: (digest: Digest) => Effect.Effect<boolean, StoreError>
    /** Opens a blob, whole or in part; none if it is absent. A range must lie within the blob. */
    readonly open: (
      digest: Digest,
      range?: (size: number) => ByteRange
    ) => Effect.Effect<Option.Option<Blob>, StoreError, Scope.Scope>
    /** Begins a blob. More than `maxSize` bytes are refused. */
    readonly writer: (
      digest: Digest,
      options?: { readonly maxSize?: number | undefined }
    ) => Effect.Effect<BlobWriter, BlobWriteError, Scope.Scope>
    /** Lists an image in `index.json` under a reference name, in place of the one that had the name. */
    readonly tag: (name: string, descriptor: Descriptor) => Effect.Effect<void, StoreError>
  }
>()("@gantry/oci/BlobStore") {}
