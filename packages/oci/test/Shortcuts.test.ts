import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { digestOf } from "../src/BlobStore.ts"
import { type Answer, type Origin, reply, replyBytes, serve } from "./support/origin.ts"
import {
  authorizationsOf,
  basic,
  client,
  downloadAt,
  identity,
  rangesOf,
  requestsOf
} from "./support/registryClient.ts"

const blob = new TextEncoder().encode("the bytes of a layer")
const digest = digestOf(blob)

const all: Answer = (_, response) => reply(response, 200, {}, blob)
const status =
  (code: number, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    reply(response, code, headers)
const part =
  (first: number, total: number | "*" = blob.length): Answer =>
  (_, response) =>
    reply(response, 206, { "content-range": `bytes ${first}-${blob.length - 1}/${total}` }, blob.subarray(first))

/** Answers whoever asks for a rest in one way, and all others in another. */
const byRange =
  (rest: Answer, whole: Answer): Answer =>
  (request, response, turn) =>
    (request.headers.range === undefined ? whole : rest)(request, response, turn)

const rest = (origin: Origin, size?: number) => downloadAt(origin, digest, "layer", 4, size)

describe("asking for the rest of a blob", () => {
  it.effect.each([
    ["is no request", status(400)],
    ["is forbidden", status(403)],
    ["is said to be of nothing", status(404)],
    ["is of no part that there is", status(416)],
    ["is not implemented", status(501)],
    ["fails", status(500)],
    ["is out of service for no time that it tells", status(503)],
    ["is hung up on", (_, response) => void response.destroy()],
    ["is answered with the beginning", part(0)],
    ["is answered with another part", part(7)],
    ["is answered with a part of something else", part(4, 40)],
    ["is answered with no word on which part comes", (_, response) => reply(response, 206, {}, blob)]
  ] satisfies ReadonlyArray<readonly [string, Answer]>)(
    "where it %s, all of it is asked for at once, and nobody for a rest there for ten minutes",
    ([, onRest]) =>
      Effect.gen(function* () {
        const origin = yield* serve(byRange(onRest, all))
        const { offset, text } = yield* rest(origin, blob.length)
        assert.deepStrictEqual([offset, text], [0, "the bytes of a layer"])
        assert.strictEqual(rangesOf(origin).at(-1), undefined)
        const asked = origin.received.length
        yield* TestClock.adjust("9 minutes")
        yield* rest(origin, blob.length)
        assert.deepStrictEqual(rangesOf(origin).slice(asked), [undefined])
        yield* TestClock.adjust("1 minutes")
        yield* rest(origin, blob.length)
        assert.strictEqual(rangesOf(origin)[asked + 1], "bytes=4-")
      }).pipe(Effect.provide(client()))
  )

  it.effect("goes on at other registries", () =>
    Effect.gen(function* () {
      const unable = yield* serve(byRange(status(400), all))
      const able = yield* serve((request, response) => replyBytes(request, response, blob))
      yield* rest(unable)
      assert.strictEqual((yield* rest(able)).offset, 4)
    }).pipe(Effect.provide(client()))
  )

  it.effect("takes a part of unknown size, and of the size that is known", () =>
    Effect.gen(function* () {
      const vague = yield* serve(part(4, "*"))
      assert.strictEqual((yield* rest(vague, blob.length)).text, "bytes of a layer")
      const exact = yield* serve(part(4))
      assert.strictEqual((yield* rest(exact)).text, "bytes of a layer")
    }).pipe(Effect.provide(client()))
  )

  it.effect.each([
    ["not there", status(404), "NotFound"],
    ["not for us", status(403), "Unauthorized"],
    ["not to be had now", status(500), "Refused"]
  ] as const)("says nothing about rests where the whole is %s", ([, answer, reason]) =>
    Effect.gen(function* () {
      const origin = yield* serve((request, response, turn) =>
        turn < 2 ? answer(request, response, turn) : replyBytes(request, response, blob)
      )
      assert.strictEqual((yield* Effect.flip(rest(origin))).reason._tag, reason)
      assert.deepStrictEqual(rangesOf(origin), ["bytes=4-", undefined])
      assert.strictEqual((yield* rest(origin)).offset, 4)
    }).pipe(Effect.provide(client()))
  )

  it.effect.each([
    ["401", status(401), "Unauthorized"],
    ["429", status(429), "RateLimited"],
    ["503 with a time to wait", status(503, { "retry-after": "5" }), "RateLimited"]
  ] as const)("ends with %s, which says the same of the whole", ([, answer, reason]) =>
    Effect.gen(function* () {
      const origin = yield* serve(answer)
      assert.strictEqual((yield* Effect.flip(rest(origin))).reason._tag, reason)
      assert.strictEqual(origin.received.length, 1)
    }).pipe(Effect.provide(client()))
  )
})

describe("a token that is kept", () => {
  /** A registry that takes every token once, and the service that gives them. */
  const serveOnce = Effect.fnUntraced(function* (onRefusal: Answer) {
    const auth = yield* serve((_, response, turn) =>
      reply(response, 200, {}, JSON.stringify({ token: `token-${turn}`, expires_in: 300 }))
    )
    const taken = new Set<string>()
    const origin = yield* serve((request, response, turn) => {
      const { authorization } = request.headers
      if (authorization === undefined) {
        return reply(response, 401, { "www-authenticate": `Bearer realm="${auth.url}"` })
      }
      if (taken.has(authorization)) return onRefusal(request, response, turn)
      taken.add(authorization)
      return reply(response, 200, {}, blob)
    })
    return { auth, origin }
  })

  it.effect.each([
    ["401 without a word on what it wants", status(401)],
    ["401 and nonsense", status(401, { "www-authenticate": '"' })],
    ["403", status(403)]
  ] as const)("and is refused with %s gives way to a fresh one", ([, onRefusal]) =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveOnce(onRefusal)
      yield* downloadAt(origin, digest)
      assert.strictEqual((yield* downloadAt(origin, digest)).text, "the bytes of a layer")
      assert.deepStrictEqual(authorizationsOf(origin), [
        undefined,
        "Bearer token-0",
        "Bearer token-0",
        "Bearer token-1"
      ])
      assert.strictEqual(auth.received.length, 2)
    }).pipe(Effect.provide(client()))
  )

  it.effect("gives way once: then the refusal is the registry's verdict", () =>
    Effect.gen(function* () {
      const auth = yield* serve((_, response, turn) =>
        reply(response, 200, {}, JSON.stringify({ token: `token-${turn}` }))
      )
      const origin = yield* serve((request, response, turn) =>
        request.headers.authorization === undefined
          ? reply(response, 401, { "www-authenticate": `Bearer realm="${auth.url}"` })
          : turn === 1
            ? reply(response, 200, {}, blob)
            : reply(response, 403)
      )
      yield* downloadAt(origin, digest)
      const error = yield* Effect.flip(downloadAt(origin, digest))
      assert.deepStrictEqual([error.reason._tag, error.failureClass, error.status], ["Unauthorized", "auth", 403])
      assert.deepStrictEqual([origin.received.length, auth.received.length], [4, 2])
    }).pipe(Effect.provide(client()))
  )

  it.effect("is no password: the same one is not shown twice", () =>
    Effect.gen(function* () {
      const origin = yield* serve((request, response, turn) =>
        request.headers.authorization === undefined || turn > 1
          ? reply(response, 401, { "www-authenticate": "Basic" })
          : reply(response, 200, {}, blob)
      )
      yield* Effect.gen(function* () {
        yield* downloadAt(origin, digest)
        yield* Effect.flip(downloadAt(origin, digest))
      }).pipe(Effect.provide(client([origin, basic("me", "secret")])))
      assert.strictEqual(origin.received.length, 3)
    })
  )
})

