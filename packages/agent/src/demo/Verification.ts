/**
 * What a node's disk really holds, whatever the node says.
 */
import { createHash } from "node:crypto"
import * as ImagePull from "@gantry/node/ImagePull"
import { type Digest, digestHex } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { type ExpectedBlob, shortDigest } from "./Report.ts"

/** The image in one layout, as far as it is there. */
export interface Verification {
  /** Every blob that the image names, as far as its manifests are there. */
  readonly named: ReadonlyArray<ExpectedBlob>
  /** Those whose bytes have their digest and their size. */
  readonly verified: ReadonlySet<Digest>
  /** What is wrong with others that are there, and with the index. */
  readonly flaws: ReadonlyArray<string>
}

const Index = Schema.fromJsonString(
  Schema.Struct({
    manifests: Schema.Array(
      Schema.Struct({
        digest: Schema.String,
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

  const examine = Effect.fnUntraced(function* ({ digest, kind, size }: ExpectedBlob) {
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
    } else if (hash.digest("hex") !== digestHex(digest)) {
      flaws.push(`${name} has other bytes`)
    } else if (bytes !== size) {
      flaws.push(`${name} has ${bytes} bytes instead of ${size}`)
    } else {
      verified.add(digest)
    }
  })

  const visit = Effect.fnUntraced(function* ({ digest, kind, size }: ExpectedBlob): Effect.fn.Return<void> {
    if (named.has(digest)) return
    named.set(digest, { digest, kind, size })
    yield* examine({ digest, kind, size })
    if (kind !== "manifest" || !verified.has(digest)) return
    const children = yield* Effect.result(
      Effect.flatMap(fs.readFile(fileOf(digest)), (bytes) => Effect.fromResult(ImagePull.childrenOf(bytes)))
    )
    if (children._tag === "Failure") flaws.push(children.failure.message)
    else yield* Effect.forEach(children.success, visit, { discard: true })
  })

  yield* visit({ ...image.root, kind: "manifest" })

  const index = yield* fs
    .readFileString(path.join(directory, "index.json"))
    .pipe(Effect.flatMap(Schema.decodeUnknownEffect(Index)), Effect.option)
  const entry = Option.map(index, ({ manifests }) =>
    manifests.find(({ annotations }) => annotations?.["org.opencontainers.image.ref.name"] === image.tag)
  )
  if (Option.isNone(entry)) flaws.push("index.json cannot be read")
  else if (entry.value?.digest !== image.root.digest) flaws.push(`index.json does not name the image ${image.tag}`)

  return { named: [...named.values()], verified, flaws }
})
