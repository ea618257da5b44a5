import { assert, describe, it } from "@effect/vitest"
import { BlobStore, Manifest } from "@gantry/oci"
import { Option, Result } from "effect"

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const digestOf = (index: number) => BlobStore.digestOf(new Uint8Array([index >> 8, index]))
const descriptor = (index: number, mediaType = "application/vnd.oci.image.layer.v1.tar+gzip") => ({
  mediaType,
  digest: digestOf(index),
  size: index
})

const oci = "application/vnd.oci.image.manifest.v1+json"
const ociIndex = "application/vnd.oci.image.index.v1+json"
const docker = "application/vnd.docker.distribution.manifest.v2+json"
const dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

const image = {
  schemaVersion: 2,
  mediaType: oci,
  config: descriptor(1, "application/vnd.oci.image.config.v1+json"),
  layers: [descriptor(2), descriptor(3)]
}
const index = {
  schemaVersion: 2,
  mediaType: ociIndex,
  manifests: [
    { ...descriptor(4, oci), platform: { architecture: "arm64", os: "linux", variant: "v8" } },
    { ...descriptor(5, oci), annotations: { "vnd.docker.reference.type": "attestation-manifest" } }
  ]
}

const reasonOf = (value: unknown) =>
  Result.match(Manifest.parse(value instanceof Uint8Array ? value : encode(value)), {
    onSuccess: () => "none",
    onFailure: ({ reason }) => reason
  })

