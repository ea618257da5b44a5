/**
 * Blobs on this node, and the names of images.
 */

import { createHash } from "node:crypto"
import * as Store from "@gantry/coord/Store"
import { Digest, digestHex } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Descriptor } from "./Manifest.ts"

/**
 * Why bytes were not taken. `WrongDigest`: they hash to something else.
 * `TooLarge`: more came than was announced. `NoSpace`: the disk, or a quota of
 * it, is full. `ReadOnly`: the store may not be written to. `Failed`: the disk
 * refused otherwise.
 */
export class BlobWriteError extends Schema.TaggedError<BlobWriteError>("@gantry/oci/BlobWriteError")("BlobWriteError", {
  reason: Schema.Literals(["WrongDigest", "TooLarge", "NoSpace", "ReadOnly", "Failed"]),
  digest: Digest,
  detail: Schema.String
}) {
  override get message(): string {
    return `cannot store ${this.digest}: ${this.detail}`
  }

  /** Whether it is for the bytes, and so the fault of who sent them; otherwise it is this node's. */
  get isAboutBytes(): boolean {
    return this.reason === "WrongDigest" || this.reason === "TooLarge"
  }
}

/** A stored blob, open for reading. */
export interface Blob {
  /** Of the whole blob, in bytes. */
  readonly size: number
  /** The bytes asked for, each piece in memory of its own. Fails where the blob ends before them. */
  readonly stream: Stream.Stream<Uint8Array, Store.StoreError>
  /**
   * The same, many times cheaper: all pieces come in one buffer, one after the
   * other, so that none may be kept beyond its turn.
   */
  readonly runForEach: <E, R>(
    use: (piece: Uint8Array) => Effect.Effect<void, E, R>
  ) => Effect.Effect<void, Store.StoreError | E, R>
}

/** A part of a blob: `length` bytes from `offset`. */
export interface ByteRange {
  readonly offset: number
  readonly length: number
}

/**
 * A blob on its way in, filled by one fiber. Nothing is visible before
 * `commit`; without it the scope leaves nothing behind.
 */
export interface BlobWriter {
  /** How many bytes have been appended. */
  readonly offset: Effect.Effect<number>
  readonly append: (chunk: Uint8Array) => Effect.Effect<void, BlobWriteError>
  /** Tells how many bytes there will be, once it is known. */
  readonly announce: (size: number) => Effect.Effect<void>
  /** Reads back what has been appended, from a byte on, into the memory given; tells how many bytes that were. */
  readonly read: (position: number, into: Uint8Array) => Effect.Effect<number, BlobWriteError>
  /** Drops what was appended and begins again. */
  readonly restart: Effect.Effect<void, BlobWriteError>
  /**
   * Compares the digest, makes the bytes durable and the blob visible,
   * atomically. After wrong bytes one may restart; after anything else the writer is done.
   */
  readonly commit: Effect.Effect<void, BlobWriteError>
}

/** What is known about a blob that is to be written. */
export interface WriterOptions {
  /** More bytes are refused. */
  readonly maxSize?: number | undefined
  /** How many bytes there will be, where it is known. */
  readonly size?: number | undefined
  /** Who sends the bytes: the registry itself, or by default a peer. */
  readonly source?: "origin" | "peer" | undefined
}

/** Blobs by digest, and the names of images (parts, Store). */
export class BlobStore extends Context.Service<
  BlobStore,
  {
    /** True only if the blob can be opened and is whole. */
    readonly has: (digest: Digest) => Effect.Effect<boolean, Store.StoreError>
    /** The size of a blob in bytes, of one that `has` affirms. */
    readonly size: (digest: Digest) => Effect.Effect<Option.Option<number>, Store.StoreError>
    /** Opens a blob, whole or in part; none if `has` denies it. A range must lie within the blob. */
    readonly open: (
      digest: Digest,
      range?: ByteRange
    ) => Effect.Effect<Option.Option<Blob>, Store.StoreError, Scope.Scope>
    /** Hashes the stored bytes again, all of them: false if they are absent or something else. */
    readonly verify: (digest: Digest) => Effect.Effect<boolean, Store.StoreError>
    /** Begins a blob. */
    readonly writer: (digest: Digest, options?: WriterOptions) => Effect.Effect<BlobWriter, BlobWriteError, Scope.Scope>
    /** Lists an image in `index.json` under a reference name, in place of the one that had the name. */
    readonly tag: (name: string, descriptor: Descriptor) => Effect.Effect<void, Store.StoreError>
  }
>()("@gantry/oci/BlobStore") {}

/** The digest of bytes in memory. */
export const digestOf = (bytes: Uint8Array): Digest =>
  Digest.make(`sha256:${createHash("sha256").update(bytes).digest("hex")}`)

