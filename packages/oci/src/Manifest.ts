/**
 * Manifests: what an image consists of, or an index of images per platform.
 * OCI's and Docker's, which differ in their media types only.
 */
import { type ContentKind, Digest } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

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

/** A descriptor of the OCI image specification. */
export const Descriptor = Schema.Struct({
  mediaType: Schema.String,
  digest: Digest,
  size: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
})
export type Descriptor = typeof Descriptor.Type

/** What an image runs on. */
export interface Platform {
  readonly architecture: string
  readonly os: string
  readonly variant?: string
  readonly "os.version"?: string
}

/** A blob that a manifest refers to, and how it is asked for. */
export interface Entry extends Descriptor {
  readonly kind: ContentKind
}

/** An entry of an index. */
export interface IndexEntry extends Entry {
  /** None also for what names no system or no processor. */
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
  /** The entries that cannot be used: for each, which it is and why. The others are none the worse. */
  readonly unusable: ReadonlyArray<string>
}

export type Manifest = Image | Index

/** Go writes `null` for what is not there. */
const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

/** The fields of both kinds. Of an index each entry is looked at by itself. */
const Fields = Schema.Struct({
  schemaVersion: Schema.optionalKey(Schema.Unknown),
  mediaType: optional(Schema.String),
  config: optional(Descriptor),
  layers: optional(Schema.Array(Descriptor)),
  manifests: optional(Schema.Array(Schema.Unknown))
})
const decode = Schema.decodeResult(Schema.fromJsonString(Fields))
const decodeDescriptor = Schema.decodeUnknownOption(Descriptor)

const fail = (reason: ManifestError["reason"], detail: string) => Result.fail(new ManifestError({ reason, detail }))

const entry = ({ digest, mediaType, size }: Descriptor, kind: ContentKind): Entry => ({ mediaType, digest, size, kind })

const textIn = (fields: object, name: string): string | undefined => {
  const value: unknown = name in fields ? fields[name as keyof typeof fields] : undefined
  return typeof value === "string" && value !== "" ? value : undefined
}

const platformOf = (item: object): Option.Option<Platform> => {
  const fields: unknown = "platform" in item ? item.platform : undefined
  if (!Predicate.isObject(fields)) return Option.none()
  const [architecture, os] = [textIn(fields, "architecture"), textIn(fields, "os")]
  if (architecture === undefined || os === undefined) return Option.none()
  const [variant, version] = [textIn(fields, "variant"), textIn(fields, "os.version")]
  return Option.some({
    architecture,
    os,
    ...(variant === undefined ? {} : { variant }),
    ...(version === undefined ? {} : { "os.version": version })
  })
}

/** An entry of an index, or why it cannot be used. */
const indexEntry = (item: unknown, index: number): Result.Result<IndexEntry, string> => {
  const unusable = (why: string) => Result.fail(`entry ${index + 1}: ${why}`)
  if (!Predicate.isObject(item)) return unusable("it is no object")
  const descriptor = Option.getOrUndefined(decodeDescriptor(item))
  if (descriptor === undefined) {
    return unusable(`it has no usable type, digest and size (${textIn(item, "digest") ?? "no digest"})`)
  }
  if (!mediaTypes.includes(descriptor.mediaType)) return unusable(`its type is ${descriptor.mediaType}`)
  return Result.succeed({ ...entry(descriptor, "manifest"), platform: platformOf(item) })
}

/**
 * Reads a manifest. Bytes that are both an image and an index are refused:
 * what one reader takes for the one, another might take for the other. What is
 * not used is not looked at; of an index the entries that are of no use are left out.
 */
export const parse = (bytes: Uint8Array): Result.Result<Manifest, ManifestError> => {
  if (bytes.length > maxBytes) return fail("TooLarge", `it has ${bytes.length} bytes`)
  const decoded = decode(new TextDecoder().decode(bytes))
  if (Result.isFailure(decoded)) return fail("Malformed", decoded.failure.message)

  const { config, layers, manifests, mediaType, schemaVersion = 2 } = decoded.success
  const count = (layers?.length ?? 0) + (manifests?.length ?? 0)
  if (count > maxEntries) return fail("TooMany", `it has ${count} entries`)
  if (schemaVersion !== 2) return fail("Unsupported", `it is of schema version ${schemaVersion}`)

  const type = mediaType || typeImpliedBy(decoded.success)
  if (!mediaTypes.includes(type)) return fail("Unsupported", `its type is ${type}`)

  if (indexTypes.includes(type)) {
    if (manifests === undefined) return fail("Malformed", `it has no manifests, and its type is ${type}`)
    if ((config ?? layers ?? null) !== null) return fail("Malformed", "it is an index and an image at once")
    const entries = (manifests ?? []).map(indexEntry)
    return Result.succeed({
      _tag: "Index",
      mediaType: type,
      manifests: entries.flatMap((entry) => (Result.isSuccess(entry) ? [entry.success] : [])),
      unusable: entries.flatMap((entry) => (Result.isFailure(entry) ? [entry.failure] : []))
    })
  }
  if ((manifests ?? null) !== null) return fail("Malformed", "it is an image and an index at once")
  if (!config || layers === undefined) return fail("Malformed", "it has no config or no layers")
  return Result.succeed({
    _tag: "Image",
    mediaType: type,
    config: entry(config, "config"),
    layers: (layers ?? []).map((layer) => entry(layer, "layer"))
  })
}

/** The media type of bytes that do not tell it: by the specification, they are then OCI's. */
const typeImpliedBy = ({ config, manifests }: { readonly config?: unknown; readonly manifests?: unknown }) =>
  manifests === undefined || (manifests === null && config) ? ociImage : ociIndex

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

/** What a manifest refers to and cannot be had: for each, which it is and why. Whoever brings an image in has to say so. */
export const missingFrom = (manifest: Manifest): ReadonlyArray<string> =>
  manifest._tag === "Index"
    ? manifest.unusable
    : manifest.layers
        .filter(isForeign)
        .map(({ digest, mediaType }) => `the layer ${digest}: ${mediaType} is not for registries to distribute`)

const Claim = Schema.fromJsonString(
  Schema.Struct({
    mediaType: optional(Schema.String),
    config: Schema.optionalKey(Schema.Unknown),
    manifests: Schema.optionalKey(Schema.Unknown)
  })
)
const mediaTypeGrammar = /^[A-Za-z0-9][\w!#$&^.+-]{0,126}\/[A-Za-z0-9][\w!#$&^.+-]{0,126}$/

/**
 * The media type that bytes say they have or, saying nothing, imply: what a
 * registry would have sent them as. None for what is no manifest at all.
 */
export const mediaTypeOf = (bytes: Uint8Array): Option.Option<string> =>
  Schema.decodeOption(Claim)(new TextDecoder().decode(bytes)).pipe(
    Option.map((claim) => claim.mediaType || typeImpliedBy(claim)),
    Option.filter((type) => mediaTypeGrammar.test(type))
  )
