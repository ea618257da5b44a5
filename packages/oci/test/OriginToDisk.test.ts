import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Inflight, Metrics, NegativeCache, PullLog, Pump } from "@gantry/coord"
import { Deferred, Effect, Exit, FileSystem, Layer, Queue, Redacted, Scope, Stream } from "effect"
import * as BlobStore from "../src/BlobStore.ts"
import * as Credentials from "../src/Credentials.ts"
import * as ImageLayout from "../src/ImageLayout.ts"
import * as OriginPump from "../src/OriginPump.ts"
import * as RegistryClient from "../src/RegistryClient.ts"
import { bytesOf } from "./support/bytes.ts"
import { type Origin, pathOf, refAt, reply, replyBytes, replyCut, serve } from "./support/origin.ts"
import { layerHttp } from "./support/registryHttp.ts"

const bytes = bytesOf(1, 2_000_000)
const digest = BlobStore.digestOf(bytes)

/** A pump over real sockets and files, until the test or its own scope ends. */
const bench = Effect.fnUntraced(function* (
  origin: Origin,
  options: {
    readonly credential?: Credentials.Credential
    readonly pump?: OriginPump.Options
    readonly onAppend?: Effect.Effect<void>
  } = {}
) {
  const files = yield* FileSystem.FileSystem
  const directory = yield* files.makeTempDirectoryScoped()
  const scope = yield* Scope.fork(yield* Effect.scope)
  const store = Layer.effect(
    BlobStore.BlobStore,
    Effect.map(BlobStore.BlobStore, (store) => ({
      ...store,
      writer: (...parameters: Parameters<typeof store.writer>) =>
        Effect.map(store.writer(...parameters), (writer) => ({
          ...writer,
          append: (chunk: Uint8Array) => Effect.andThen(writer.append(chunk), options.onAppend ?? Effect.void)
        }))
    }))
  ).pipe(Layer.provideMerge(ImageLayout.layer({ directory })))
  const credentials =
    options.credential === undefined
      ? Credentials.layerNone
      : Credentials.layerMemory({ [origin.registry]: options.credential })
  const context = yield* Layer.buildWithScope(
    OriginPump.layer(options.pump).pipe(
      Layer.provide(RegistryClient.layer().pipe(Layer.provide([layerHttp(), credentials]))),
      Layer.provideMerge(Layer.mergeAll(store, Inflight.layer, NegativeCache.layer())),
      Layer.provide(Metrics.layerNoop)
    ),
    scope
  )
  const records = yield* Queue.unbounded<PullLog.PullRecord>()
  const { pulls } = yield* Effect.provide(PullLog.PullLog, context)
  yield* Effect.forkScoped(
    Stream.runForEach(pulls, (record) => Queue.offer(records, record)),
    { startImmediately: true }
  )
  const request: Pump.PullRequest = {
    ref: refAt(origin, digest),
    kind: "layer",
    reason: { rule: "designated", requester: "node-1", rank: 0 }
  }
  return {
    pull: Effect.provide(
      Pump.Pump.use((pump) => pump.pull(request)),
      context
    ),
    next: Queue.take(records),
    has: Effect.provide(
      BlobStore.BlobStore.use((store) => store.has(digest)),
      context
    ),
    content: files.readFile(`${directory}/blobs/sha256/${digest.slice(7)}`),
    /** Every file that might hold some of the bytes. */
    leftovers: Effect.flatMap(files.readDirectory(directory, { recursive: true }), (paths) =>
      Effect.filter(
        paths.filter((path) => path !== "oci-layout" && path !== "index.json"),
        (path) => Effect.map(files.stat(`${directory}/${path}`), ({ type }) => type === "File")
      )
    ),
    close: Scope.close(scope, Exit.void)
  }
})

describe("a pull to disk", () => {
  it.live("authenticates, follows to the storage, and happens once for a hundred who ask", () =>
    Effect.gen(function* () {
      const storage = yield* serve((request, response) => replyBytes(request, response, bytes))
      const auth = yield* serve((_, response) => reply(response, 200, {}, JSON.stringify({ token: "token" })))
      const origin = yield* serve((request, response) =>
        request.headers.authorization === "Bearer token"
          ? reply(response, 307, { location: `${storage.url}/layer` })
          : reply(response, 401, { "www-authenticate": `Bearer realm="${auth.url}",service="s"` })
      )
      const credential = Credentials.Credential.Basic({ username: "me", password: Redacted.make("secret") })
      const { content, has, next, pull } = yield* bench(origin, { credential })
      yield* Effect.all(
        Array.from({ length: 100 }, () => pull),
        { concurrency: "unbounded" }
      )
      const record = yield* next
      assert.deepStrictEqual([record.outcome._tag, record.bytes], ["Stored", bytes.length])
      assert.isTrue(yield* has)
      assert.isTrue(Buffer.from(bytes).equals(yield* content))
      assert.deepStrictEqual(
        [origin, auth, storage].map(({ received }) => received.length),
        [2, 1, 1]
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("goes on by Range after the connection was cut", () =>
    Effect.gen(function* () {
      const cut = Promise.withResolvers<void>()
      const origin = yield* serve((request, response, turn) =>
        turn === 0 ? replyCut(response, bytes, 1_500_000, cut.promise) : replyBytes(request, response, bytes)
      )
      let appended = 0
      const { content, next, pull } = yield* bench(origin, {
        onAppend: Effect.sync(() => {
          if (appended++ === 0) cut.resolve()
        })
      })
      yield* pull
      const record = yield* next
      assert.deepStrictEqual(record.outcome, PullLog.PullOutcome.Stored())
      assert.isTrue(Buffer.from(bytes).equals(yield* content))
      const [first, second] = origin.received
      assert.strictEqual(first?.headers.range, undefined)
      const from = Number(/^bytes=(\d+)-$/.exec(second?.headers.range ?? "")?.[1])
      assert.isAbove(from, 0)
      assert.strictEqual(second?.url, pathOf(digest))
      // No byte came twice.
      assert.strictEqual(record.bytes, bytes.length)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("leaves nothing of wrong bytes", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => reply(response, 200, {}, bytesOf(2, bytes.length)))
      const { has, leftovers, next, pull } = yield* bench(origin)
      yield* pull
      const { outcome } = yield* next
      assert.strictEqual(outcome._tag === "Failed" && outcome.failureClass, "transient")
      assert.isFalse(yield* has)
      assert.deepStrictEqual(yield* leftovers, [])
      assert.strictEqual(origin.received.length, 2)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("leaves nothing half-written when the node shuts down, and lets go of the connection", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const gone = yield* Deferred.make<void>()
      const origin = yield* serve((_, response) => {
        response.on("close", () => Deferred.doneUnsafe(gone, Effect.void))
        response.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, 1_000_000))
      })
      const { close, leftovers, next, pull } = yield* bench(origin, {
        pump: { shutdownGrace: "1 millis" },
        onAppend: Effect.asVoid(Deferred.succeed(begun, undefined))
      })
      yield* pull
      yield* Deferred.await(begun)
      assert.isAbove((yield* leftovers).length, 0)
      yield* close
      assert.strictEqual((yield* next).outcome._tag, "Interrupted")
      assert.deepStrictEqual(yield* leftovers, [])
      yield* Deferred.await(gone)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