/** Where checked bytes go. */
export interface BlobSink {
  /** Puts the chunk at the offset; what an earlier failure left from there on is overwritten. */
  readonly write: (chunk: Uint8Array, offset: number) => Effect.Effect<void, BlobWriteError>
  readonly read: (position: number, into: Uint8Array) => Effect.Effect<number, BlobWriteError>
  readonly clear: Effect.Effect<void, BlobWriteError>
  /** Makes the bytes, `size` of them, visible under their digest. */
  readonly publish: (size: number) => Effect.Effect<void, BlobWriteError>
}

/** A writer over a sink: hashes on the way, bounds the size, and publishes only what has the digest. */
export const makeWriter = (digest: Digest, maxSize = Number.POSITIVE_INFINITY, sink: BlobSink): BlobWriter => {
  let hash = createHash("sha256")
  let offset = 0
  let sealed = false

  const refuse = (reason: BlobWriteError["reason"], detail: string) =>
    Effect.fail(new BlobWriteError({ reason, digest, detail }))

  // A write, once begun, runs to its end: were its file closed under it, the
  // bytes could go into another file that has been given the same number.
  const unlessSealed = (effect: Effect.Effect<void, BlobWriteError>) =>
    Effect.uninterruptible(Effect.suspend(() => (sealed ? refuse("Failed", "it has been committed") : effect)))

  const append = (chunk: Uint8Array) => {
    if (offset + chunk.length > maxSize) return refuse("TooLarge", `more than ${maxSize} bytes came`)
    return Effect.map(sink.write(chunk, offset), () => {
      hash.update(chunk)
      offset += chunk.length
    })
  }

  const restart = Effect.map(sink.clear, () => {
    hash = createHash("sha256")
    offset = 0
  })

  const commit = Effect.suspend(() => {
    const actual = hash.copy().digest("hex")
    if (actual !== digestHex(digest)) return refuse("WrongDigest", `${offset} bytes came and are sha256:${actual}`)
    sealed = true
    return sink.publish(offset)
  })

  return {
    offset: Effect.sync(() => offset),
    announce: () => Effect.void,
    read: (position, into) =>
      Effect.suspend(() => {
        const length = Math.min(into.length, offset - position)
        return length <= 0 ? Effect.succeed(0) : Effect.uninterruptible(sink.read(position, into.subarray(0, length)))
      }),
    append: (chunk) => unlessSealed(Effect.suspend(() => append(chunk))),
    restart: unlessSealed(restart),
    commit: unlessSealed(commit)
  }
}

/** Coordination's view of a blob store. */
export const layerStore: Layer.Layer<Store.Store, never, BlobStore> = Layer.effect(
  Store.Store,
  Effect.map(BlobStore, ({ has }) => Store.Store.of({ has }))
)

/** Blobs in memory, beginning with the given ones: for tests and simulations. Names are accepted and forgotten. */
export const layerMemory = (blobs: Iterable<Uint8Array> = []): Layer.Layer<BlobStore | Store.Store> =>
  Layer.provideMerge(
    layerStore,
    Layer.sync(BlobStore, () => {
      const held = new Map<Digest, Uint8Array>()
      for (const bytes of blobs) held.set(digestOf(bytes), bytes)
      const lookup = (digest: Digest) => Effect.sync(() => Option.fromUndefinedOr(held.get(digest)))

      const open = Effect.fnUntraced(function* (digest: Digest, range?: ByteRange) {
        const bytes = held.get(digest)
        if (bytes === undefined) return Option.none()
        const { length, offset } = range ?? { offset: 0, length: bytes.length }
        if (offset + length > bytes.length) {
          const cause = new RangeError(`bytes ${offset} to ${offset + length} of ${bytes.length}`)
          return yield* new Store.StoreError({ reason: "Failed", digest, cause })
        }
        const part = bytes.subarray(offset, offset + length)
        return Option.some<Blob>({ size: bytes.length, stream: Stream.succeed(part), runForEach: (use) => use(part) })
      })

      const writer = (digest: Digest, options?: WriterOptions) =>
        Effect.sync(() => {
          const chunks: Array<Uint8Array> = []
          return makeWriter(digest, options?.maxSize, {
            write: (chunk) => Effect.sync(() => void chunks.push(Buffer.from(chunk))),
            read: (position, into) => Effect.sync(() => Buffer.concat(chunks).copy(into, 0, position)),
            clear: Effect.sync(() => void chunks.splice(0)),
            publish: () => Effect.sync(() => void held.set(digest, Buffer.concat(chunks)))
          })
        })

      return BlobStore.of({
        has: (digest) => Effect.map(lookup(digest), Option.isSome),
        size: (digest) =>
          Effect.map(
            lookup(digest),
            Option.map(({ length }) => length)
          ),
        open,
        verify: (digest) =>
          Effect.map(
            lookup(digest),
            Option.exists((bytes) => digestOf(bytes) === digest)
          ),
        writer,
        tag: () => Effect.void
      })
    })
  )