/** Answers the first request on each connection, and the others in another way. */
const firstOnly = (onKept: Answer): Answer => {
  const known = new Set<number | undefined>()
  return (request, response, turn) => {
    if (known.has(request.port)) return onKept(request, response, turn)
    known.add(request.port)
    reply(response, 200, {}, blob)
  }
}
const hangUp: Answer = (_, response) => void response.destroy()

describe("a connection that is kept", () => {
  it.effect("and broken by its server is replaced by a new one, every time", () =>
    Effect.gen(function* () {
      const origin = yield* serve(firstOnly(hangUp))
      for (let count = 0; count < 5; count++) {
        assert.strictEqual((yield* downloadAt(origin, digest)).text, "the bytes of a layer")
      }
    }).pipe(Effect.provide(client()))
  )

  it.effect("is replaced once: a server that breaks them all cannot be reached", () =>
    Effect.gen(function* () {
      const origin = yield* serve(hangUp)
      const error = yield* Effect.flip(downloadAt(origin, digest))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["Unreachable", "transient"])
      assert.strictEqual(origin.received.length, 2)
    }).pipe(Effect.provide(client()))
  )

  it.effect("and breaks under a refresh token is not: the token may have been traded", () =>
    Effect.gen(function* () {
      const auth = yield* serve(hangUp)
      const origin = yield* serve(status(401, { "www-authenticate": `Bearer realm="${auth.url}"` }))
      const error = yield* Effect.flip(downloadAt(origin, digest)).pipe(
        Effect.provide(client([origin, identity("refresh me")]))
      )
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.deepStrictEqual(requestsOf(auth), ["POST /"])
    })
  )

  it.effect("and silent for 10 seconds is not used again", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const origin = yield* serve(firstOnly(() => Deferred.doneUnsafe(asked, Effect.void)))
      yield* Effect.all([downloadAt(origin, digest), downloadAt(origin, digest)], { concurrency: 2 })
      const ports = new Set(origin.received.map(({ port }) => port))
      const fiber = yield* Effect.forkChild(Effect.flip(downloadAt(origin, digest)), { startImmediately: true })
      yield* Deferred.await(asked)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "TimedOut")
      // Another one is kept, and would be silent as well.
      const again = yield* Effect.all([downloadAt(origin, digest), downloadAt(origin, digest)], { concurrency: 2 })
      assert.deepStrictEqual(
        again.map(({ text }) => text),
        ["the bytes of a layer", "the bytes of a layer"]
      )
      for (const { port } of origin.received.slice(-2)) assert.isFalse(ports.has(port))
    }).pipe(Effect.provide(client()))
  )
})
