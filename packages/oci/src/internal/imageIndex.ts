/**
 * The files that make a directory an image layout: `oci-layout`, and
 * `index.json`, where images have their names.
 */
import { StoreError } from "@gantry/coord/Store"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type { PlatformError } from "effect/PlatformError"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import type { BlobStore } from "../BlobStore.ts"
import type { Descriptor } from "../Manifest.ts"
import type { AtomicFiles } from "./atomicFiles.ts"
import { isNotFound, storeError } from "./errno.ts"

/** A file is something else than it has to be, and is left as it is. */
export class InvalidFile extends Schema.TaggedError<InvalidFile>("@gantry/oci/InvalidFile")("InvalidFile", {
  path: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.path} is not that of an image layout: ${this.detail}`
  }
}

const refName = "org.opencontainers.image.ref.name"

const whatever = [Schema.Record(Schema.String, Schema.Unknown)] as const

const LayoutFile = Schema.fromJsonString(Schema.Struct({ imageLayoutVersion: Schema.Literal("1.0.0") }))

/** What a name changes of an index; everything else stays as it was. Of no images, umoci makes `null`. */
const IndexFile = Schema.fromJsonString(
  Schema.StructWithRest(
    Schema.Struct({
      schemaVersion: Schema.Literal(2),
      manifests: Schema.NullOr(
        Schema.Array(
          Schema.StructWithRest(
            Schema.Struct({
              annotations: Schema.optionalKey(Schema.NullOr(Schema.Record(Schema.String, Schema.String)))
            }),
            whatever
          )
        )
      )
    }),
    whatever
  )
)

const decode = <A>(schema: Schema.Codec<A, string>, path: string, text: string) =>
  Effect.mapError(Schema.decodeEffect(schema)(text), ({ message }) => new InvalidFile({ path, detail: message }))

/** Where the two files are. */
export interface Place {
  readonly files: AtomicFiles
  readonly layoutFile: string
  readonly indexFile: string
}

/** Makes the files if they are not there; what is there has to be of a version that is known. Gives the naming of images. */
export const make = Effect.fnUntraced(function* ({
  files,
  indexFile,
  layoutFile
}: Place): Effect.fn.Return<BlobStore["Service"]["tag"], InvalidFile | PlatformError, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const readOrInit = (path: string, initial: string) =>
    Effect.catchIf(fs.readFileString(path), isNotFound, () => Effect.as(files.replace(path, initial), initial))

  const layout = yield* readOrInit(layoutFile, `{"imageLayoutVersion":"1.0.0"}`)
  yield* readOrInit(indexFile, `{"schemaVersion":2,"manifests":[]}`)
  yield* decode(LayoutFile, layoutFile, layout)

  const tagging = yield* Semaphore.make(1)
  const replaceTag = Effect.fnUntraced(function* (name: string, { digest, mediaType, size }: Descriptor) {
    const index = yield* decode(IndexFile, indexFile, yield* fs.readFileString(indexFile))
    const others = (index.manifests ?? []).filter(({ annotations }) => annotations?.[refName] !== name)
    const manifests = [...others, { mediaType, digest, size, annotations: { [refName]: name } }]
    yield* files.replace(indexFile, JSON.stringify({ ...index, manifests }))
  })

  return (name, descriptor) =>
    Effect.uninterruptible(tagging.withPermit(replaceTag(name, descriptor))).pipe(
      Effect.catchTags({
        PlatformError: (error) => Effect.fail(storeError(descriptor.digest)(error)),
        InvalidFile: (cause) => Effect.fail(new StoreError({ reason: "Failed", digest: descriptor.digest, cause }))
      })
    )
})
