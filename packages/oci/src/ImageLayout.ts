/**
 * A blob store in an OCI image-layout directory, the format that skopeo,
 * crane, umoci and oras read: `oci-layout`, `index.json` and
 * `blobs/sha256/<hex>`.
 */
import type { Store } from "@gantry/coord/Store"
import { type Digest, digestHex } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Schema from "effect/Schema"
import { BlobStore, layerStore } from "./BlobStore.ts"
import * as AtomicFiles from "./internal/atomicFiles.ts"
import * as BlobWriting from "./internal/blobWriting.ts"
import { errno, refusalOf } from "./internal/errno.ts"
import * as ImageIndex from "./internal/imageIndex.ts"
import * as StoredBlobs from "./internal/storedBlobs.ts"

/**
 * Why a directory does not serve as a layout. `Unreachable`: it cannot be made
 * or read. `ReadOnly`: it may not be written to. `Divided`: its blobs are in
 * another file system than the rest, so that they cannot appear atomically.
 * `Invalid`: a file of it is something else, and is left as it is.
 */
export class ImageLayoutError extends Schema.TaggedError<ImageLayoutError>("@gantry/oci/ImageLayoutError")(
  "ImageLayoutError",
  {
    reason: Schema.Literals(["Unreachable", "ReadOnly", "Divided", "Invalid"]),
    path: Schema.String,
    detail: Schema.String
  }
) {
  override get message(): string {
    return sentences[this.reason](this.path, this.detail)
  }
}

const sentences: Record<ImageLayoutError["reason"], (path: string, detail: string) => string> = {
  Unreachable: (path, detail) => `cannot keep an image layout in ${path}: ${detail}`,
  ReadOnly: (path, detail) => `cannot keep an image layout in ${path}, which may not be written to: ${detail}`,
  Divided: (path, detail) =>
    `${path} is in another file system than its layout; link or mount the whole layout instead (${detail})`,
  Invalid: (path, detail) => `${path} is not that of an image layout: ${detail}`
}

/** Where the layout is. */
export interface Options {
  /** Made if it does not exist. One process at a time writes into it; any may read. */
  readonly directory: string
}

const make = Effect.fnUntraced(function* ({ directory }: Options) {
  const fs = yield* FileSystem.FileSystem
  const blobs = `${directory}/blobs/sha256`
  const layoutFile = `${directory}/oci-layout`
  const fileOf = (digest: Digest) => `${blobs}/${digestHex(digest)}`

  const unusable = (error: PlatformError) => {
    const reason = refusalOf(error) === "ReadOnly" ? "ReadOnly" : "Unreachable"
    return new ImageLayoutError({ reason, path: directory, detail: errno(error).message })
  }

  /** A blob that arrives is renamed into its place: shows at the start whether that works there. */
  const tryRename = Effect.fnUntraced(function* (files: AtomicFiles.AtomicFiles) {
    const { path } = yield* files.temporary
    const probe = `${blobs}/.gantry-probe`
    yield* fs.rename(path, probe)
    yield* fs.remove(probe)
  }, Effect.scoped)

  const { files, tag } = yield* Effect.gen(function* () {
    yield* AtomicFiles.makeDirectories(blobs)
    yield* AtomicFiles.syncDirectory(`${directory}/blobs`)
    const files = yield* AtomicFiles.make(`${directory}/.gantry-tmp`)
    yield* Effect.catchIf(
      tryRename(files),
      (error) => errno(error).code === "EXDEV",
      (error) => new ImageLayoutError({ reason: "Divided", path: blobs, detail: errno(error).message })
    )
    const tag = yield* ImageIndex.make({ files, layoutFile, indexFile: `${directory}/index.json` })
    return { files, tag }
  }).pipe(
    Effect.catchTags({
      PlatformError: (error) => unusable(error),
      InvalidFile: ({ detail, path }) => new ImageLayoutError({ reason: "Invalid", path, detail })
    })
  )

  const stored = yield* StoredBlobs.make({ fileOf, landmark: layoutFile })
  const writer = yield* BlobWriting.make({ files, directory: blobs, fileOf, stored })
  const { open, size, verify } = stored
  return BlobStore.of({
    has: (digest) => Effect.map(size(digest), Option.isSome),
    size,
    open,
    verify,
    writer,
    tag
  })
})

/**
 * The blobs of an image-layout directory. What this process writes is verified
 * as it is written; what it finds is hashed when it is first asked for, and
 * again when the file has changed since.
 */
export const layer = (options: Options): Layer.Layer<BlobStore | Store, ImageLayoutError, FileSystem.FileSystem> =>
  Layer.provideMerge(layerStore, Layer.effect(BlobStore, make(options)))
