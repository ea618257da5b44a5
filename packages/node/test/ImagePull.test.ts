import { assert, describe, it } from "@effect/vitest"
import { ColdStart } from "@gantry/coldstart"
import * as ImagePull from "@gantry/node/ImagePull"
import { BlobStore, type Manifest } from "@gantry/oci"
import { type Digest, Registry, Repository } from "@gantry/protocol"
import { Effect, Layer, Logger, Option } from "effect"

const oci = "application/vnd.oci.image.manifest.v1+json"
const ociIndex = "application/vnd.oci.image.index.v1+json"
const docker = "application/vnd.docker.distribution.manifest.v2+json"
const layerType = "application/vnd.oci.image.layer.v1.tar+gzip"

/** Blobs that the cluster has. */
const makeCluster = () => {
  const blobs = new Map<Digest, Uint8Array>()
  const add = (content: unknown, mediaType: string) => {
    const bytes = new TextEncoder().encode(typeof content === "string" ? content : JSON.stringify(content))
    const digest = BlobStore.digestOf(bytes)
    blobs.set(digest, bytes)
    return { mediaType, digest, size: bytes.length }
  }
  const addImage = (name: string, mediaType = oci, more: ReadonlyArray<object> = []) => {
    const config = add(`config of ${name}`, "application/vnd.oci.image.config.v1+json")
    const layers = [add(`layer of ${name}`, layerType), ...more]
    return add({ schemaVersion: 2, mediaType, config, layers }, mediaType)
  }
  return { blobs, add, addImage }
}

/** Pulls an image from the cluster; what happened on the way. */
const pull = Effect.fnUntraced(function* (blobs: ReadonlyMap<Digest, Uint8Array>, root: Digest) {
  const wanted: Array<ColdStart.BlobRequest> = []
  const tagged: Array<readonly [string, Manifest.Descriptor]> = []
  const named: Array<Manifest.Entry> = []
  const logged: Array<string> = []
  const stores = Layer.effect(
    BlobStore.BlobStore,
    Effect.map(BlobStore.BlobStore, (store) => ({
      ...store,
      tag: (name: string, descriptor: Manifest.Descriptor) => Effect.sync(() => void tagged.push([name, descriptor]))
    }))
  ).pipe(Layer.provide(BlobStore.layerMemory()))
  const coldStart = Layer.effect(
    ColdStart.ColdStart,
    Effect.map(BlobStore.BlobStore, (store) =>
      ColdStart.ColdStart.of({
        obtain: (request) =>
          Effect.gen(function* () {
            wanted.push(request)
            const writer = yield* store.writer(request.ref.digest)
            yield* writer.append(blobs.get(request.ref.digest) ?? new Uint8Array())
            yield* writer.commit
            return { _tag: "Origin" } as const
          }).pipe(Effect.scoped, Effect.orDie)
      })
    )
  )
  const loggers = Logger.layer([Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${message}`))])
  const image = {
    registry: Registry.make("registry.example.com"),
    repository: Repository.make("app"),
    tag: "v1",
    root
  }
  const result = yield* ImagePull.pull(image, {
    named: (entries) => Effect.sync(() => void named.push(...entries)),
    obtained: () => Effect.void
  }).pipe(Effect.result, Effect.provide(Layer.merge(Layer.provideMerge(coldStart, stores), loggers)))
  return { result, wanted, tagged, named, logged, digests: wanted.map(({ ref }) => ref.digest) }
})

describe("ImagePull", () => {
  it.effect("takes the size and the type of the root from its bytes, and of all others from what names them", () =>
    Effect.gen(function* () {
      const { add, addImage, blobs } = makeCluster()
      const platform = { os: "linux", architecture: ImagePull.architecture }
      const manifest = addImage("app")
      const root = add({ schemaVersion: 2, manifests: [{ ...manifest, platform }] }, ociIndex)
      const { logged, named, result, tagged, wanted } = yield* pull(blobs, root.digest)
      assert.strictEqual(result._tag, "Success")
      assert.deepStrictEqual(
        wanted.map(({ kind, size }) => [kind, Option.isSome(size)]),
        [
          ["manifest", false],
          ["manifest", true],
          ["config", true],
          ["layer", true]
        ]
      )
      assert.deepStrictEqual(tagged, [["v1", root]])
      assert.deepStrictEqual(named[0], { ...root, kind: "manifest" })
      assert.deepStrictEqual(logged, [])
    })
  )

  it.effect("keeps an image of Docker's types as what it is", () =>
    Effect.gen(function* () {
      const { addImage, blobs } = makeCluster()
      const root = addImage("app", docker)
      const { tagged } = yield* pull(blobs, root.digest)
      assert.deepStrictEqual(tagged, [["v1", root]])
    })
  )

  it.effect("does without the entries of an index that are of no use, and says so once", () =>
    Effect.gen(function* () {
      const { add, addImage, blobs } = makeCluster()
      const [first, second] = [addImage("first"), addImage("second")]
      const manifests = [
        { ...first, platform: null },
        { ...first, digest: `sha512:${"0".repeat(128)}` },
        { ...second, platform: { architecture: "riscv64" } },
        { ...second, mediaType: "application/vnd.cncf.helm.chart" },
        null
      ]
      const root = add({ schemaVersion: 2, mediaType: ociIndex, manifests }, ociIndex)
      const { digests, logged, result } = yield* pull(blobs, root.digest)
      assert.strictEqual(result._tag, "Success")
      assert.includeMembers(digests, [first.digest, second.digest])
      assert.lengthOf(digests, 7)
      assert.lengthOf(logged, 1)
      assert.match(
        logged[0] ?? "",
        /^Info .*is taken without entry 2: .*sha512.*entry 4: .*helm.*entry 5: it is no object/
      )
    })
  )

  it.effect("says which layers an image lacks, because registries do not distribute them", () =>
    Effect.gen(function* () {
      const { addImage, blobs } = makeCluster()
      const foreign = {
        mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        digest: BlobStore.digestOf(new Uint8Array([1])),
        size: 1,
        urls: ["https://elsewhere.example.com/layer"]
      }
      const root = addImage("app", docker, [foreign])
      const { digests, logged, result } = yield* pull(blobs, root.digest)
      assert.strictEqual(result._tag, "Success")
      assert.notInclude(digests, foreign.digest)
      assert.lengthOf(logged, 1)
      assert.match(logged[0] ?? "", new RegExp(`^Warn .*is taken without the layer ${foreign.digest}`))
    })
  )

  it.effect("fails for an index of which nothing can be used, and for what is no manifest", () =>
    Effect.gen(function* () {
      const { add, blobs } = makeCluster()
      const index = add({ schemaVersion: 2, mediaType: ociIndex, manifests: [{ digest: "sha512:0" }] }, ociIndex)
      const page = add("<html>", "text/html")
      for (const [root, detail] of [
        [index, "nothing in it can be used: entry 1"],
        [page, "not a manifest that can be used"]
      ] as const) {
        const { result, tagged } = yield* pull(blobs, root.digest)
        assert.strictEqual(result._tag, "Failure")
        if (result._tag === "Failure") assert.include(String(result.failure), detail)
        assert.deepStrictEqual(tagged, [])
      }
    })
  )
})
