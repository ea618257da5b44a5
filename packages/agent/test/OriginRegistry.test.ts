import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import { Digest } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import type { PackedBlob } from "../src/demo/ImagePacker.ts"
import * as OriginRegistry from "../src/demo/OriginRegistry.ts"
import { packedImage, repository } from "./fixtures.ts"

class Fixture extends Context.Service<
  Fixture,
  { readonly url: string; readonly layer: PackedBlob; readonly root: PackedBlob }
>()("test/Fixture") {}

/** A registry with an image of its own for each test: the log is part of what is tested. */
const registry = Layer.unwrap(
  Effect.gen(function* () {
    const { directory, image } = yield* packedImage([100_000])
    const blob = image.blobs.find(({ kind }) => kind === "layer")
    assert.isDefined(blob)
    const origin = OriginRegistry.layer({
      directory,
      image,
      repository,
      tag: "v1",
      accounts: new Map([["node-1", "one"]])
    })
    const fixture = Layer.effect(
      Fixture,
      Effect.map(OriginRegistry.OriginRegistry, ({ registry }) => ({
        url: `http://${registry}`,
        layer: blob,
        root: image.root
      }))
    )
    return Layer.provideMerge(fixture, origin)
  })
).pipe(Layer.orDie)

const get = Effect.fnUntraced(function* (
  path: string,
  headers: Record<string, string> = {},
  method: "GET" | "HEAD" = "GET"
) {
  const client = yield* HttpClient.HttpClient
  const { url } = yield* Fixture
  const response = yield* client.execute(HttpClientRequest.make(method)(`${url}${path}`, { headers }))
  const body = new Uint8Array(yield* response.arrayBuffer)
  return {
    status: response.status,
    headers: response.headers,
    body,
    json: () => JSON.parse(new TextDecoder().decode(body))
  }
})

const basic = (account: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${account}:${password}`).toString("base64")}`
})

const bearer = Effect.gen(function* () {
  const { json, status } = yield* get(
    `/token?service=gantry-demo&scope=repository:${repository}:pull`,
    basic("node-1", "one")
  )
  assert.strictEqual(status, 200)
  return { authorization: `Bearer ${json().token}` }
})

const log = OriginRegistry.OriginRegistry.use((origin) => origin.log)

