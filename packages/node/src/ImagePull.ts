/**
 * Brings a whole image into this node's store.
 */
import { ColdStart } from "@gantry/coldstart"
import type { Store } from "@gantry/coord"
import { BlobStore, Manifest } from "@gantry/oci"
import { Digest, OriginRef, Registry, Repository } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** An image to bring in. */
export const Image = Schema.Struct({
  registry: Registry,
  repository: Repository,
  /** The name of the image in the store's index. */
  tag: Schema.String,
  /** Its index or manifest. What registries say of it besides is not taken for true before the bytes are here. */
  root: Digest
})
export type Image = typeof Image.Type

/** `Manifest`: a manifest that arrived cannot be used. `Gone`: what arrived is in the store no more. */
export class ImagePullError extends Schema.TaggedError<ImagePullError>("@gantry/node/ImagePullError")(
  "ImagePullError",
  { reason: Schema.Literals(["Manifest", "Gone"]), ref: OriginRef, detail: Schema.String }
) {
  override get message(): string {
    return `cannot pull ${this.ref}: ${this.detail}`
  }
}

/** Every way in which a pull fails. */
type Problem = ImagePullError | ColdStart.ColdStartError | Store.StoreError

/** Sees a pull go on. */
export interface Observer {
  /** The blobs that come next: a manifest calls for them. */
  readonly named: (entries: ReadonlyArray<Manifest.Entry>) => Effect.Effect<void>
  /** A blob is in the store. */
  readonly obtained: (entry: Manifest.Entry, from: ColdStart.BlobSource) => Effect.Effect<void>
}

/** How many blobs of an image are asked for at once, as container runtimes do. */
const concurrentBlobs = 3

/** The GOARCH names of processors that node calls otherwise. */
const architectures: Partial<Record<NodeJS.Architecture, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" }

/** This machine's processor, by its GOARCH name. */
export const architecture: string = architectures[process.arch] ?? process.arch

/**
 * What a manifest calls for. Of an index that is the images for Linux on this
 * machine's processor; where it has none, all of them.
 */
export const childrenOf = (manifest: Manifest.Manifest): ReadonlyArray<Manifest.Entry> => {
  if (manifest._tag === "Image") return Manifest.entriesOf(manifest)
  const suitable = manifest.manifests.filter(({ platform }) =>
    Option.exists(platform, (p) => p.os === "linux" && p.architecture === architecture)
  )
  return Manifest.entriesOf(suitable.length === 0 ? manifest : { ...manifest, manifests: suitable })
}

/** Obtains the image's index or manifest, then what it calls for, and gives the image its name in the store. */
export const pull = Effect.fn("ImagePull.pull")(function* (
  image: Image,
  observer: Observer
): Effect.fn.Return<void, Problem, ColdStart.ColdStart | BlobStore.BlobStore> {
  const coldStart = yield* ColdStart.ColdStart
  const store = yield* BlobStore.BlobStore
  const { registry, repository, root, tag } = image
  const refOf = (digest: Digest) => new OriginRef({ registry, repository, digest })

  const fetch = Effect.fnUntraced(function* (entry: Manifest.Entry): Effect.fn.Return<void, Problem> {
    const ref = refOf(entry.digest)
    const from = yield* coldStart.obtain({ ref, kind: entry.kind, size: Option.some(entry.size) })
    yield* observer.obtained(entry, from)
    if (entry.kind === "manifest") yield* fetchAll(yield* childrenIn(ref, yield* read(ref)))
  })

  const fetchAll = (entries: ReadonlyArray<Manifest.Entry>) =>
    Effect.andThen(
      observer.named(entries),
      Effect.forEach(entries, fetch, { concurrency: concurrentBlobs, discard: true })
    )

  const fail = (reason: ImagePullError["reason"], ref: OriginRef, detail: string) =>
    Effect.fail(new ImagePullError({ reason, ref, detail }))

  /** The bytes of a manifest that is in the store. */
  const read = Effect.fnUntraced(function* (ref: OriginRef) {
    const blob = yield* store.open(ref.digest)
    if (Option.isNone(blob)) return yield* fail("Gone", ref, "the store has it no more")
    const { size, stream } = blob.value
    if (size > Manifest.maxBytes) return yield* fail("Manifest", ref, `a manifest of ${size} bytes is too large`)
    return Buffer.concat(yield* Stream.runCollect(stream))
  }, Effect.scoped)

  const childrenIn = Effect.fnUntraced(function* (ref: OriginRef, bytes: Uint8Array) {
    const parsed = Manifest.parse(bytes)
    if (Result.isFailure(parsed)) return yield* fail("Manifest", ref, parsed.failure.message)
    const manifest = parsed.success
    const children = childrenOf(manifest)
    const missing = Manifest.missingFrom(manifest)
    if (missing.length > 0) {
      const line = `${ref} is taken without ${missing.join(", ")}`
      if (children.length === 0) return yield* fail("Manifest", ref, `nothing in it can be used: ${missing.join(", ")}`)
      // An index may well have entries for others; an image without a layer is not whole.
      yield* manifest._tag === "Index" ? Effect.logInfo(line) : Effect.logWarning(line)
    }
    return children
  })

  const ref = refOf(root)
  const from = yield* coldStart.obtain({ ref, kind: "manifest", size: Option.none() })
  const bytes = yield* read(ref)
  const mediaType = Option.getOrElse(Manifest.mediaTypeOf(bytes), () => "application/octet-stream")
  const descriptor: Manifest.Descriptor = { mediaType, digest: root, size: bytes.length }
  const entry: Manifest.Entry = { ...descriptor, kind: "manifest" }
  yield* observer.named([entry])
  yield* observer.obtained(entry, from)
  yield* fetchAll(yield* childrenIn(ref, bytes))
  yield* store.tag(tag, descriptor)
})
