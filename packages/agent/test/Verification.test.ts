import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import { BlobStore } from "@gantry/oci"
import { type Digest, digestHex, Registry } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import { shortDigest } from "../src/demo/Report.ts"
import * as Verification from "../src/demo/Verification.ts"
import { packedImage, repository } from "./fixtures.ts"

/** A layout with an image of two layers, that a test may spoil. */
const fixture = Effect.gen(function* () {
  const { directory, image: packed } = yield* packedImage([1000, 2000])
  const image = { registry: Registry.make("registry.example.com"), repository, tag: "v1", root: packed.root.digest }
  const layer = packed.blobs.find(({ kind }) => kind === "layer")
  const manifest = packed.blobs[1]
  assert.isDefined(layer)
  assert.isDefined(manifest)
  const fileOf = (digest: Digest) => `${directory}/blobs/sha256/${digestHex(digest)}`
  return { directory, packed, image, layer, manifest, fileOf, verify: Verification.verify(directory, image) }
})

describe("Verification", () => {
  layer(NodeServices.layer)((it) => {
    it.effect("finds every blob of a whole image", () =>
      Effect.gen(function* () {
        const { packed, verify } = yield* fixture
        const { flaws, named, verified } = yield* verify
        assert.deepStrictEqual(flaws, [])
        assert.sameDeepMembers(
          [...named],
          packed.blobs.map(({ digest, kind, size }) => ({ digest, kind, size }))
        )
        assert.sameMembers(
          [...verified],
          packed.blobs.map(({ digest }) => digest)
        )
      })
    )

    it.effect("finds one wrong byte", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const { fileOf, layer, packed, verify } = yield* fixture
        const bytes = yield* fs.readFile(fileOf(layer.digest))
        bytes[100] = (bytes[100] ?? 0) ^ 1
        yield* fs.writeFile(fileOf(layer.digest), bytes)
        const { flaws, verified } = yield* verify
        assert.deepStrictEqual(flaws, [`the layer ${shortDigest(layer.digest)} has other bytes`])
        assert.strictEqual(verified.size, packed.blobs.length - 1)
        assert.isFalse(verified.has(layer.digest))
      })
    )

    it.effect("finds a blob that is not as long as it was announced", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const { directory, fileOf, image, layer, manifest } = yield* fixture
        const size = layer.size + 1
        const text = (yield* fs.readFileString(fileOf(manifest.digest))).replace(
          `"size":${layer.size}`,
          `"size":${size}`
        )
        const root = BlobStore.digestOf(Buffer.from(text))
        yield* fs.writeFileString(fileOf(root), text)
        const { flaws, verified } = yield* Verification.verify(directory, { ...image, root })
        assert.deepStrictEqual(flaws, [
          `the layer ${shortDigest(layer.digest)} has ${layer.size} bytes instead of ${size}`,
          "index.json does not name the image v1"
        ])
        assert.isFalse(verified.has(layer.digest))
      })
    )

    it.effect("misses a blob that is not there", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const { fileOf, layer, verify } = yield* fixture
        yield* fs.remove(fileOf(layer.digest))
        const { flaws, named, verified } = yield* verify
        assert.deepStrictEqual(flaws, [])
        assert.deepStrictEqual(
          named.filter(({ digest }) => !verified.has(digest)).map(({ digest }) => digest),
          [layer.digest]
        )
      })
    )

    it.effect("does not follow a manifest whose bytes are wrong", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const { fileOf, image, manifest, verify } = yield* fixture
        yield* fs.writeFileString(fileOf(manifest.digest), "{}")
        const { flaws, named, verified } = yield* verify
        assert.deepStrictEqual(flaws, [`the manifest ${shortDigest(manifest.digest)} has other bytes`])
        assert.strictEqual(named.length, 2)
        assert.deepStrictEqual([...verified], [image.root])
      })
    )

    it.effect("wants the image to have its name", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const { directory, image, verify } = yield* fixture
        assert.deepStrictEqual((yield* Verification.verify(directory, { ...image, tag: "v2" })).flaws, [
          "index.json does not name the image v2"
        ])
        yield* fs.remove(`${directory}/index.json`)
        assert.deepStrictEqual((yield* verify).flaws, ["index.json cannot be read"])
      })
    )

    it.effect("finds nothing in a directory that does not exist", () =>
      Effect.gen(function* () {
        const { directory, image } = yield* fixture
        const { flaws, verified } = yield* Verification.verify(`${directory}/absent`, image)
        assert.strictEqual(verified.size, 0)
        assert.deepStrictEqual(flaws, ["index.json cannot be read"])
      })
    )
  })
})
