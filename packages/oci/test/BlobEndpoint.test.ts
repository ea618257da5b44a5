import * as Net from "node:net"
import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Store } from "@gantry/coord"
import { BlobEndpoint, BlobStore } from "@gantry/oci"
import type { Digest } from "@gantry/protocol"
import { Context, Effect, Exit, Fiber, Latch, Layer, Option, Scope, Stream, SubscriptionRef } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import type { HttpMethod } from "effect/http/HttpMethod"
import { TestClock } from "effect/testing"
import { layerBlobs } from "./support/blobs.ts"
import { bytesOf } from "./support/bytes.ts"

const bytes = bytesOf(1, 300_000)
const digest = BlobStore.digestOf(bytes)
const absent = BlobStore.digestOf(bytesOf(2, 10))
const manifestType = "application/vnd.docker.distribution.manifest.list.v2+json"
const manifest = new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType: manifestType, manifests: [] }))
const manifestDigest = BlobStore.digestOf(manifest)
const empty = new Uint8Array()

/** More than the buffers between two sockets take. */
const large = Buffer.alloc(24 * 1024 * 1024, bytesOf(3, 1000))
const largeDigest = BlobStore.digestOf(large)

const blobPath = (of: Digest | string, name = "gantry") => `/v2/${name}/blobs/${of}`
const manifestPath = (of: Digest | string, name = "gantry") => `/v2/${name}/manifests/${of}`

/** The status, headers and bytes of a response of this test's endpoint. */
const ask = Effect.fnUntraced(function* (
  path: string,
  headers: Record<string, string> = {},
  method: HttpMethod = "GET",
  mark: Record<string, string> = { "gantry-mirrored": "1" }
) {
  const { address } = yield* BlobEndpoint.BlobEndpoint
  const client = yield* HttpClient.HttpClient
  const request = HttpClientRequest.make(method)(`http://${address}${path}`, { headers: { ...mark, ...headers } })
  const response = yield* client.execute(request)
  const body = Buffer.from(yield* response.arrayBuffer)
  return { status: response.status, headers: response.headers, body }
})

/** Not by comparing the arrays, whose differences take minutes to print. */
const assertBytes = (actual: Uint8Array, expected: Uint8Array) =>
  assert.strictEqual(BlobStore.digestOf(actual), BlobStore.digestOf(expected))

const errorCode = (body: Buffer): string => JSON.parse(body.toString()).errors[0].code