describe("Manifest", () => {
  it("reads an image, of OCI and of Docker, with how each of its blobs is asked for", () => {
    for (const mediaType of [oci, docker]) {
      const manifest = Result.getOrThrow(Manifest.parse(encode({ ...image, mediaType, subject: {}, annotations: {} })))
      assert.deepStrictEqual(manifest, {
        _tag: "Image",
        mediaType,
        config: { ...image.config, kind: "config" as const },
        layers: image.layers.map((layer) => ({ ...layer, kind: "layer" as const }))
      })
      assert.deepStrictEqual(
        Manifest.entriesOf(manifest).map(({ digest, kind }) => [digest, kind]),
        [
          [digestOf(1), "config"],
          [digestOf(2), "layer"],
          [digestOf(3), "layer"]
        ]
      )
    }
  })

  it("reads an index, of OCI and of Docker, with the platforms of its manifests", () => {
    for (const mediaType of [ociIndex, dockerList]) {
      const manifest = Result.getOrThrow(Manifest.parse(encode({ ...index, mediaType })))
      assert.deepStrictEqual(manifest, {
        _tag: "Index",
        mediaType,
        manifests: [
          {
            ...descriptor(4, oci),
            kind: "manifest",
            platform: Option.some({ architecture: "arm64", os: "linux", variant: "v8" })
          },
          { ...descriptor(5, oci), kind: "manifest", platform: Option.none() }
        ],
        unusable: []
      })
    }
  })

  it("knows an image and an index of OCI by their fields, where the media type is left out", () => {
    const { mediaType: _, ...unnamedImage } = image
    const { mediaType: __, ...unnamedIndex } = index
    for (const [fields, expected] of [
      [unnamedImage, oci],
      [unnamedIndex, ociIndex]
    ] as const) {
      assert.strictEqual(Result.getOrThrow(Manifest.parse(encode(fields))).mediaType, expected)
      assert.deepStrictEqual(Manifest.mediaTypeOf(encode(fields)), Option.some(expected))
    }
  })

  it("takes no media type for the same, whether it is null, empty or not there, and no version for version 2", () => {
    for (const blank of [{ mediaType: null }, { mediaType: "" }, { mediaType: undefined, schemaVersion: undefined }]) {
      for (const [fields, expected] of [
        [{ ...image, manifests: null, ...blank }, oci],
        [{ ...index, config: null, layers: null, ...blank }, ociIndex]
      ] as const) {
        assert.strictEqual(Result.getOrThrow(Manifest.parse(encode(fields))).mediaType, expected)
        assert.deepStrictEqual(Manifest.mediaTypeOf(encode(fields)), Option.some(expected))
      }
    }
  })

  it("reads nothing into what it does not use", () => {
    const odd = { annotations: 42, subject: "x", artifactType: null, urls: {}, data: 1, "": [] }
    const layers = image.layers.map((layer) => ({ ...layer, ...odd }))
    assert.strictEqual(reasonOf({ ...image, ...odd, layers, config: { ...image.config, ...odd } }), "none")
    assert.strictEqual(reasonOf({ ...index, ...odd }), "none")
    const marked = new Uint8Array([0xef, 0xbb, 0xbf, ...encode(image)])
    assert.strictEqual(reasonOf(marked), "none")
  })

  it.each([
    ["no platform", {}],
    ["null", { platform: null }],
    ["nothing", { platform: {} }],
    ["no system", { platform: { architecture: "amd64" } }],
    ["no processor", { platform: { os: "linux", architecture: "" } }],
    ["things of other types", { platform: { os: ["linux"], architecture: 64 } }],
    ["a word", { platform: "linux/amd64" }]
  ])("takes an entry whose platform is %s for one of no platform, and the others as they are", (_, fields) => {
    const manifests = [{ ...descriptor(6, oci), ...fields }, ...index.manifests]
    const parsed = Result.getOrThrow(Manifest.parse(encode({ ...index, manifests }))) as Manifest.Index
    assert.lengthOf(parsed.manifests, 3)
    assert.deepStrictEqual(parsed.manifests[0]?.platform, Option.none())
    assert.isTrue(Option.isSome(parsed.manifests[1]?.platform ?? Option.none()))
    assert.deepStrictEqual(parsed.unusable, [])
  })

  it("takes of a platform what it says well", () => {
    const platform = { os: "linux", architecture: "arm64", variant: null, "os.version": 5, "os.features": 7 }
    const manifests = [{ ...descriptor(6, oci), platform }]
    const parsed = Result.getOrThrow(Manifest.parse(encode({ ...index, manifests }))) as Manifest.Index
    assert.deepStrictEqual(parsed.manifests[0]?.platform, Option.some({ os: "linux", architecture: "arm64" }))
  })

  it.each([
    ["a digest of another kind", { digest: `sha512:${"0".repeat(128)}` }, "sha512:000"],
    ["a digest that is none", { digest: "sha256:../../etc" }, "sha256:../../etc"],
    ["no digest", { digest: null }, "no digest"],
    ["a size below zero", { size: -1 }, "no usable type, digest and size"],
    ["a size of another type", { size: null }, "no usable type, digest and size"],
    ["no type", { mediaType: undefined }, "no usable type, digest and size"],
    ["a type that is not known", { mediaType: "application/vnd.cncf.helm.chart" }, "application/vnd.cncf.helm.chart"]
  ])("leaves out an entry with %s, says so, and takes the others", (_, fields, word) => {
    const manifests = [...index.manifests, { ...descriptor(6, oci), ...fields }]
    const parsed = Result.getOrThrow(Manifest.parse(encode({ ...index, manifests }))) as Manifest.Index
    assert.deepStrictEqual(
      parsed.manifests.map(({ digest }) => digest),
      [digestOf(4), digestOf(5)]
    )
    const missing = Manifest.missingFrom(parsed)
    assert.lengthOf(missing, 1)
    assert.include(missing[0], "entry 3: ")
    assert.include(missing[0], word)
    assert.strictEqual(reasonOf({ ...index, manifests: [1, null, "x", ...index.manifests] }), "none")
  })

  it("is strict about an image, which is whole or of no use", () => {
    const layer = { ...descriptor(2), digest: `sha512:${"0".repeat(128)}` }
    assert.strictEqual(reasonOf({ ...image, layers: [layer, descriptor(3)] }), "Malformed")
    assert.strictEqual(reasonOf({ ...image, layers: [null] }), "Malformed")
    assert.strictEqual(reasonOf({ ...image, config: null }), "Malformed")
    assert.strictEqual(reasonOf({ ...image, schemaVersion: 1 }), "Unsupported")
  })

  it("takes Go's null for an empty list", () => {
    const none = Result.getOrThrow(Manifest.parse(encode({ ...image, layers: null })))
    assert.lengthOf(Manifest.entriesOf(none), 1)
    const nowhere = Result.getOrThrow(Manifest.parse(encode({ ...index, manifests: null })))
    assert.lengthOf(Manifest.entriesOf(nowhere), 0)
  })

  it("names each digest once, and no layer that registries do not have", () => {
    const manifest = Result.getOrThrow(
      Manifest.parse(
        encode({
          ...image,
          layers: [
            descriptor(2),
            descriptor(3),
            descriptor(2),
            descriptor(6, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            descriptor(7, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
          ]
        })
      )
    )
    assert.deepStrictEqual(
      Manifest.entriesOf(manifest).map(({ digest }) => digest),
      [digestOf(1), digestOf(2), digestOf(3)]
    )
    const missing = Manifest.missingFrom(manifest)
    assert.lengthOf(missing, 2)
    assert.include(missing[0], `the layer ${digestOf(6)}`)
    assert.include(missing[1], `the layer ${digestOf(7)}`)
  })

  it("refuses bytes that are an image to one reader and an index to another", () => {
    assert.strictEqual(reasonOf({ ...image, manifests: index.manifests }), "Malformed")
    assert.strictEqual(reasonOf({ ...index, layers: [] }), "Malformed")
    assert.strictEqual(reasonOf({ ...index, config: image.config }), "Malformed")
    assert.strictEqual(reasonOf({ ...image, mediaType: ociIndex }), "Malformed")
    assert.strictEqual(reasonOf({ ...index, mediaType: docker }), "Malformed")
  })

  it("refuses what is no manifest, and what is of a kind it does not know", () => {
    assert.strictEqual(reasonOf(new Uint8Array([0x1f, 0x8b, 8])), "Malformed")
    assert.strictEqual(reasonOf([]), "Malformed")
    assert.strictEqual(reasonOf({ schemaVersion: 2 }), "Malformed")
    assert.strictEqual(reasonOf({ ...image, layers: [{ ...descriptor(2), digest: "sha256:../../etc" }] }), "Malformed")
    assert.strictEqual(reasonOf({ ...image, layers: [{ ...descriptor(2), size: -1 }] }), "Malformed")
    assert.strictEqual(reasonOf({ ...image, mediaType: "application/vnd.cncf.helm.chart" }), "Unsupported")
    assert.strictEqual(reasonOf({ schemaVersion: 1, fsLayers: [] }), "Unsupported")
  })

  it("bounds the bytes and the entries", () => {
    const padded = (length: number) => {
      const bytes = new Uint8Array(length).fill(0x20)
      bytes.set(encode(image))
      return bytes
    }
    assert.strictEqual(reasonOf(padded(Manifest.maxBytes)), "none")
    assert.strictEqual(reasonOf(padded(Manifest.maxBytes + 1)), "TooLarge")
    const layers = Array.from({ length: Manifest.maxEntries }, (_, number) => descriptor(number))
    assert.strictEqual(reasonOf({ ...image, layers }), "none")
    assert.strictEqual(reasonOf({ ...image, layers: [...layers, descriptor(1)] }), "TooMany")
    assert.strictEqual(reasonOf({ ...index, manifests: [...layers, descriptor(1)] }), "TooMany")
  })

  it("tells the media type of any manifest, and none of what would break a header", () => {
    const artifact = "application/vnd.oci.artifact.manifest.v1+json"
    assert.deepStrictEqual(Manifest.mediaTypeOf(encode({ mediaType: artifact })), Option.some(artifact))
    for (const none of [encode({ mediaType: "text/plain\r\nset-cookie: a=b" }), encode(1), new Uint8Array([1, 2])]) {
      assert.deepStrictEqual(Manifest.mediaTypeOf(none), Option.none())
    }
  })
})
