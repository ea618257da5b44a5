import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { digestOf } from "../src/BlobStore.ts"
import * as RegistryClient from "../src/RegistryClient.ts"
import { type Answer, pathOf, reply, replyBytes, repository, serve } from "./support/origin.ts"
import { authorizationsOf, basic, client, downloadAt, rangesOf, requestsOf } from "./support/registryClient.ts"

const blob = new TextEncoder().encode("the bytes of a layer")
const digest = digestOf(blob)
const path = pathOf(digest)

/** A registry that redirects to storage under another URL each time. */
const serveBoth = Effect.fnUntraced(function* (answer: Answer) {
  const storage = yield* serve(answer)
  const origin = yield* serve((_, response, turn) =>
    reply(response, 307, { location: `${storage.url}/signed?${turn}` })
  )
  return { origin, storage }
})

describe("storage that a registry redirects to", () => {
  it.effect.each([[400], [401], [403], [404], [410]] as const)(
    "may refuse an expired URL with %d: the next is good",
    ([status]) =>
      Effect.gen(function* () {
        const { origin, storage } = yield* serveBoth((_, response, turn) =>
          turn < 2 ? reply(response, status) : reply(response, 200, {}, blob)
        )
        const { text } = yield* downloadAt(origin, digest)
        assert.strictEqual(text, "the bytes of a layer")
        assert.deepStrictEqual(requestsOf(origin), [`GET ${path}`, `GET ${path}`, `GET ${path}`])
        assert.deepStrictEqual(requestsOf(storage), ["GET /signed?0", "GET /signed?1", "GET /signed?2"])
        // Somebody between may keep the redirect for others.
        const asked = origin.received.map(({ headers }) => headers["cache-control"])
        assert.deepStrictEqual(asked, [undefined, "no-cache", "no-cache"])
      }).pipe(Effect.provide(client()))
  )

  it.effect.each([[400], [401], [403], [404], [410]] as const)(
    "gives no verdict on the image by %d, and no reason to log in",
    ([status]) =>
      Effect.gen(function* () {
        const { origin, storage } = yield* serveBoth((_, response) => reply(response, status))
        const error = yield* Effect.flip(downloadAt(origin, digest))
        assert.deepStrictEqual(
          [error.reason._tag, error.failureClass, error.status],
          ["StorageRefused", "transient", status]
        )
        assert.include(error.message, `redirected to ${storage.url}, which answered ${status}`)
        assert.notInclude(error.message, "log in")
        assert.notInclude(error.message, "credentials")
        assert.notInclude(error.message, "signed")
        assert.strictEqual(storage.received.length, 3)
      }).pipe(Effect.provide(client()))
  )

  it.effect.each([
    [429, { "retry-after": "7" }, Duration.seconds(7)],
    [429, {}, undefined],
    [503, { "retry-after": "7" }, Duration.seconds(7)],
    [500, {}, undefined]
  ] as const)("is not asked again after %d, which is not the registry's word either", ([status, headers, retryAfter]) =>
    Effect.gen(function* () {
      const { origin, storage } = yield* serveBoth((_, response) => reply(response, status, headers))
      const error = yield* Effect.flip(downloadAt(origin, digest))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["StorageRefused", "transient"])
      assert.deepStrictEqual(error.retryAfter, retryAfter)
      assert.strictEqual(storage.received.length, 1)
    }).pipe(Effect.provide(client()))
  )

  it.effect("leaves the verdict to the registry when that is asked again", () =>
    Effect.gen(function* () {
      const storage = yield* serve((_, response) => reply(response, 404))
      const origin = yield* serve((_, response, turn) =>
        turn === 0 ? reply(response, 307, { location: `${storage.url}/x` }) : reply(response, 404)
      )
      const error = yield* Effect.flip(downloadAt(origin, digest))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["NotFound", "not_found"])
      assert.deepStrictEqual([origin.received.length, storage.received.length], [2, 1])
    }).pipe(Effect.provide(client()))
  )

  it.effect("may hold manifests too: a tag there is asked for again, by HEAD and by GET", () =>
    Effect.gen(function* () {
      const { origin, storage } = yield* serveBoth((_, response) => reply(response, 404))
      const registry = yield* RegistryClient.RegistryClient
      const error = yield* Effect.flip(registry.resolve(origin.registry, repository, RegistryClient.Tag.make("latest")))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["StorageRefused", "transient"])
      const methods = storage.received.map(({ method }) => method)
      assert.deepStrictEqual(methods, ["HEAD", "HEAD", "HEAD", "GET", "GET", "GET"])
    }).pipe(Effect.provide(client()))
  )

  it.effect("is asked for the same rest of a blob by the next URL", () =>
    Effect.gen(function* () {
      const { origin, storage } = yield* serveBoth((request, response, turn) =>
        turn === 0 ? reply(response, 403) : replyBytes(request, response, blob)
      )
      const { offset, text } = yield* downloadAt(origin, digest, "layer", 4)
      assert.deepStrictEqual([offset, text], [4, "bytes of a layer"])
      assert.deepStrictEqual(rangesOf(storage), ["bytes=4-", "bytes=4-"])
    }).pipe(Effect.provide(client()))
  )

  it.effect("that refuses whoever asks for a rest is asked for the whole, and three times in all", () =>
    Effect.gen(function* () {
      const { origin, storage } = yield* serveBoth((request, response) =>
        request.headers.range === undefined ? reply(response, 200, {}, blob) : reply(response, 403)
      )
      const { offset, text } = yield* downloadAt(origin, digest, "layer", 4)
      assert.deepStrictEqual([offset, text], [0, "the bytes of a layer"])
      assert.deepStrictEqual(rangesOf(storage), ["bytes=4-", "bytes=4-", undefined])
    }).pipe(Effect.provide(client()))
  )

  it.effect("that refuses everybody is asked three times, also for a rest", () =>
    Effect.gen(function* () {
      const { origin, storage } = yield* serveBoth((_, response) => reply(response, 403))
      const error = yield* Effect.flip(downloadAt(origin, digest, "layer", 4))
      assert.strictEqual(error.reason._tag, "StorageRefused")
      assert.deepStrictEqual(rangesOf(storage), ["bytes=4-", "bytes=4-", undefined])
    }).pipe(Effect.provide(client()))
  )

  it.effect("is asked by the credentials of the registry alone, however often", () =>
    Effect.gen(function* () {
      const storage = yield* serve((_, response) => reply(response, 403))
      const origin = yield* serve((request, response) =>
        request.headers.authorization === undefined
          ? reply(response, 401, { "www-authenticate": "Basic" })
          : reply(response, 307, { location: `${storage.url}/x` })
      )
      yield* Effect.flip(downloadAt(origin, digest)).pipe(Effect.provide(client([origin, basic("me", "secret")])))
      assert.deepStrictEqual(authorizationsOf(storage), [undefined, undefined, undefined])
      const shown = authorizationsOf(origin)
      assert.deepStrictEqual(
        shown.map((value) => value !== undefined),
        [false, true, true, true]
      )
    })
  )

  it.effect("costs the registry no connection more, also if the body of a redirect comes late", () =>
    Effect.gen(function* () {
      const storage = yield* serve((_, response) => reply(response, 200, {}, blob))
      const origin = yield* serve((_, response) => {
        response.writeHead(307, { location: `${storage.url}/x` }).flushHeaders()
        // The head is on its way alone.
        setImmediate(() => setImmediate(() => response.end("<a>moved</a>")))
      })
      for (let count = 0; count < 5; count++) yield* downloadAt(origin, digest)
      assert.strictEqual(new Set(origin.received.map(({ port }) => port)).size, 1)
    }).pipe(Effect.provide(client()))
  )
})