describe("OriginRegistry", () => {
  layer(Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici))((it) => {
    const test = (
      name: string,
      effect: Effect.Effect<void, unknown, Fixture | OriginRegistry.OriginRegistry | HttpClient.HttpClient>
    ) => it.effect(name, () => Effect.provide(effect, registry))

    test(
      "challenges whoever comes without a token, and names where to get one",
      Effect.gen(function* () {
        const { layer, url } = yield* Fixture
        for (const path of ["/v2/", `/v2/${repository}/blobs/${layer.digest}`]) {
          const { headers, status } = yield* get(path)
          assert.strictEqual(status, 401)
          assert.strictEqual(
            headers["www-authenticate"],
            `Bearer realm="${url}/token",service="gantry-demo",scope="repository:${repository}:pull"`
          )
        }
      })
    )

    test(
      "gives a token only for the password of a known account",
      Effect.gen(function* () {
        const scope = `/token?scope=repository:${repository}:pull`
        assert.strictEqual((yield* get(scope)).status, 401)
        assert.strictEqual((yield* get(scope, basic("node-1", "two"))).status, 401)
        assert.strictEqual((yield* get(scope, basic("node-2", "one"))).status, 401)
        assert.strictEqual((yield* get(scope, basic("node-1", "one"))).status, 200)
      })
    )

    test(
      "refuses a token that it did not give, and one for another repository",
      Effect.gen(function* () {
        const path = `/v2/${repository}/manifests/v1`
        const forged = yield* get(path, { authorization: "Bearer 00ff" })
        assert.strictEqual(forged.status, 401)
        assert.include(forged.headers["www-authenticate"], 'error="invalid_token"')
        const { json } = yield* get("/token?scope=repository:other/app:pull", basic("node-1", "one"))
        assert.strictEqual((yield* get(path, { authorization: `Bearer ${json().token}` })).status, 403)
      })
    )

    test(
      "lets nobody in with a token that has expired",
      Effect.gen(function* () {
        const path = `/v2/${repository}/manifests/v1`
        const headers = yield* bearer
        yield* TestClock.adjust("299 seconds")
        assert.strictEqual((yield* get(path, headers)).status, 200)
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* get(path, headers)).status, 401)
      })
    )

    test(
      "serves the image by its tag and by its digest",
      Effect.gen(function* () {
        const { root } = yield* Fixture
        const headers = yield* bearer
        for (const reference of ["v1", root.digest]) {
          const response = yield* get(`/v2/${repository}/manifests/${reference}`, headers)
          assert.strictEqual(response.status, 200)
          assert.strictEqual(response.headers["content-type"], root.mediaType)
          assert.strictEqual(response.headers["docker-content-digest"], root.digest)
          assert.strictEqual(response.body.length, root.size)
        }
      })
    )

    test(
      "answers HEAD without a body, and does not count it as a pull",
      Effect.gen(function* () {
        const { layer } = yield* Fixture
        const response = yield* get(`/v2/${repository}/blobs/${layer.digest}`, yield* bearer, "HEAD")
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["content-length"], String(layer.size))
        assert.deepStrictEqual(OriginRegistry.pulls(yield* log), [])
      })
    )

    test(
      "serves a part of a blob, and refuses one that lies beyond it",
      Effect.gen(function* () {
        const { layer } = yield* Fixture
        const headers = yield* bearer
        const path = `/v2/${repository}/blobs/${layer.digest}`
        const whole = yield* get(path, headers)
        const part = yield* get(path, { ...headers, range: "bytes=10-19" })
        assert.strictEqual(part.status, 206)
        assert.strictEqual(part.headers["content-range"], `bytes 10-19/${layer.size}`)
        assert.deepStrictEqual(part.body, whole.body.slice(10, 20))
        const rest = yield* get(path, { ...headers, range: `bytes=${layer.size - 5}-` })
        assert.deepStrictEqual(rest.body, whole.body.slice(-5))
        const beyond = yield* get(path, { ...headers, range: `bytes=${layer.size}-` })
        assert.strictEqual(beyond.status, 416)
        assert.strictEqual(beyond.headers["content-range"], `bytes */${layer.size}`)
        assert.strictEqual((yield* get(path, { ...headers, range: "bytes=0-1,4-5" })).body.length, layer.size)
      })
    )

    test(
      "does not know other repositories, tags and digests",
      Effect.gen(function* () {
        const headers = yield* bearer
        const absent = Digest.make(`sha256:${"0".repeat(64)}`)
        for (const path of [
          `/v2/other/app/manifests/v1`,
          `/v2/${repository}/manifests/v2`,
          `/v2/${repository}/blobs/${absent}`,
          `/v2/${repository}/blobs/../../index.json`
        ]) {
          assert.strictEqual((yield* get(path, headers)).status, 404)
        }
      })
    )

    test(
      "remembers who took what",
      Effect.gen(function* () {
        const { layer } = yield* Fixture
        const path = `/v2/${repository}/blobs/${layer.digest}`
        yield* get(path, yield* bearer)
        const entry = (yield* log).find(({ digest }) => Option.isSome(digest))
        assert.deepStrictEqual(entry, {
          method: "GET",
          path,
          account: Option.some("node-1"),
          digest: Option.some(layer.digest),
          status: 200,
          offset: 0,
          sent: layer.size,
          complete: true
        })
        assert.deepStrictEqual(OriginRegistry.pulls(yield* log), [
          { digest: layer.digest, account: "node-1", bytes: layer.size }
        ])
      })
    )

    test(
      "holds a download in its middle until it is released, and no other one",
      Effect.gen(function* () {
        const { layer } = yield* Fixture
        const origin = yield* OriginRegistry.OriginRegistry
        const path = `/v2/${repository}/blobs/${layer.digest}`
        const headers = yield* bearer
        const hold = yield* origin.hold(layer.digest)
        const held = yield* Effect.forkChild(get(path, headers))
        assert.strictEqual(yield* hold.reached, "node-1")
        assert.strictEqual((yield* get(path, headers)).body.length, layer.size)
        assert.strictEqual(held.pollUnsafe(), undefined)
        const [first] = (yield* log).filter(({ digest }) => Option.isSome(digest))
        assert.strictEqual(first?.sent, Math.floor(layer.size / 2))
        yield* hold.release
        assert.strictEqual((yield* Fiber.join(held)).body.length, layer.size)
      })
    )

    it("counts a download that goes on where it was cut as one pull, and a second one as two", () => {
      const digest = Digest.make(`sha256:${"a".repeat(64)}`)
      const request = (account: string, offset: number, sent: number): OriginRegistry.LoggedRequest => ({
        method: "GET",
        path: "",
        account: Option.some(account),
        digest: Option.some(digest),
        status: offset === 0 ? 200 : 206,
        offset,
        sent,
        complete: false
      })
      const resumed = [request("a", 0, 40), request("a", 40, 60)]
      assert.deepStrictEqual(OriginRegistry.pulls(resumed), [{ digest, account: "a", bytes: 100 }])
      assert.strictEqual(OriginRegistry.pulls([...resumed, request("a", 0, 100)]).length, 2)
      assert.strictEqual(OriginRegistry.pulls([request("a", 0, 40), request("b", 40, 60)]).length, 2)
      assert.strictEqual(OriginRegistry.pulls([request("a", 0, 40), request("a", 20, 80)]).length, 2)
      assert.strictEqual(OriginRegistry.pulls([{ ...request("a", 0, 0), status: 401 }]).length, 0)
    })
  })
})
