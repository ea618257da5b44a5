/**
 * Packs files of this machine into an OCI image.
 */
import { createHash } from "node:crypto"
import { createGzip } from "node:zlib"
import * as NodeStream from "@effect/platform-node/NodeStream"
import { type ContentKind, Digest, digestHex } from "@gantry/protocol"
import * as Arr from "effect/Array"
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as FileSystem from "effect/FileSystem"
import { pipe } from "effect/Function"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** A file or directory of this machine, and where the image has it. */
export interface Source {
  /** Absolute. */
  readonly from: string
  /** Within the image, without a leading slash. */
  readonly to: string
}

/** What goes into one layer. */
export interface LayerSource {
  readonly title: string
  readonly sources: ReadonlyArray<Source>
}

/** One blob of a packed image. */
export interface PackedBlob {
  readonly kind: ContentKind
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

/** An image on disk. */
export interface PackedImage {
  /** The index, which names everything else. */
  readonly root: PackedBlob
  /** Everything that a node needs: index, manifest, config and layers, each once, in this order. */
  readonly blobs: ReadonlyArray<PackedBlob>
}

/** `NothingToPack`: none of a layer's sources exists. `Failed`: a file could not be read or written. */
export class PackError extends Schema.TaggedError<PackError>("@gantry/agent/PackError")("PackError", {
  reason: Schema.Literals(["NothingToPack", "Failed"]),
  layer: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    if (this.reason === "NothingToPack") return `cannot pack the layer "${this.layer}": none of its files exists`
    const why = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `cannot pack "${this.layer}": ${why}`
  }
}

export interface Options {
  /** An image layout is written here; created if it does not exist. */
  readonly directory: string
  /** The name of the image in the layout's index. */
  readonly tag: string
  readonly layers: ReadonlyArray<LayerSource>
  /** Of the GOARCH names, for example `amd64`. */
  readonly architecture: string
  /** From 1, quick, to 9, small; 1. */
  readonly gzipLevel?: number | undefined
}

const mediaTypes = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar+gzip"
}

/** The same files give the same image: no instant of packing goes in. */
const created = "1970-01-01T00:00:00Z"

/** Whole files up to this size are read at once; a larger one is streamed. */
const wholeFileBytes = 1024 * 1024

const chunkBytes = 256 * 1024

/** Packs an image: each layer a reproducible tar, compressed by gzip. */
export const pack = Effect.fn("ImagePacker.pack")(function* (
  options: Options
): Effect.fn.Return<PackedImage, PackError, FileSystem.FileSystem | Path.Path> {
  const layout = yield* openLayout(options.directory)
  const layers = yield* Effect.forEach(options.layers, (layer) => packLayer(layout, layer, options.gzipLevel ?? 1), {
    concurrency: 2
  })
  const platform = { architecture: options.architecture, os: "linux" }
  const config = yield* layout.writeJson("config", mediaTypes.config, {
    created,
    ...platform,
    config: { Env: ["PATH=/usr/local/bin:/usr/bin:/bin"], WorkingDir: "/app" },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: options.layers.map(({ title }) => ({ created, created_by: `gantry pack: ${title}` }))
  })
  const manifest = yield* layout.writeJson("manifest", mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: descriptor(config),
    layers: layers.map(({ blob }) => descriptor(blob))
  })
  const root = yield* layout.writeJson("manifest", mediaTypes.index, {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests: [{ ...descriptor(manifest), platform }]
  })
  yield* layout.finish(root, options.tag)
  const blobs = [root, manifest, config, ...layers.map(({ blob }) => blob)]
  return { root, blobs: Arr.dedupeWith(blobs, (a, b) => a.digest === b.digest) }
})

const descriptor = ({ digest, mediaType, size }: PackedBlob) => ({ mediaType, digest, size })

/** Hashes and counts what flows through a stream. */
const makeMeter = () => {
  const hash = createHash("sha256")
  let size = 0
  return {
    update(chunk: Uint8Array) {
      hash.update(chunk)
      size += chunk.length
    },
    end: () => ({ digest: Digest.make(`sha256:${hash.digest("hex")}`), size })
  }
}

/** Both the tar and its compressed form are hashed on the way: the config wants the one, the manifest the other. */
const packLayer = Effect.fnUntraced(function* (layout: Layout, layer: LayerSource, gzipLevel: number) {
  const fs = yield* FileSystem.FileSystem
  const files = yield* Effect.mapError(listFiles(layer.sources), failed(layer.title))
  if (files.every(({ type }) => type === "Directory")) {
    return yield* new PackError({ reason: "NothingToPack", layer: layer.title })
  }
  const tar = makeMeter()
  const gzip = makeMeter()
  const temporary = yield* layout.temporary(layer.title)
  yield* Stream.fromIterable(files).pipe(
    Stream.mapEffect((file) => toEntry(file), { concurrency: 8 }),
    Stream.pipeThroughChannel(Tar.encode()),
    Stream.tap((chunk) => Effect.sync(() => tar.update(chunk))),
    NodeStream.pipeThroughSimple(() => createGzip({ level: gzipLevel, chunkSize: chunkBytes })),
    Stream.tap((chunk) => Effect.sync(() => gzip.update(chunk))),
    Stream.run(fs.sink(temporary)),
    Effect.mapError(failed(layer.title))
  )
  const { digest, size } = gzip.end()
  yield* layout.adopt(layer.title, temporary, digest)
  const blob: PackedBlob = { kind: "layer", mediaType: mediaTypes.layer, digest, size }
  return { blob, diffId: tar.end().digest }
}, Effect.scoped)

