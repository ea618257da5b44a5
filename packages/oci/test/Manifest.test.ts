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
        ]
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