/** A connection that has sent a request, or nothing, and reads nothing until it is resumed. */
const connect = Effect.fnUntraced(function* (request: string, localAddress = "127.0.0.1") {
  const { address } = yield* BlobEndpoint.BlobEndpoint
  const [host = "", port] = address.split(":")
  const socket = yield* Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const socket = Net.connect({ host, port: Number(port), localAddress }, () => {
        socket.write(request, () => resume(Effect.succeed(socket)))
      })
      socket.on("error", () => {})
      socket.pause()
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  /** Reads to the end, and tells how much came. */
  const drain = Effect.callback<number>((resume) => {
    let length = 0
    socket.on("data", (chunk) => {
      length += chunk.length
    })
    socket.once("close", () => resume(Effect.succeed(length)))
    socket.resume()
  })
  return { socket, drain }
})
const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: peer\r\nGantry-Mirrored: 1\r\nConnection: close\r\n\r\n`

/** Blobs of which none, but for small ones, is sent before it is said. */
const holding = Effect.fnUntraced(function* (contents: ReadonlyArray<Uint8Array>) {
  const gate = yield* Latch.make()
  const opened = yield* SubscriptionRef.make(0)
  const blobs = layerBlobs(contents, (store) => ({
    open: (digest, range) =>
      Effect.map(
        store.open(digest, range),
        Option.map((blob) => ({
          ...blob,
          runForEach: (use) =>
            blob.size < 10_000
              ? blob.runForEach(use)
              : SubscriptionRef.update(opened, (count) => count + 1).pipe(
                  Effect.andThen(gate.await),
                  Effect.andThen(blob.runForEach(use))
                )
        }))
      )
  }))
  return {
    blobs,
    /** Waits until so many are to be sent. */
    opened: (count: number) =>
      SubscriptionRef.changes(opened).pipe(
        Stream.filter((now) => now >= count),
        Stream.runHead
      ),
    /** Has them sent. */
    go: gate.open
  }
})

const serving = (blobs: Layer.Layer<BlobStore.BlobStore>, options?: BlobEndpoint.Options) =>
  Effect.provide(
    Layer.fresh(BlobEndpoint.layer(options)).pipe(Layer.provide(blobs), Layer.merge(NodeHttpClient.layerUndici))
  )
const serve = serving(BlobStore.layerMemory([bytes, manifest, empty]))

describe("BlobEndpoint", () => {
  describe("hands out", () => {
    it.effect("a blob, and all that HEAD tells of it", () =>
      Effect.gen(function* () {
        for (const method of ["GET", "HEAD"] as const) {
          const { body, headers, status } = yield* ask(blobPath(digest, "library/nginx"), {}, method)
          assert.strictEqual(status, 200)
          assert.strictEqual(headers["content-length"], "300000")
          assert.strictEqual(headers["content-type"], "application/octet-stream")
          assert.strictEqual(headers["accept-ranges"], "bytes")
          assert.strictEqual(headers["docker-content-digest"], digest)
          assertBytes(body, method === "GET" ? bytes : empty)
        }
      }).pipe(serve)
    )

    it.effect("by the digest alone, whatever repository is named", () =>
      Effect.gen(function* () {
        for (const name of ["_", "a/manifests/b/blobs/c", "Library/nginx", "..%2f..", "a".repeat(300)]) {
          assertBytes((yield* ask(blobPath(digest, name))).body, bytes)
          assertBytes((yield* ask(manifestPath(manifestDigest, name))).body, manifest)
        }
        for (const path of [`/v2/blobs/${digest}`, `/v2//blobs/${digest}`, `${blobPath(digest)}?ns=docker.io`]) {
          assert.strictEqual((yield* ask(path)).status, 200, path)
        }
      }).pipe(serve)
    )

    it.effect("a manifest, with the type that it gives itself", () =>
      Effect.gen(function* () {
        for (const method of ["GET", "HEAD"] as const) {
          const { body, headers, status } = yield* ask(manifestPath(manifestDigest), {}, method)
          assert.strictEqual(status, 200)
          assert.strictEqual(headers["content-type"], manifestType)
          assert.strictEqual(headers["content-length"], `${manifest.length}`)
          assert.strictEqual(headers["docker-content-digest"], manifestDigest)
          assertBytes(body, method === "GET" ? manifest : empty)
        }
        const opaque = yield* ask(manifestPath(digest))
        assert.strictEqual(opaque.headers["content-type"], "application/octet-stream")
        assertBytes(opaque.body, bytes)
      }).pipe(serve)
    )

    it.effect("the blob of no bytes", () =>
      Effect.gen(function* () {
        const whole = yield* ask(blobPath(BlobStore.digestOf(empty)))
        assert.deepStrictEqual([whole.status, whole.headers["content-length"]], [200, "0"])
        const part = yield* ask(blobPath(BlobStore.digestOf(empty)), { range: "bytes=0-" })
        assert.deepStrictEqual([part.status, part.headers["content-range"]], [416, "bytes */0"])
      }).pipe(serve)
    )

    it.effect("one range of a blob", () =>
      Effect.gen(function* () {
        for (const [range, first, last] of [
          ["bytes=0-0", 0, 0],
          ["bytes=100000-199999", 100_000, 199_999],
          ["bytes=299999-", 299_999, 299_999],
          ["bytes=1-", 1, 299_999],
          ["Bytes=299990-400000", 299_990, 299_999],
          ["bytes=-10", 299_990, 299_999],
          ["bytes=-999999999999", 0, 299_999]
        ] as const) {
          const { body, headers, status } = yield* ask(blobPath(digest), { range })
          assert.strictEqual(status, 206, range)
          assert.strictEqual(headers["content-range"], `bytes ${first}-${last}/300000`)
          assert.strictEqual(headers["content-length"], `${last - first + 1}`)
          assertBytes(body, bytes.subarray(first, last + 1))
        }
      }).pipe(serve)
    )

    it.effect("the whole to who asks for several ranges, for none that is valid, or on a condition", () =>
      Effect.gen(function* () {
        for (const range of ["bytes=0-1,5-6", "bytes=5-4", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=0x1-2"]) {
          const { body, headers, status } = yield* ask(blobPath(digest), { range })
          assert.strictEqual(status, 200, range)
          assert.notProperty(headers, "content-range")
          assert.strictEqual(body.length, bytes.length)
        }
        const conditional = yield* ask(blobPath(digest), { range: "bytes=0-1", "if-range": `"other"` })
        assert.strictEqual(conditional.status, 200)
        const head = yield* ask(blobPath(digest), { range: "bytes=0-1" }, "HEAD")
        assert.deepStrictEqual([head.status, head.headers["content-length"]], [200, "300000"])
      }).pipe(serve)
    )
  })

  describe("refuses", () => {
    it.effect("a range that begins after the end", () =>
      Effect.gen(function* () {
        for (const range of ["bytes=300000-", "bytes=300000-300001", "bytes=-0"]) {
          const { body, headers, status } = yield* ask(blobPath(digest), { range })
          assert.strictEqual(status, 416, range)
          assert.strictEqual(headers["content-range"], "bytes */300000")
          assert.strictEqual(errorCode(body), "RANGE_INVALID")
        }
      }).pipe(serve)
    )

    it.effect("with a status and an error of the distribution specification", () =>
      Effect.gen(function* () {
        for (const [path, status, code] of [
          [blobPath(absent), 404, "BLOB_UNKNOWN"],
          [manifestPath(absent), 404, "MANIFEST_UNKNOWN"],
          [manifestPath("latest"), 400, "DIGEST_INVALID"],
          [blobPath(digest.toUpperCase()), 400, "DIGEST_INVALID"],
          [blobPath(`sha512:${"0".repeat(128)}`), 400, "DIGEST_INVALID"],
          [`/v2/gantry/blobs/${digest}/more`, 404, "UNSUPPORTED"],
          [`/v2/gantry/blob/${digest}`, 404, "UNSUPPORTED"],
          ["/v2/", 404, "UNSUPPORTED"],
          ["/v2/gantry/tags/list", 404, "UNSUPPORTED"],
          ["/metrics", 404, "UNSUPPORTED"]
        ] as const) {
          const answer = yield* ask(path)
          assert.strictEqual(answer.status, status, path)
          assert.strictEqual(errorCode(answer.body), code)
          assert.include(answer.headers["content-type"], "application/json")
        }
      }).pipe(serve)
    )

    it.effect("who is no peer, and who wants to do more than read", () =>
      Effect.gen(function* () {
        for (const mark of [{}, { "gantry-mirrored": "true" }] as ReadonlyArray<Record<string, string>>) {
          const answer = yield* ask(blobPath(digest), {}, "GET", mark)
          assert.deepStrictEqual([answer.status, errorCode(answer.body)], [400, "DENIED"])
        }
        for (const method of ["PUT", "POST", "DELETE", "PATCH"] as const) {
          const answer = yield* ask(blobPath(digest), {}, method)
          assert.deepStrictEqual([answer.status, answer.headers.allow], [405, "GET, HEAD"])
        }
      }).pipe(serve)
    )

    it.effect("with 503 while the store is unreachable, and with 500 when it fails otherwise", () => {
      let reason: "Unavailable" | "Failed" = "Unavailable"
      const blobs = layerBlobs([bytes], () => ({
        size: (digest) => Effect.fail(new Store.StoreError({ reason, digest, cause: new Error("secret path") }))
      }))
      return Effect.gen(function* () {
        const unavailable = yield* ask(blobPath(digest))
        assert.deepStrictEqual([unavailable.status, errorCode(unavailable.body)], [503, "UNAVAILABLE"])
        assert.notProperty(unavailable.headers, "retry-after")
        reason = "Failed"
        const failed = yield* ask(blobPath(digest))
        assert.deepStrictEqual([failed.status, errorCode(failed.body)], [500, "UNKNOWN"])
        assert.notInclude(failed.body.toString(), "secret")
      }).pipe(serving(blobs))
    })

    it.effect("the eleventh blob at once, and only that", () =>
      Effect.gen(function* () {
        const held = yield* holding([bytes, manifest])
        yield* Effect.gen(function* () {
          const running = yield* Effect.forkChild(
            Effect.replicateEffect(ask(blobPath(digest)), 10, { concurrency: 10 })
          )
          yield* held.opened(10)
          const refused = yield* ask(blobPath(digest))
          assert.deepStrictEqual([refused.status, errorCode(refused.body)], [503, "TOOMANYREQUESTS"])
          assert.strictEqual(refused.headers["retry-after"], "1")
          assert.strictEqual((yield* ask(blobPath(digest), {}, "HEAD")).status, 200)
          assert.strictEqual((yield* ask(manifestPath(manifestDigest))).status, 200)
          assert.strictEqual((yield* ask(blobPath(absent))).status, 404)
          yield* held.go
          for (const { body } of yield* Fiber.join(running)) assertBytes(body, bytes)
          assert.strictEqual((yield* ask(blobPath(digest))).status, 200)
        }).pipe(serving(held.blobs))
      })
    )

    it.effect("the third large blob at once, under whatever path, and only that", () =>
      Effect.gen(function* () {
        const small = bytesOf(4, 100_000)
        const held = yield* holding([bytes, large, small])
        yield* Effect.gen(function* () {
          const running = yield* Effect.forkChild(
            Effect.all([ask(blobPath(largeDigest)), ask(manifestPath(largeDigest))], { concurrency: 2 })
          )
          yield* held.opened(2)
          for (const path of [blobPath(largeDigest), manifestPath(largeDigest)]) {
            assert.deepStrictEqual((yield* ask(path)).status, 503)
            assert.deepStrictEqual((yield* ask(path, { range: "bytes=0-0" })).status, 503)
            assert.deepStrictEqual((yield* ask(path, {}, "HEAD")).status, 200)
          }
          const smalls = yield* Effect.forkChild(
            Effect.replicateEffect(ask(blobPath(BlobStore.digestOf(small))), 8, { concurrency: 8 })
          )
          yield* held.opened(10)
          yield* held.go
          for (const { body } of yield* Fiber.join(running)) assertBytes(body, large)
          for (const { body } of yield* Fiber.join(smalls)) assertBytes(body, small)
          assert.strictEqual((yield* ask(blobPath(largeDigest), { range: "bytes=0-0" })).status, 206)
        }).pipe(serving(held.blobs, { largeThreshold: 100_000 }))
      })
    )

    it.effect("no more large blobs than are set", () =>
      Effect.gen(function* () {
        const held = yield* holding([bytes])
        yield* Effect.gen(function* () {
          const running = yield* Effect.forkChild(ask(blobPath(digest)))
          yield* held.opened(1)
          assert.strictEqual((yield* ask(blobPath(digest))).status, 503)
          yield* held.go
          yield* Fiber.join(running)
        }).pipe(serving(held.blobs, { largeThreshold: bytes.length - 1, maxConcurrentLarge: 1 }))
      })
    )

    it.effect("the third blob at once to one address, if two are set, and serves others", () =>
      Effect.gen(function* () {
        const held = yield* holding([bytes])
        yield* Effect.gen(function* () {
          const running = yield* Effect.forkChild(Effect.replicateEffect(ask(blobPath(digest)), 2, { concurrency: 2 }))
          yield* held.opened(2)
          assert.strictEqual((yield* ask(blobPath(digest))).status, 503)
          const other = yield* connect(get(blobPath(digest)), "127.0.0.2")
          yield* held.opened(3)
          yield* held.go
          yield* Fiber.join(running)
          assert.isAbove(yield* other.drain, bytes.length)
          assert.strictEqual((yield* ask(blobPath(digest))).status, 200)
        }).pipe(serving(held.blobs, { maxConcurrentPerPeer: 2 }))
      })
    )
  })

  describe("with a client", () => {
    const serveOne = serving(BlobStore.layerMemory([large]), { maxConcurrent: 1 })
    const isFree = Effect.map(ask(blobPath(largeDigest), { range: "bytes=0-0" }), ({ status }) => status === 206)
    const untilTaken = Effect.repeat(isFree, { until: (free) => !free })

    it.effect("that stops reading, frees the slot after 30 seconds", () =>
      Effect.gen(function* () {
        const client = yield* connect(get(blobPath(largeDigest)))
        yield* untilTaken
        // Each time it may be another piece that the client has not read yet.
        const later = Effect.andThen(TestClock.adjust("30 seconds"), isFree)
        assert.isTrue(yield* Effect.repeat(later, { until: (free) => free, times: 100 }))
        assert.isBelow(yield* client.drain, large.length)
      }).pipe(serveOne)
    )

    it.effect("that goes on reading in time, sends all", () =>
      Effect.gen(function* () {
        const client = yield* connect(get(blobPath(largeDigest)))
        yield* untilTaken
        yield* TestClock.adjust("29 seconds")
        assert.isAbove(yield* client.drain, large.length)
        assert.isTrue(yield* isFree)
      }).pipe(serveOne)
    )

    it.effect("that goes away, frees the slot at once", () =>
      Effect.gen(function* () {
        const client = yield* connect(get(blobPath(largeDigest)))
        yield* untilTaken
        client.socket.destroy()
        yield* Effect.repeat(isFree, { until: (free) => free })
      }).pipe(serveOne)
    )

    it.effect("lets it see that a blob broke off", () => {
      const blobs = layerBlobs([bytes], (store) => ({
        open: (digest, range) =>
          Effect.map(
            store.open(digest, range),
            Option.map((blob) => ({
              ...blob,
              runForEach: (use) =>
                Effect.andThen(
                  use(bytes.subarray(0, 1000)),
                  Effect.fail(new Store.StoreError({ reason: "Failed", digest, cause: new Error("bad sector") }))
                )
            }))
          )
      }))
      return Effect.gen(function* () {
        assert.isTrue(Exit.isFailure(yield* Effect.exit(ask(blobPath(digest)))))
        assert.strictEqual((yield* ask(blobPath(digest), {}, "HEAD")).status, 200)
      }).pipe(serving(blobs))
    })
  })

  describe("closes", () => {
    const build = (scope: Scope.Scope) =>
      Layer.buildWithScope(Layer.fresh(BlobEndpoint.layer()).pipe(Layer.provide(BlobStore.layerMemory([large]))), scope)

    it.effect("within its grace, whoever does not read or says nothing", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* build(scope)
        const stuck = yield* Effect.provide(connect(get(blobPath(BlobStore.digestOf(large)))), context)
        const silent = yield* Effect.provide(connect(""), context)
        yield* Effect.callback<void>((resume) => void stuck.socket.once("readable", () => resume(Effect.void)))
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(closing)
        assert.isBelow(yield* stuck.drain, large.length)
        assert.strictEqual(yield* silent.drain, 0)
      })
    )

    it.effect("after the transfers that end within its grace", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* build(scope)
        const client = yield* Effect.provide(connect(get(blobPath(BlobStore.digestOf(large)))), context)
        yield* Effect.callback<void>((resume) => void client.socket.once("readable", () => resume(Effect.void)))
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("4 seconds")
        assert.isAbove(yield* client.drain, large.length)
        yield* Fiber.join(closing)
      })
    )
  })

  describe("publishes", () => {
    const published = (options: BlobEndpoint.Options) =>
      Effect.scoped(
        Effect.map(
          Layer.build(Layer.fresh(BlobEndpoint.layer(options)).pipe(Layer.provide(BlobStore.layerMemory()))),
          (context) => Context.get(context, BlobEndpoint.BlobEndpoint).address
        )
      )

    it.effect("what it is told to announce, with the bound port where no other is named", () =>
      Effect.gen(function* () {
        assert.match(yield* published({}), /^127\.0\.0\.1:[1-9]\d*$/)
        for (const [announce, address] of [
          ["node-1.example.com:5001", /^node-1\.example\.com:5001$/],
          ["192.0.2.7:80", /^192\.0\.2\.7:80$/],
          ["[2001:db8::7]:5001", /^\[2001:db8::7\]:5001$/],
          ["node-1.example.com", /^node-1\.example\.com:[1-9]\d*$/],
          ["2001:db8::7", /^\[2001:db8::7\]:[1-9]\d*$/],
          ["[2001:db8::7]", /^\[2001:db8::7\]:[1-9]\d*$/]
        ] as const) {
          assert.match(yield* published({ announce, host: "0.0.0.0" }), address)
        }
      })
    )

    it.effect("nothing that no peer could use, and says which setting to change", () =>
      Effect.gen(function* () {
        for (const announce of [
          "0.0.0.0",
          "0.0.0.0:5001",
          "[::]:5001",
          "node-1:0",
          "http://node-1:5001",
          "node 1",
          ""
        ]) {
          const error = yield* Effect.flip(published({ announce }))
          assert(error._tag === "BlobEndpointError")
          assert.strictEqual(error.reason._tag, "NothingToPublish", announce)
          assert.include(error.message, "announce")
        }
        const detail = yield* published({ announce: "[::]:1" }).pipe(
          Effect.catchReason("BlobEndpointError", "NothingToPublish", ({ detail }) => Effect.succeed(detail))
        )
        assert.include(detail, "all interfaces")
      })
    )
  })

  it.effect.each([
    "stallTimeout",
    "maxConcurrent",
    "maxConcurrentLarge",
    "largeThreshold",
    "maxConcurrentPerPeer",
    "shutdownGrace"
  ])("is not served where %s cannot be read", (setting) =>
    Effect.gen(function* () {
      const layer = BlobEndpoint.layer({ [setting]: "banana" })
      const error = yield* Effect.flip(Layer.build(Layer.provide(layer, BlobStore.layerMemory())))
      assert(error._tag === "SettingError")
      assert.strictEqual(error.setting, setting)
    })
  )

  it.effect("says where it cannot listen", () =>
    Effect.gen(function* () {
      const { address } = yield* BlobEndpoint.BlobEndpoint
      const taken = BlobEndpoint.layer({ port: Number(address.split(":")[1]) })
      const error = yield* Effect.flip(Layer.build(Layer.fresh(taken).pipe(Layer.provide(BlobStore.layerMemory()))))
      assert(error._tag === "BlobEndpointError")
      assert.strictEqual(error.reason._tag, "CannotListen")
      assert.include(error.message, address)
      assert.include(error.message, "EADDRINUSE")
    }).pipe(serve)
  )
})
