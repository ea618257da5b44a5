/**
 * What a node's disk really holds, whatever the node says.
 */
import { createHash } from "node:crypto"
import * as ImagePull from "@gantry/node/ImagePull"
import { Manifest } from "@gantry/oci"
import { type ContentKind, type Digest, digestHex } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { type ExpectedBlob, shortDigest } from "./Report.ts"

/** The image in one layout, as far as it is there. */
export interface Verification {
  /** The image's manifest, and every blob that it names, as far as its manifests are there. */
  readonly named: ReadonlyArray<ExpectedBlob>
  /** Those whose bytes have their digest and their size. */
  readonly verified: ReadonlySet<Digest>
  /** What is wrong with others that are there, and with the index. */
  readonly flaws: ReadonlyArray<string>
  /** The media type that the index tells of the image. */
  readonly mediaType: Option.Option<string>
}

const Index = Schema.fromJsonString(
  Schema.Struct({
    manifests: Schema.Array(
      Schema.Struct({
        digest: Schema.String,
        mediaType: Schema.optionalKey(Schema.String),
        annotations: Schema.optionalKey(Schema.Record(Schema.String, Schema.String))
      })
    )
  })
)

const chunkBytes = 1024 * 1024

/** Hashes every blob of an image layout that an image needs, from its root on. */
export const verify = Effect.fn("Verification.verify")(function* (
  directory: string,
  image: ImagePull.Image
): Effect.fn.Return<Verification, never, FileSystem.FileSystem | Path.Path> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const named = new Map<Digest, ExpectedBlob>()
  const verified = new Set<Digest>()
  const flaws: Array<string> = []

  const fileOf = (digest: Digest) => path.join(directory, "blobs", "sha256", digestHex(digest))

  /** Hashes a blob; the number of its bytes is what it should be, if that is known. None for what is not there. */
  const examine = Effect.fnUntraced(function* (digest: Digest, kind: ContentKind, size: Option.Option<number>) {
    const hash = createHash("sha256")
    let bytes = 0
    const read = yield* Effect.result(
      Stream.runForEach(fs.stream(fileOf(digest), { chunkSize: chunkBytes }), (chunk) =>
        Effect.sync(() => {
          hash.update(chunk)
          bytes += chunk.length
        })
      )
    )
    const name = `the ${kind} ${shortDigest(digest)}`
    if (read._tag === "Failure") {
      if (read.failure.reason._tag !== "NotFound") flaws.push(`${name}: ${read.failure.message}`)
      return Option.none()
    }
    if (hash.digest("hex") !== digestHex(digest)) {
      flaws.push(`${name} has other bytes`)
    } else if (Option.exists(size, (size) => bytes !== size)) {
      flaws.push(`${name} has ${bytes} bytes instead of ${Option.getOrThrow(size)}`)
    } else {
      verified.add(digest)
    }
    return Option.some(bytes)
  })

  const visit = Effect.fnUntraced(function* ({ digest, kind, size }: ExpectedBlob): Effect.fn.Return<void> {
    if (named.has(digest)) return
    named.set(digest, { digest, kind, size })
    yield* examine(digest, kind, Option.some(size))
    if (kind === "manifest") yield* visitChildren(digest)
  })

  const visitChildren = Effect.fnUntraced(function* (digest: Digest): Effect.fn.Return<void> {
    if (!verified.has(digest)) return
    const manifest = yield* Effect.result(
      Effect.flatMap(fs.readFile(fileOf(digest)), (bytes) => Effect.fromResult(Manifest.parse(bytes)))
    )
    if (Result.isFailure(manifest)) flaws.push(manifest.failure.message)
    else yield* Effect.forEach(ImagePull.childrenOf(manifest.success), visit, { discard: true })
  })

  // Nobody vouches for the size of the root but its digest.
  const { root } = image
  const size = yield* examine(root, "manifest", Option.none())
  if (Option.isSome(size)) named.set(root, { digest: root, kind: "manifest", size: size.value })
  yield* visitChildren(root)

  const index = yield* fs
    .readFileString(path.join(directory, "index.json"))
    .pipe(Effect.flatMap(Schema.decodeUnknownEffect(Index)), Effect.option)
  const entry = Option.map(index, ({ manifests }) =>
    manifests.find(({ annotations }) => annotations?.["org.opencontainers.image.ref.name"] === image.tag)
  )
  if (Option.isNone(entry)) flaws.push("index.json cannot be read")
  else if (entry.value?.digest !== root) flaws.push(`index.json does not name the image ${image.tag}`)

  const mediaType = Option.flatMapNullishOr(entry, (found) => found?.mediaType)
  return { named: [...named.values()], verified, flaws, mediaType }
})
