/**
 * Manifests: what an image consists of, or an index of images per platform.
 * OCI's and Docker's, which differ in their media types only.
 */
import type { ContentKind, Digest } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Descriptor } from "./BlobStore.ts"

const ociImage = "application/vnd.oci.image.manifest.v1+json"
const ociIndex = "application/vnd.oci.image.index.v1+json"
const indexTypes = [ociIndex, "application/vnd.docker.distribution.manifest.list.v2+json"]

/** Media types of manifests and indexes, for an `Accept` header. */
export const mediaTypes: ReadonlyArray<string> = [
  ociImage,
  "application/vnd.docker.distribution.manifest.v2+json",
  ...indexTypes
]

/** The most bytes of a manifest, 4 MiB: what the distribution specification asks registries to accept. */
export const maxBytes = 4 * 1024 * 1024

/** The most entries of one manifest. Images have up to 127 layers; an index of all platforms with attestations has tens. */
export const maxEntries = 1024

/**
 * Why bytes are not a manifest. `TooLarge`: beyond `maxBytes`. `TooMany`: beyond
 * `maxEntries`. `Unsupported`: of a media type that is not one of ours.
 * `Malformed`: anything else.
 */
export class ManifestError extends Schema.TaggedError<ManifestError>("@gantry/oci/ManifestError")("ManifestError", {
  reason: Schema.Literals(["TooLarge", "TooMany", "Unsupported", "Malformed"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `not a manifest that can be used: ${this.detail}`
  }
}

/** What an image runs on. */
export const Platform = Schema.Struct({
  architecture: Schema.String,
  os: Schema.String,
  variant: Schema.optionalKey(Schema.String),
  "os.version": Schema.optionalKey(Schema.String)
})
export type Platform = typeof Platform.Type

/** A blob that a manifest refers to, and how it is asked for. */
export interface Entry extends Descriptor {
  readonly kind: ContentKind
}

/** An entry of an index. */
export interface IndexEntry extends Entry {
  readonly platform: Option.Option<Platform>
}

/** The manifest of one image, its layers from the lowest up. */
export interface Image {
  readonly _tag: "Image"
  readonly mediaType: string
  readonly config: Entry
  readonly layers: ReadonlyArray<Entry>
}

/** An index of manifests, usually one per platform. */
export interface Index {
  readonly _tag: "Index"
  readonly mediaType: string
  readonly manifests: ReadonlyArray<IndexEntry>
}

export type Manifest = Image | Index

const listOf = <S extends Schema.Constraint>(item: S) => Schema.optionalKey(Schema.NullOr(Schema.Array(item)))

/** The fields of both kinds: which of them there are tells the kind. Go writes `null` for an empty list. */
const Fields = Schema.Struct({
  schemaVersion: Schema.Int,
  mediaType: Schema.optionalKey(Schema.String),
  config: Schema.optionalKey(Descriptor),
  layers: listOf(Descriptor),
  manifests: listOf(Schema.Struct({ ...Descriptor.fields, platform: Schema.optionalKey(Platform) }))
})
const decode = Schema.decodeResult(Schema.fromJsonString(Fields))

const fail = (reason: ManifestError["reason"], detail: string) => Result.fail(new ManifestError({ reason, detail }))

const entry = ({ digest, mediaType, size }: Descriptor, kind: ContentKind): Entry => ({ mediaType, digest, size, kind })

/**
 * Reads a manifest. Bytes that are both an image and an index are refused:
 * what one reader takes for the one, another might take for the other.
 */
export const parse = (bytes: Uint8Array): Result.Result<Manifest, ManifestError> => {
  if (bytes.length > maxBytes) return fail("TooLarge", `it has ${bytes.length} bytes`)
  const decoded = decode(new TextDecoder().decode(bytes))
  if (Result.isFailure(decoded)) return fail("Malformed", decoded.failure.message)

  const { config, layers, manifests, mediaType, schemaVersion } = decoded.success
  const count = (layers?.length ?? 0) + (manifests?.length ?? 0)
  if (count > maxEntries) return fail("TooMany", `it has ${count} entries`)
  if (schemaVersion !== 2) return fail("Unsupported", `it is of schema version ${schemaVersion}`)

  const isIndex = manifests !== undefined
  const type = mediaType ?? (isIndex ? ociIndex : ociImage)
  if (!mediaTypes.includes(type)) return fail("Unsupported", `its type is ${type}`)
  if (indexTypes.includes(type) !== isIndex) return fail("Malformed", `its fields are not those of ${type}`)

  if (isIndex) {
    if (config !== undefined || layers !== undefined) return fail("Malformed", "it is an index and an image at once")
    return Result.succeed({
      _tag: "Index",
      mediaType: type,
      manifests: (manifests ?? []).map(({ platform, ...manifest }) => ({
        ...entry(manifest, "manifest"),
        platform: Option.fromUndefinedOr(platform)
      }))
    })
  }
  if (config === undefined || layers === undefined) return fail("Malformed", "it has no config or no layers")
  return Result.succeed({
    _tag: "Image",
    mediaType: type,
    config: entry(config, "config"),
    layers: (layers ?? []).map((layer) => entry(layer, "layer"))
  })
}

/** Layers that a license keeps out of registries: whoever needs them has them from elsewhere. */
const isForeign = ({ mediaType }: Entry) => mediaType.includes(".foreign.") || mediaType.includes(".nondistributable.")

/** What a manifest refers to in the same repository, each digest once, in the order in which it is needed. */
export const entriesOf = (manifest: Manifest): ReadonlyArray<Entry> => {
  const entries = manifest._tag === "Index" ? manifest.manifests : [manifest.config, ...manifest.layers]
  const distinct = new Map<Digest, Entry>()
  for (const one of entries) {
    if (!isForeign(one) && !distinct.has(one.digest)) distinct.set(one.digest, one)
  }
  return [...distinct.values()]
}

const Claim = Schema.fromJsonString(
  Schema.Struct({ mediaType: Schema.optionalKey(Schema.String), manifests: Schema.optionalKey(Schema.Unknown) })
)
const mediaTypeGrammar = /^[A-Za-z0-9][\w!#$&^.+-]{0,126}\/[A-Za-z0-9][\w!#$&^.+-]{0,126}$/

/**
 * The media type that bytes say they have or, saying nothing, imply: what a
 * registry would have sent them as. None for what is no manifest at all.
 */
export const mediaTypeOf = (bytes: Uint8Array): Option.Option<string> =>
  Schema.decodeOption(Claim)(new TextDecoder().decode(bytes)).pipe(
    Option.map(({ manifests, mediaType }) => mediaType ?? (manifests === undefined ? ociImage : ociIndex)),
    Option.filter((type) => mediaTypeGrammar.test(type))
  )
