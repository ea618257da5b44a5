import { createHash } from "node:crypto"
import { gunzipSync } from "node:zlib"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import { type Digest, digestHex } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as Stream from "effect/Stream"
import * as ImagePacker from "../src/demo/ImagePacker.ts"
import { layerSources, noise, packedImage } from "./fixtures.ts"

const sha256 = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`

const reader = (directory: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const bytes = (digest: Digest) => fs.readFile(path.join(directory, "blobs", "sha256", digestHex(digest)))
    const json = (digest: Digest) => Effect.map(bytes(digest), (b) => JSON.parse(new TextDecoder().decode(b)))
    const file = (name: string) => Effect.map(fs.readFileString(path.join(directory, name)), JSON.parse)
    return { bytes, json, file }
  })

describe("ImagePacker", () => {
  layer(NodeServices.layer)((it) => {
    it.effect("names every blob by its bytes and its size", () =>
      Effect.gen(function* () {
        const { directory, image } = yield* packedImage([1000, 2000])
        const { bytes } = yield* reader(directory)
        for (const blob of image.blobs) {
          const content = yield* bytes(blob.digest)
          assert.strictEqual(sha256(content), blob.digest)
          assert.strictEqual(content.length, blob.size)
        }
        const fs = yield* FileSystem.FileSystem
        const stored = yield* fs.readDirectory(`${directory}/blobs/sha256`)
        assert.sameMembers(
          stored,
          image.blobs.map(({ digest }) => digestHex(digest))
        )
        assert.sameMembers(yield* fs.readDirectory(directory), ["blobs", "index.json", "oci-layout"])
      })
    )

    it.effect("leads from the index over the manifest to a config whose diff ids are those of the layers", () =>
      Effect.gen(function* () {
        const { directory, image } = yield* packedImage([1000, 2000])
        const { bytes, file, json } = yield* reader(directory)
        assert.deepStrictEqual(yield* file("oci-layout"), { imageLayoutVersion: "1.0.0" })
        const entry = (yield* file("index.json")).manifests[0]
        assert.strictEqual(entry.annotations["org.opencontainers.image.ref.name"], "v1")
        assert.strictEqual(entry.digest, image.root.digest)
        const index = yield* json(entry.digest)
        assert.deepStrictEqual(index.manifests[0].platform, { architecture: "amd64", os: "linux" })
        const manifest = yield* json(index.manifests[0].digest)
        assert.strictEqual(manifest.layers.length, 2)
        const config = yield* json(manifest.config.digest)
        const diffIds: Array<string> = []
        for (const { digest } of manifest.layers) diffIds.push(sha256(gunzipSync(yield* bytes(digest))))
        assert.deepStrictEqual(config.rootfs, { type: "layers", diff_ids: diffIds })
      })
    )

    it.effect("keeps contents, links, modes and the directories that lead to them", () =>
      Effect.gen(function* () {
        const { directory, image } = yield* packedImage([3_000_000])
        const { bytes } = yield* reader(directory)
        const blob = image.blobs.find(({ kind }) => kind === "layer")
        assert.isDefined(blob)
        const entries = yield* Stream.succeed(new Uint8Array(gunzipSync(yield* bytes(blob.digest)))).pipe(
          Stream.pipeThroughChannel(Tar.decode()),
          Stream.mapEffect(({ body, header }) =>
            Effect.map(Stream.runCollect(body), (chunks) => ({ ...header, content: Buffer.concat(chunks) }))
          ),
          Stream.runCollect
        )
        assert.deepStrictEqual(
          entries.map(({ path, type }) => [path, type]),
          [
            ["opt/", "Directory"],
            ["opt/layer-0/", "Directory"],
            ["opt/layer-0/link", "Symlink"],
            ["opt/layer-0/nested/", "Directory"],
            ["opt/layer-0/nested/noise", "File"],
            ["opt/layer-0/run.sh", "File"]
          ]
        )
        assert.strictEqual(entries[2]?.linkTarget, "run.sh")
        assert.isTrue(entries[4]?.content.equals(noise(3_000_000, 1)))
        assert.strictEqual(entries[4]?.mode, 0o644)
        assert.strictEqual(entries[5]?.mode, 0o755)
      })
    )

    it.effect("packs the same files into the same image", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const layers = yield* layerSources([5000, 6000, 7000])
        const pack = Effect.flatMap(fs.makeTempDirectoryScoped(), (directory) =>
          ImagePacker.pack({ directory, tag: "v1", layers, architecture: "amd64" })
        )
        assert.deepStrictEqual(yield* pack, yield* pack)
      })
    )

    it.effect("refuses a layer of which no file exists", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const directory = yield* fs.makeTempDirectoryScoped()
        const error = yield* Effect.flip(
          ImagePacker.pack({
            directory,
            tag: "v1",
            layers: [{ title: "nothing", sources: [{ from: `${directory}/absent`, to: "a/b" }] }],
            architecture: "amd64"
          })
        )
        assert.strictEqual(error.reason, "NothingToPack")
        assert.include(error.message, "nothing")
      })
    )
  })
})
