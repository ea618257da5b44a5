import * as Http from "node:http"
import * as Http2 from "node:http2"
import type * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { BlobEndpoint, BlobStore } from "@gantry/oci"
import type { Digest } from "@gantry/protocol"
import { Context, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import { TestClock } from "effect/testing"
import { layerBlobs } from "./support/blobs.ts"
import { bytesOf } from "./support/bytes.ts"
import * as H2c from "./support/h2c.ts"

const bytes = bytesOf(1, 300_000)
const digest = BlobStore.digestOf(bytes)
const absent = BlobStore.digestOf(bytesOf(2, 10))

/** More than the buffers between two sockets take. */
const large = Buffer.alloc(24 * 1024 * 1024, bytesOf(3, 1000))
const largeDigest = BlobStore.digestOf(large)

/** As a store reads it from disk. */
const pieceSize = 256 * 1024

const pathOf = (of: Digest, name = "_") => `/v2/${name}/blobs/${of}`

/** Runs a test against an endpoint that ends after the test's clients. */
const servingBlobs =
  (blobs: Layer.Layer<BlobStore.BlobStore>, options?: BlobEndpoint.Options) =>
  <A, E>(test: Effect.Effect<A, E, BlobEndpoint.BlobEndpoint | Scope.Scope>) =>
    Effect.provide(Effect.scoped(test), Layer.fresh(BlobEndpoint.layer(options)).pipe(Layer.provide(blobs)))
const serving = (options?: BlobEndpoint.Options) => servingBlobs(BlobStore.layerMemory([bytes, large]), options)

const address = BlobEndpoint.BlobEndpoint.use((endpoint) => Effect.succeed(endpoint.address))

/** A connection to this test's endpoint. */
const connect = (options?: Http2.ClientSessionOptions) => Effect.flatMap(address, (at) => H2c.connect(at, options))
const connectSocket = Effect.flatMap(address, H2c.connectSocket)

const assertBytes = (actual: Uint8Array, expected: Uint8Array) =>
  assert.strictEqual(BlobStore.digestOf(actual), BlobStore.digestOf(expected))

/** Writes, and waits until the operating system has it. */
const write = (socket: Net.Socket, data: string | Uint8Array) =>
  Effect.callback<void>((resume) => void socket.write(data, () => resume(Effect.void)))

/** All that comes until the connection ends. */
const readAll = (socket: Net.Socket) =>
  Effect.callback<Buffer>((resume) => {
    const chunks: Array<Uint8Array> = []
    socket.on("data", (chunk) => chunks.push(chunk))
    socket.once("close", () => resume(Effect.succeed(Buffer.concat(chunks))))
    socket.resume()
  })

/** Whether the endpoint serves a stranger to the connections of the test. */
const isServing = Effect.scoped(
  Effect.map(
    Effect.flatMap(connect(), (session) => H2c.ask(session, pathOf(digest), { range: "bytes=0-0" })),
    ({ status }) => status === 206
  )
)

describe("over h2c", () => {
  it.effect("an endpoint answers as over HTTP/1.1", () =>
    Effect.gen(function* () {
      const session = yield* connect()
      const whole = yield* H2c.ask(session, pathOf(digest))
      assert.deepStrictEqual([whole.status, whole.headers["content-length"], whole.code], [200, "300000", 0])
      assert.strictEqual(whole.headers["docker-content-digest"], digest)
      assertBytes(whole.body, bytes)

      const head = yield* H2c.ask(session, pathOf(digest), { ":method": "HEAD" })
      assert.deepStrictEqual([head.status, head.headers["content-length"], head.body.length], [200, "300000", 0])

      const part = yield* H2c.ask(session, pathOf(digest), { range: "bytes=100000-199999" })
      assert.deepStrictEqual([part.status, part.headers["content-range"]], [206, "bytes 100000-199999/300000"])
      assertBytes(part.body, bytes.subarray(100_000, 200_000))

      const beyond = yield* H2c.ask(session, pathOf(digest), { range: "bytes=300000-" })
      assert.deepStrictEqual([beyond.status, beyond.headers["content-range"]], [416, "bytes */300000"])
      assert.strictEqual((yield* H2c.ask(session, pathOf(absent))).status, 404)
      assert.strictEqual((yield* H2c.ask(session, pathOf(absent), { ":method": "HEAD" })).status, 404)
      assert.strictEqual((yield* H2c.ask(session, pathOf(digest), { "gantry-mirrored": "0" })).status, 400)
    }).pipe(serving())
  )

  it.effect("one connection carries many blobs at once", () =>
    Effect.gen(function* () {
      const session = yield* connect()
      const answers = yield* Effect.replicateEffect(H2c.ask(session, pathOf(digest)), 10, { concurrency: 10 })
      for (const { body } of answers) assertBytes(body, bytes)
    }).pipe(serving())
  )

  it.effect("busy is 429 and says when to come back, where HTTP/1.1 has 503", () =>
    Effect.gen(function* () {
      const session = yield* connect({ settings: { initialWindowSize: 0 } })
      yield* H2c.headersOf(H2c.open(session, pathOf(digest)))
      const refused = yield* Effect.flatMap(connect(), (other) => H2c.ask(other, pathOf(digest)))
      assert.deepStrictEqual([refused.status, refused.headers["retry-after"]], [429, "1"])
      const at = yield* address
      const status = yield* Effect.callback<number | undefined>((resume) => {
        const headers = { "gantry-mirrored": "1" }
        Http.get(`http://${at}${pathOf(digest)}`, { headers }, (response) => {
          response.resume()
          resume(Effect.succeed(response.statusCode))
        })
      })
      assert.strictEqual(status, 503)
    }).pipe(serving({ maxConcurrent: 1 }))
  )

  it.effect("a body that cannot go out frees its slot after 30 seconds, and the connection goes on", () =>
    Effect.gen(function* () {
      const session = yield* connect({ settings: { initialWindowSize: 0 } })
      const stuck = H2c.open(session, pathOf(digest))
      assert.strictEqual((yield* H2c.headersOf(stuck))[":status"], 200)
      const refusal = H2c.open(session, pathOf(absent))
      yield* H2c.headersOf(refusal)
      assert.isFalse(yield* isServing)
      const ends = yield* Effect.forkChild(Effect.forEach([stuck, refusal], H2c.drain, { concurrency: 2 }), {
        startImmediately: true
      })
      yield* TestClock.adjust("30 seconds")
      for (const { body, code } of yield* Fiber.join(ends)) {
        assert.deepStrictEqual([body.length, code], [0, Http2.constants.NGHTTP2_INTERNAL_ERROR])
      }
      const next = yield* H2c.ask(session, pathOf(digest), { ":method": "HEAD" })
      assert.strictEqual(next.status, 200)
      assert.isTrue(yield* isServing)
    }).pipe(serving({ maxConcurrent: 1 }))
  )

  it.effect("a client that reads nothing pins a piece of each blob, and not its connection", () => {
    let taken = 0
    const blobs = layerBlobs([large], (store) => ({
      open: (digest, range) =>
        Effect.map(
          store.open(digest, range),
          Option.map((blob) => ({
            ...blob,
            runForEach: (use) =>
              Effect.forEach(
                Array.from({ length: 96 }, (_, index) => large.subarray(index * pieceSize, (index + 1) * pieceSize)),
                (piece) => {
                  taken += piece.length
                  return use(piece)
                },
                { discard: true }
              )
          }))
        )
    }))
    return Effect.gen(function* () {
      const socket = yield* connectSocket
      const requests = Array.from({ length: 10 }, (_, index) => H2c.get(2 * index + 1, pathOf(largeDigest)))
      yield* write(socket, Buffer.concat([H2c.beginning, H2c.wideOpen, ...requests]))
      const isFree = Effect.flatMap(connect(), (other) =>
        H2c.ask(other, pathOf(largeDigest), { range: "bytes=0-0" })
      ).pipe(
        Effect.scoped,
        Effect.map(({ status }) => status === 206)
      )
      yield* Effect.repeat(isFree, { until: (free) => !free })
      const later = Effect.andThen(TestClock.adjust("30 seconds"), isFree)
      assert.isTrue(yield* Effect.repeat(later, { until: (free) => free, times: 100 }))
      assert.isBelow(taken, large.length)
      yield* TestClock.adjust("30 seconds")
      socket.resume()
      yield* H2c.closed(socket)
    }).pipe(servingBlobs(blobs, { maxConcurrentLarge: 10 }))
  })

  it.effect("a client that goes away frees the slot at once", () =>
    Effect.gen(function* () {
      const session = yield* connect({ settings: { initialWindowSize: 0 } })
      for (const leave of [
        (stream: Http2.ClientHttp2Stream) => stream.close(Http2.constants.NGHTTP2_CANCEL),
        () => session.destroy()
      ]) {
        const stream = H2c.open(session, pathOf(digest))
        yield* H2c.headersOf(stream)
        assert.isFalse(yield* isServing)
        leave(stream)
        yield* Effect.repeat(isServing, { until: (serving) => serving })
      }
    }).pipe(serving({ maxConcurrent: 1 }))
  )
})

describe("one port", () => {
  const http1 = `GET ${pathOf(digest)} HTTP/1.1\r\nHost: peer\r\nGantry-Mirrored: 1\r\nConnection: close\r\n\r\n`

  /** Byte by byte, each on its way before the next. */
  const dribble = Effect.fnUntraced(function* (socket: Net.Socket, data: Uint8Array) {
    socket.setNoDelay(true)
    for (const byte of data) yield* write(socket, Uint8Array.of(byte))
  })

  it.effect("tells the protocols apart by their first bytes, however they come", () =>
    Effect.gen(function* () {
      const first = yield* connectSocket
      yield* dribble(first, Buffer.from(http1))
      assertBytes((yield* readAll(first)).subarray(-bytes.length), bytes)

      const second = yield* connectSocket
      yield* dribble(second, H2c.beginning)
      second.resume()
      const settings = yield* Effect.callback<Buffer>((resume) => {
        second.once("data", (chunk) => resume(Effect.succeed(chunk)))
      })
      assert.strictEqual(settings[3], 4)
    }).pipe(serving())
  )

  it.effect("answers over HTTP/1.1 who would rather upgrade", () =>
    Effect.gen(function* () {
      for (const upgrade of ["h2c", "websocket"]) {
        const socket = yield* connectSocket
        const ask = `Connection: Upgrade, HTTP2-Settings\r\nUpgrade: ${upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__`
        yield* write(socket, http1.replace("Connection: close", ask))
        const head = yield* Effect.callback<string>((resume) => {
          socket.once("data", (chunk) => resume(Effect.succeed(chunk.toString("latin1"))))
          socket.resume()
        })
        assert.match(head, /^HTTP\/1.1 200 /, upgrade)
      }
    }).pipe(serving())
  )

  it.effect("has no room for what is neither", () =>
    Effect.gen(function* () {
      for (const noise of ["PRIVATE\r\n\r\n", "\u0016\u0003\u0001", "PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"]) {
        const socket = yield* connectSocket
        yield* write(socket, noise)
        const answer = yield* readAll(socket)
        assert.notInclude(answer.toString("latin1"), " 200 ")
      }
      assert.isTrue(yield* isServing)
    }).pipe(serving())
  )

  it.effect("is closed to who says nothing for 10 seconds", () =>
    Effect.gen(function* () {
      for (const said of ["", "PR"]) {
        const socket = yield* connectSocket
        socket.resume()
        yield* write(socket, said)
        assert.isTrue(yield* isServing)
        yield* TestClock.adjust("9 seconds")
        assert.isTrue(yield* isServing)
        assert.isFalse(socket.destroyed)
        yield* TestClock.adjust("1 seconds")
        yield* H2c.closed(socket)
      }
    }).pipe(serving())
  )

  it.effect("is closed at once by who ends its side before a request", () =>
    Effect.gen(function* () {
      for (const said of [Buffer.alloc(0), Buffer.from("PR"), H2c.beginning]) {
        const socket = yield* connectSocket
        socket.resume()
        yield* write(socket, said)
        socket.end()
        yield* H2c.closed(socket)
      }
    }).pipe(serving())
  )
})

describe("an h2c connection", () => {
  it.effect("ends when it has had no request for too long, and not while one is served", () =>
    Effect.gen(function* () {
      const session = yield* connect()
      yield* H2c.ask(session, pathOf(digest))
      const stuck = yield* connect({ settings: { initialWindowSize: 0 } })
      yield* H2c.headersOf(H2c.open(stuck, pathOf(digest)))
      yield* TestClock.adjust("20 seconds")
      yield* H2c.closed(session)
      assert.isFalse(stuck.closed)
    }).pipe(serving())
  )

  it.effect("has at most 100 streams", () =>
    Effect.gen(function* () {
      const session = yield* connect({ settings: { initialWindowSize: 0 }, peerMaxConcurrentStreams: 1000 })
      assert.isTrue(yield* isServing)
      assert.strictEqual(session.remoteSettings.maxConcurrentStreams, 100)
    }).pipe(serving())
  )

  it.effect("takes no more than 16 KiB of headers for a request", () =>
    Effect.gen(function* () {
      const session = yield* connect()
      assert.isTrue(yield* isServing)
      const stream = H2c.open(session, pathOf(digest), { "x-long": "a".repeat(20_000) })
      const { code } = yield* H2c.drain(stream)
      assert.notStrictEqual(code, Http2.constants.NGHTTP2_NO_ERROR)
      const small = H2c.open(
        session,
        pathOf(digest),
        Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`x-${index}`, "a"]))
      )
      assert.notStrictEqual((yield* H2c.drain(small)).code, Http2.constants.NGHTTP2_NO_ERROR)
      assert.isTrue(yield* isServing)
    }).pipe(serving())
  )

  it.effect("ends for a client that opens and resets streams without end", () =>
    Effect.gen(function* () {
      const session = yield* connect()
      assert.isTrue(yield* isServing)
      let sent = 0
      const flood = Effect.sync(() => {
        for (let index = 0; index < 50 && !session.closed && !session.destroyed; index++) {
          H2c.open(session, pathOf(digest)).close(Http2.constants.NGHTTP2_CANCEL)
          sent++
        }
      })
      yield* Effect.repeat(
        Effect.andThen(
          flood,
          Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
        ),
        { until: () => session.closed || session.destroyed }
      )
      assert.isBelow(sent, 500)
      assert.isTrue(yield* isServing)
    }).pipe(serving({ maxConcurrent: 1 }))
  )

  it.effect("ends for a client that floods it, whether or not it reads the answers", () =>
    Effect.gen(function* () {
      const repeated = (frame: Uint8Array) => () => frame
      const headers = H2c.get(1, pathOf(digest)).fill(0x1, 4, 5)
      let stream = 1
      const floods: Record<string, { readonly first?: Uint8Array; readonly next: () => Uint8Array }> = {
        settings: { next: repeated(H2c.frame(4, 0, 0)) },
        pings: { next: repeated(H2c.frame(6, 0, 0, new Uint8Array(8))) },
        "headers that do not end": { first: headers, next: repeated(H2c.frame(9, 0, 1, Uint8Array.of(0x82))) },
        "requests that the server has to reset": {
          next: () => {
            stream += 2
            return Buffer.concat([H2c.get(stream, pathOf(digest)), H2c.frame(8, 0, stream, new Uint8Array(4))])
          }
        }
      }
      for (const [name, { first, next }] of Object.entries(floods)) {
        for (const isRead of [false, true]) {
          const socket = yield* connectSocket
          if (isRead) socket.resume()
          yield* write(socket, Buffer.concat([H2c.beginning, first ?? Buffer.alloc(0)]))
          const many = Effect.suspend(() => write(socket, Buffer.concat(Array.from({ length: 1000 }, next))))
          yield* Effect.raceFirst(Effect.forever(many), H2c.closed(socket))
          assert.isTrue(yield* isServing, name)
        }
      }
    }).pipe(serving({ maxConcurrent: 1 }))
  )

  it.effect("is told of the end of the endpoint, and what is on its way arrives", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const layer = Layer.fresh(BlobEndpoint.layer()).pipe(Layer.provide(BlobStore.layerMemory([large])))
      const context = yield* Layer.buildWithScope(layer, scope)
      const at = Context.get(context, BlobEndpoint.BlobEndpoint).address
      const idle = yield* H2c.connect(at)
      const busy = yield* H2c.connect(at)
      const stream = H2c.open(busy, pathOf(largeDigest))
      yield* H2c.headersOf(stream)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* H2c.closed(idle)
      const { body, code } = yield* H2c.drain(stream)
      assert.deepStrictEqual([body.length, code], [large.length, 0])
      yield* Fiber.join(closing)
    })
  )

  it.effect("does not hold the end of the endpoint up beyond its grace", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const layer = Layer.fresh(BlobEndpoint.layer()).pipe(Layer.provide(BlobStore.layerMemory([large])))
      const context = yield* Layer.buildWithScope(layer, scope)
      const stuck = yield* H2c.connect(Context.get(context, BlobEndpoint.BlobEndpoint).address, {
        settings: { initialWindowSize: 0 }
      })
      yield* H2c.headersOf(H2c.open(stuck, pathOf(largeDigest)))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      yield* H2c.closed(stuck)
    })
  )
})