interface ListedFile extends Source {
  readonly type: "File" | "Directory" | "SymbolicLink"
}

/** Everything under the sources that exist, with the directories that lead there, each path once, parents first. */
const listFiles = Effect.fnUntraced(function* (sources: ReadonlyArray<Source>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const listed = new Map<string, ListedFile>()
  const add = (file: ListedFile) => {
    if (!listed.has(file.to)) listed.set(file.to, file)
  }

  const walk = (file: ListedFile): Effect.Effect<void, PlatformError> => {
    add(file)
    if (file.type !== "Directory") return Effect.void
    return Effect.flatMap(fs.readDirectoryEntries(file.from), (entries) =>
      Effect.forEach(
        entries,
        ({ name, type }) =>
          type === "File" || type === "Directory" || type === "SymbolicLink"
            ? walk({ from: path.join(file.from, name), to: `${file.to}/${name}`, type })
            : Effect.void,
        { discard: true }
      )
    )
  }

  for (const { from, to } of sources) {
    if (!(yield* fs.exists(from))) continue
    const parents = to.split("/").slice(0, -1)
    parents.forEach((_, depth) => {
      add({ from: "", to: parents.slice(0, depth + 1).join("/"), type: "Directory" })
    })
    const { type } = yield* fs.stat(from)
    yield* walk({ from, to, type: type === "Directory" ? "Directory" : "File" })
  }
  return [...listed.values()].sort((a, b) => (a.to < b.to ? -1 : 1))
})

const toEntry = Effect.fnUntraced(function* (
  file: ListedFile
): Effect.fn.Return<Tar.Entry<PlatformError>, PlatformError, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  if (file.type === "Directory") return Tar.directory(file.to)
  if (file.type === "SymbolicLink") return Tar.symlink(file.to, yield* fs.readLink(file.from))
  const info = yield* fs.stat(file.from)
  const mode = (info.mode & 0o111) === 0 ? 0o644 : 0o755
  const size = ByteSize.toNumberUnsafe(info.size)
  if (size <= wholeFileBytes) return Tar.file(file.to, yield* fs.readFile(file.from), { mode })
  return Tar.fileStream(file.to, size, fs.stream(file.from, { chunkSize: chunkBytes }), { mode })
})

/** An image layout that is being written. */
interface Layout {
  /** A file that goes with the scope. */
  readonly temporary: (title: string) => Effect.Effect<string, PackError, Scope.Scope>
  /** Gives a temporary file its name as a blob. */
  readonly adopt: (title: string, temporary: string, digest: Digest) => Effect.Effect<void, PackError>
  readonly writeJson: (kind: ContentKind, mediaType: string, value: unknown) => Effect.Effect<PackedBlob, PackError>
  readonly finish: (root: PackedBlob, tag: string) => Effect.Effect<void, PackError>
}

const openLayout = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const blobs = path.join(directory, "blobs", "sha256")
  const pathOf = (digest: Digest) => path.join(blobs, digestHex(digest))
  yield* Effect.mapError(fs.makeDirectory(blobs, { recursive: true }), failed(directory))

  const layout: Layout = {
    temporary: (title) => Effect.mapError(fs.makeTempFileScoped({ directory, prefix: "layer-" }), failed(title)),
    adopt: (title, temporary, digest) => Effect.mapError(fs.rename(temporary, pathOf(digest)), failed(title)),
    writeJson(kind, mediaType, value) {
      const bytes = new TextEncoder().encode(JSON.stringify(value))
      const meter = makeMeter()
      meter.update(bytes)
      const blob: PackedBlob = { kind, mediaType, ...meter.end() }
      return pipe(fs.writeFile(pathOf(blob.digest), bytes), Effect.as(blob), Effect.mapError(failed(mediaType)))
    },
    finish: (root, tag) =>
      pipe(
        fs.writeFileString(
          path.join(directory, "index.json"),
          JSON.stringify({
            schemaVersion: 2,
            mediaType: mediaTypes.index,
            manifests: [{ ...descriptor(root), annotations: { "org.opencontainers.image.ref.name": tag } }]
          })
        ),
        Effect.andThen(
          fs.writeFileString(path.join(directory, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }))
        ),
        Effect.mapError(failed("index.json"))
      )
  }
  return layout
})

const failed = (layer: string) => (cause: unknown) => new PackError({ reason: "Failed", layer, cause })
