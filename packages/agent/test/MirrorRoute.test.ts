import { assert, describe, it } from "@effect/vitest"
import { Digest, Repository } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { parse, Refusal, type Registries, Route } from "../src/mirror/Route.ts"

const hex = "ab".repeat(32)
const digest = Digest.make(`sha256:${hex}`)
const upstreams = ["docker.io", "registry.example.com:5000"]
const registries: Registries = {
  find: (name) => Option.fromUndefinedOr(upstreams.find((upstream) => upstream === name)),
  default: Option.none()
}
const withDefault: Registries = { ...registries, default: Option.some("docker.io") }
const nginx = { registry: "docker.io", repository: Repository.make("library/nginx") }

const reads = (target: string, route: Route, known = registries) =>
  it(`reads ${target}`, () => assert.deepStrictEqual(parse(target, known), Result.succeed(route)))
const refuses = (target: string, refusal: Refusal, known = registries) =>
  it(`refuses ${target}`, () => assert.deepStrictEqual(parse(target, known), Result.fail(refusal)))

describe("the target of a request", () => {
  reads("/v2/", Route.Base())
  reads("/v2", Route.Base())
  reads("/v2/?ns=docker.io", Route.Base())
  reads(`/v2/library/nginx/manifests/1.27?ns=docker.io`, Route.Tag({ ...nginx, tag: "1.27" }))
  reads(`/v2/library/nginx/manifests/${digest}?ns=docker.io`, Route.Manifest({ ...nginx, digest }))
  reads(`/v2/library/nginx/manifests/sha256%3A${hex}?ns=docker.io`, Route.Manifest({ ...nginx, digest }))
  reads(`/v2/library/nginx/blobs/${digest}?ns=docker.io`, Route.Blob({ ...nginx, digest }))
  reads(
    `/v2/library/nginx/blobs/${digest}?ns=registry.example.com%3A5000`,
    Route.Blob({ ...nginx, registry: "registry.example.com:5000", digest })
  )
  // podman and CRI-O
  reads(`/v2/docker.io/library/nginx/blobs/${digest}`, Route.Blob({ ...nginx, digest }))
  // The query says more than the path.
  reads(
    `/v2/docker.io/nginx/manifests/a?ns=docker.io`,
    Route.Tag({ registry: "docker.io", repository: Repository.make("docker.io/nginx"), tag: "a" })
  )
  reads(`/v2/library/nginx/manifests/1.27`, Route.Tag({ ...nginx, tag: "1.27" }), withDefault)
  reads(
    `/v2/library/nginx/referrers/${digest}?ns=docker.io&artifactType=a%2Fb`,
    Route.Referrers({ ...nginx, digest, artifactType: Option.some("a/b") })
  )
  reads(`/v2/library/nginx/tags/list?n=3&last=a&ns=docker.io&x=y`, Route.TagsList({ ...nginx, query: "n=3&last=a" }))
  // A repository may have the names of the API in it.
  reads(
    `/v2/a/blobs/b/manifests/c?ns=docker.io`,
    Route.Tag({ registry: "docker.io", repository: Repository.make("a/blobs/b"), tag: "c" })
  )
})

describe("a target that is refused", () => {
  refuses("/", Refusal.Unsupported())
  refuses("/v2/library/nginx", Refusal.Unsupported())
  refuses("/v2/_catalog", Refusal.Unsupported())
  refuses("/v2/%E0%A4%A/manifests/a", Refusal.Unsupported())
  refuses(`/v2/${"a/".repeat(600)}manifests/a?ns=docker.io`, Refusal.Unsupported())
  refuses(
    "/v2/library/nginx/manifests/a?ns=evil.example.com",
    Refusal.UnknownRegistry({ registry: "evil.example.com" })
  )
  refuses("/v2/library/nginx/manifests/a", Refusal.UnknownRegistry({ registry: "library" }))
  refuses("/v2/Library/nginx/manifests/a?ns=docker.io", Refusal.NameInvalid({ name: "Library/nginx" }))
  refuses("/v2/a%2F..%2F..%2Fb/manifests/a?ns=docker.io", Refusal.NameInvalid({ name: "a/../../b" }))
  refuses("/v2/library/nginx/manifests/.a?ns=docker.io", Refusal.TagInvalid({ tag: ".a" }))
  refuses(`/v2/a/manifests/${"t".repeat(129)}?ns=docker.io`, Refusal.TagInvalid({ tag: "t".repeat(129) }))
  refuses("/v2/a/blobs/latest?ns=docker.io", Refusal.DigestInvalid({ digest: "latest" }))
  refuses("/v2/a/manifests/sha512:abc?ns=docker.io", Refusal.DigestInvalid({ digest: "sha512:abc" }))
  refuses(
    `/v2/a/blobs/sha256:${"AB".repeat(32)}?ns=docker.io`,
    Refusal.DigestInvalid({ digest: `sha256:${"AB".repeat(32)}` })
  )
})
