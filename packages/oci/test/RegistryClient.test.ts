import { assert, describe, it } from "@effect/vitest"
import { type ContentKind, OriginRef, Registry } from "@gantry/protocol"
import { Deferred, Duration, Effect, Fiber, Layer, Option, Result, Stream } from "effect"
import { HttpClient, HttpClientError, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { digestOf } from "../src/BlobStore.ts"
import * as Credentials from "../src/Credentials.ts"
import * as RegistryClient from "../src/RegistryClient.ts"
import type { RegistryErrorReason } from "../src/RegistryError.ts"
import * as RegistryHttp from "../src/RegistryHttp.ts"
import {
  type Answer,
  type Origin,
  pathOf,
  type Received,
  refAt,
  reply,
  replyBytes,
  replyCut,
  repository,
  serve
} from "./support/origin.ts"
import {
  authorizationsOf,
  basic,
  client,
  download,
  downloadAt,
  identity,
  requestsOf
} from "./support/registryClient.ts"
import { layerHttp } from "./support/registryHttp.ts"

const blob = new TextEncoder().encode("the bytes of a layer")
const digest = digestOf(blob)

const base64 = (text: string) => Buffer.from(text).toString("base64")

const downloadFrom = (origin: Origin, kind?: ContentKind, offset?: number) => downloadAt(origin, digest, kind, offset)

describe("fetch", () => {
  it.effect.each([
    ["layer", "blobs", undefined],
    ["config", "blobs", undefined],
    [
      "manifest",
      "manifests",
      "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, " +
        "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
    ]
  ] as const)("asks for a %s among the %s", ([kind, folder, accept]) =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => reply(response, 200, { "content-type": "text/plain" }, blob))
      const { offset, text, totalSize } = yield* downloadFrom(origin, kind).pipe(Effect.provide(client()))
      assert.strictEqual(text, "the bytes of a layer")
      assert.strictEqual(offset, 0)
      assert.deepStrictEqual(totalSize, Option.some(blob.length))
      assert.deepStrictEqual(requestsOf(origin), [`GET /v2/library/nginx/${folder}/${digest}`])
      const headers = origin.received[0]?.headers
      assert.strictEqual(headers?.accept, accept)
      assert.strictEqual(headers?.["accept-encoding"], "identity")
      assert.strictEqual(headers?.authorization, undefined)
      assert.strictEqual(headers?.range, undefined)
    })
  )

  it.effect("resumes at a byte", () =>
    Effect.gen(function* () {
      const origin = yield* serve((request, response) => replyBytes(request, response, blob))
      const { offset, text, totalSize } = yield* downloadFrom(origin, "layer", 4).pipe(Effect.provide(client()))
      assert.deepStrictEqual([offset, text], [4, "bytes of a layer"])
      assert.deepStrictEqual(totalSize, Option.some(blob.length))
      assert.strictEqual(origin.received[0]?.headers.range, "bytes=4-")
    })
  )

  it.effect("begins at zero with a registry that resumes nothing", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => reply(response, 200, {}, blob))
      const { offset, text } = yield* downloadFrom(origin, "layer", 4).pipe(Effect.provide(client()))
      assert.deepStrictEqual([offset, text], [0, "the bytes of a layer"])
    })
  )

  it.effect("begins at zero when the blob ends before the byte", () =>
    Effect.gen(function* () {
      const origin = yield* serve((request, response) => replyBytes(request, response, blob))
      const { offset, text } = yield* downloadFrom(origin, "layer", 400).pipe(Effect.provide(client()))
      assert.deepStrictEqual([offset, text], [0, "the bytes of a layer"])
    })
  )

  it.effect("takes a body of unknown length", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => {
        response.writeHead(200)
        response.write(blob.subarray(0, 5))
        response.end(blob.subarray(5))
      })
      const { text, totalSize } = yield* downloadFrom(origin).pipe(Effect.provide(client()))
      assert.strictEqual(text, "the bytes of a layer")
      assert.deepStrictEqual(totalSize, Option.none())
    })
  )

  it.effect("takes a blob of no bytes", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => reply(response, 200))
      const { text, totalSize } = yield* downloadFrom(origin).pipe(Effect.provide(client()))
      assert.deepStrictEqual([text, totalSize], ["", Option.some(0)])
    })
  )

  it.effect("takes a body that is larger than any buffer", () =>
    Effect.gen(function* () {
      const large = new Uint8Array(3_000_000).fill(7)
      const origin = yield* serve((_, response) => reply(response, 200, {}, large))
      const { text } = yield* downloadFrom(origin).pipe(Effect.provide(client()))
      assert.strictEqual(text.length, large.length)
    })
  )

  it.effect("delivers what comes before the connection is cut", () =>
    Effect.gen(function* () {
      const cut = Promise.withResolvers<void>()
      const origin = yield* serve((_, response) => replyCut(response, blob, 5, cut.promise))
      const registry = yield* RegistryClient.RegistryClient
      const { stream } = yield* registry.fetch({ ref: refAt(origin, digest), kind: "layer" })
      const arrived: Array<string> = []
      const take = (chunk: Uint8Array) =>
        Effect.sync(() => {
          arrived.push(Buffer.from(chunk).toString())
          cut.resolve()
        })
      const error = yield* Effect.flip(Stream.runForEach(stream, take))
      assert.deepStrictEqual(arrived, ["the b"])
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["Truncated", "transient"])
    }).pipe(Effect.provide(client()))
  )
})

/** What a failing question comes to. */
const failure = (origin: Origin) => Effect.flip(downloadFrom(origin)).pipe(Effect.provide(client()))

describe("a failed fetch", () => {
  const errors = JSON.stringify({ errors: [{ code: "DENIED", message: "not\n\u001b[31mfor you" }, { code: "OTHER" }] })

  it.effect.each([
    [400, "Refused", "transient"],
    [401, "Unauthorized", "auth"],
    [403, "Unauthorized", "auth"],
    [404, "NotFound", "not_found"],
    [405, "Refused", "transient"],
    [408, "Refused", "transient"],
    [416, "Refused", "transient"],
    [429, "RateLimited", "rate_limited"],
    [500, "Refused", "transient"],
    [503, "Refused", "transient"],
    [204, "Refused", "transient"],
    [304, "Refused", "transient"]
  ] as const)("answers %d with %s, class %s", ([status, reason, failureClass]) =>
    Effect.gen(function* () {
      const body = status === 204 || status === 304 ? "" : errors
      const origin = yield* serve((_, response) => void response.writeHead(status).end(body))
      const error = yield* failure(origin)
      assert.deepStrictEqual([error.reason._tag, error.failureClass, error.status], [reason, failureClass, status])
      assert.strictEqual(error.retryAfter, undefined)
      assert.include(error.message, `${origin.registry}/library/nginx@${digest}`)
      if (body) assert.include(error.message, `answered ${status} (DENIED: not [31mfor you; OTHER)`)
      assert.strictEqual(origin.received.length, 1)
    })
  )

  it.effect.each([
    [429, "7", Duration.seconds(7), "rate_limited"],
    [503, "7", Duration.seconds(7), "rate_limited"],
    [429, "Thu, 01 Jan 1970 00:02:00 GMT", Duration.seconds(20), "rate_limited"],
    [429, "86400", Duration.hours(1), "rate_limited"],
    [429, "soon", undefined, "rate_limited"],
    [503, "soon", undefined, "transient"],
    [500, "7", undefined, "transient"]
  ] as const)(
    "of status %d with Retry-After %s tells how long to wait",
    ([status, retryAfter, expected, failureClass]) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("100 seconds")
        const origin = yield* serve((_, response) => reply(response, status, { "retry-after": retryAfter }))
        const error = yield* failure(origin)
        assert.deepStrictEqual(error.retryAfter, expected)
        assert.strictEqual(error.failureClass, failureClass)
      })
  )

  const chunked: Answer = (_, response) => {
    response.writeHead(200)
    response.write(blob, () => response.destroy())
  }
  it.effect.each([
    ["a hang-up before the response", "Unreachable", (_, response) => response.destroy()],
    ["a hang-up in the middle of a chunked body", "Truncated", chunked],
    [
      "a part that begins elsewhere",
      "Malformed",
      (_, response) => reply(response, 206, { "content-range": "bytes 3-19/20" }, blob.subarray(3))
    ],
    ["a part that does not say which", "Malformed", (_, response) => reply(response, 206, {}, blob)],
    [
      "a part that is shorter than it says",
      "Truncated",
      (_, response) => reply(response, 206, { "content-range": "bytes 4-19/20" }, blob.subarray(4, 9))
    ],
    [
      "a part that is longer than it says",
      "Malformed",
      (_, response) => {
        response.writeHead(206, { "content-range": "bytes 4-19/20" })
        response.write(blob.subarray(4))
        response.end("and more")
      }
    ],
    [
      "headers without end",
      "Unreachable",
      (_, response) => {
        response.writeHead(200, Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`x-${i}`, "x".repeat(99)])))
        response.end()
      }
    ],
    ["something else than HTTP", "Unreachable", (_, response) => void response.socket?.end("SSH-2.0-OpenSSH_9.9\r\n")],
    ["a redirect to itself", "Malformed", (request, response) => reply(response, 302, { location: request.url })],
    ["a redirect to nothing", "Malformed", (_, response) => reply(response, 302, { location: "http://[" })],
    ["a redirect to a file", "Malformed", (_, response) => reply(response, 302, { location: "file:///etc/passwd" })],
    ["a redirect without a target", "Refused", (_, response) => reply(response, 302)]
  ] satisfies ReadonlyArray<readonly [string, RegistryErrorReason["_tag"], Answer]>)(
    "after %s is %s",
    ([, reason, answer]) =>
      Effect.gen(function* () {
        const origin = yield* serve(answer)
        const error = yield* Effect.flip(downloadFrom(origin, "layer", 4)).pipe(Effect.provide(client()))
        assert.deepStrictEqual([error.reason._tag, error.failureClass], [reason, "transient"])
        assert.isAtMost(origin.received.length, 6)
      })
  )

  it.effect("for a manifest is Malformed after a page for people, whatever its status", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) =>
        reply(response, 200, { "content-type": "Text/HTML; charset=utf-8" }, "<html>Log in to the Wi-Fi</html>")
      )
      const error = yield* Effect.flip(downloadFrom(origin, "manifest")).pipe(Effect.provide(client()))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["Malformed", "transient"])
      assert.include(error.message, "a page for people")
    })
  )

  it.effect("may be that of this node alone", () =>
    Effect.gen(function* () {
      const down = Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request) =>
          Effect.fail(
            new HttpClientError.HttpClientError({
              reason: new HttpClientError.TransportError({
                request,
                cause: Object.assign(new Error("getaddrinfo EAI_AGAIN registry.example.com"), { code: "EAI_AGAIN" })
              })
            })
          )
        )
      )
      const ref = new OriginRef({ registry: Registry.make("registry.example.com"), repository, digest })
      const layer = RegistryClient.layer().pipe(
        Layer.provide([RegistryHttp.layerClient.pipe(Layer.provide(down)), Credentials.layerNone])
      )
      const told = yield* download(ref).pipe(
        Effect.catchReason("RegistryError", "NoNetwork", ({ message }) => Effect.succeed(message)),
        Effect.provide(layer)
      )
      assert.strictEqual(
        told,
        "https://registry.example.com: getaddrinfo EAI_AGAIN registry.example.com; " +
          "check the network, the name server and the proxy of this node"
      )
      const error = yield* Effect.flip(download(ref)).pipe(Effect.provide(layer))
      assert.deepStrictEqual([error.failureClass, error.isOwnFault], ["transient", true])
    })
  )

  it.effect.each([
    ["a port where nobody listens", "127.0.0.1:1"],
    ["no address", "256.0.0.1"]
  ] as const)("for %s is Unreachable", ([, registry]) =>
    Effect.gen(function* () {
      const ref = new OriginRef({ registry: Registry.make(registry), repository, digest })
      const error = yield* Effect.flip(download(ref)).pipe(Effect.provide(client()))
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.include(error.message, registry)
    })
  )

  it.effect.each([
    [
      "errors of which some are none",
      JSON.stringify({ errors: [7, null, { code: 5 }, { code: "DENIED" }, "x"] }),
      " (DENIED; x)"
    ],
    ["an error in a word", JSON.stringify({ error: "denied" }), " (denied)"],
    [
      "a message of a token service",
      JSON.stringify({ details: "incorrect username or password" }),
      " (incorrect username or password)"
    ],
    ["a code and a message", JSON.stringify({ code: "denied", message: "not you" }), " (denied: not you)"],
    ["other fields", JSON.stringify({ errors: null, status: 403 }), ""],
    ["no object", "[[[]]]", ""],
    ["a page", "<html>", ""]
  ])("tells what it can of a body of %s", ([, body, said]) =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => reply(response, 403, { "content-type": "text/html" }, body))
      assert.include((yield* failure(origin)).message, `answered 403${said}, with no credentials`)
    })
  )

  it.effect("reads no error body that does not end", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => {
        response.writeHead(500)
        const flood = () => void (response.writable && response.write("x".repeat(10_000), flood))
        flood()
      })
      assert.strictEqual((yield* failure(origin)).status, 500)
    })
  )
})

describe("waiting", () => {
  it.effect("for a response ends after 10 seconds", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const origin = yield* serve(() => Deferred.doneUnsafe(asked, Effect.void))
      const fiber = yield* Effect.forkChild(failure(origin), { startImmediately: true })
      yield* Deferred.await(asked)
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.reason._tag, "TimedOut")
      assert.include(error.message, "no response for 10s")
    })
  )

  it.effect("for the body of an error ends after 10 seconds, and the error is told", () =>
    Effect.gen(function* () {
      const endless = new ReadableStream({ start: (controller) => controller.enqueue(blob) })
      const { http } = scripted(() => new Response(endless, { status: 404 }))
      const ref = new OriginRef({ registry: Registry.make("registry.example.com"), repository, digest })
      const fiber = yield* Effect.forkChild(
        Effect.flip(download(ref)).pipe(
          Effect.provide(RegistryClient.layer().pipe(Layer.provide([http, Credentials.layerNone])))
        ),
        { startImmediately: true }
      )
      yield* nextTurn
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "NotFound")
    })
  )

  it.effect("for a further byte ends after 30 seconds, which every byte begins anew", () =>
    Effect.gen(function* () {
      const sending = yield* Deferred.make<(byte: number) => void>()
      const origin = yield* serve((_, response) => {
        response.writeHead(200, { "content-length": blob.length })
        const send = (byte: number) => void response.write(blob.subarray(byte, byte + 1))
        send(0)
        Deferred.doneUnsafe(sending, Effect.succeed(send))
      })
      const registry = yield* RegistryClient.RegistryClient
      const { stream } = yield* registry.fetch({ ref: refAt(origin, digest), kind: "layer" })
      const arrived: Array<Deferred.Deferred<void>> = yield* Effect.all(
        Array.from({ length: 3 }, () => Deferred.make<void>())
      )
      let count = 0
      const fiber = yield* Effect.forkChild(
        Effect.flip(
          Stream.runForEach(stream, () => Deferred.succeed(arrived[count++] as Deferred.Deferred<void>, undefined))
        )
      )
      const send = yield* Deferred.await(sending)
      for (const [byte, arrival] of arrived.entries()) {
        if (byte > 0) send(byte)
        yield* Deferred.await(arrival)
        yield* nextTurn
        yield* TestClock.adjust("29 seconds")
      }
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 seconds")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.reason._tag, "TimedOut")
      assert.include(error.message, "no byte for 30s")
    }).pipe(Effect.provide(client()))
  )

  it.effect("follows its settings", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const origin = yield* serve(() => Deferred.doneUnsafe(asked, Effect.void))
      const fiber = yield* Effect.forkChild(
        Effect.flip(downloadFrom(origin)).pipe(
          Effect.provide(client(undefined, { responseTimeout: "2 seconds", idleTimeout: 0 }))
        ),
        { startImmediately: true }
      )
      yield* Deferred.await(asked)
      yield* TestClock.adjust("2 seconds")
      assert.include((yield* Fiber.join(fiber)).message, "no response for 2s")
    })
  )
})

describe("redirects", () => {
  it.effect("are followed with the range, and without the credentials, to another server", () =>
    Effect.gen(function* () {
      const storage = yield* serve((request, response) => replyBytes(request, response, blob))
      const signed = "/bucket/layer?sig=a%2Fb%20c+d~%7e&X=%E2%82%AC&empty=&flag"
      const origin = yield* serve((request, response) =>
        request.headers.authorization === undefined
          ? reply(response, 401, { "www-authenticate": "Basic" })
          : reply(response, 307, { location: `${storage.url}${signed}` }, "<a href>moved</a>")
      )
      const { text } = yield* downloadFrom(origin, "layer", 4).pipe(
        Effect.provide(client([origin, basic("me", "secret")]))
      )
      assert.strictEqual(text, "bytes of a layer")
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, `Basic ${base64("me:secret")}`])
      assert.deepStrictEqual(requestsOf(storage), [`GET ${signed}`])
      assert.strictEqual(storage.received[0]?.headers.authorization, undefined)
      assert.strictEqual(storage.received[0]?.headers.range, "bytes=4-")
      assert.notInclude(JSON.stringify(storage.received), base64("me:secret"))
    })
  )

  it.effect("keep the credentials on the same server, and lose them for good on the way through another", () =>
    Effect.gen(function* () {
      const other = yield* serve((_, response) => reply(response, 302, { location: `${origin.url}/back` }))
      const origin: Origin = yield* serve((request, response) => {
        if (request.headers.authorization === undefined && request.url.startsWith("/v2/"))
          return reply(response, 401, { "www-authenticate": "Basic" })
        if (request.url.startsWith("/v2/")) return reply(response, 301, { location: "/here" })
        if (request.url === "/here") return reply(response, 302, { location: `${other.url}/there` })
        return reply(response, 200, {}, blob)
      })
      yield* downloadFrom(origin).pipe(Effect.provide(client([origin, basic("me", "secret")])))
      const secret = `Basic ${base64("me:secret")}`
      assert.deepStrictEqual(requestsOf(origin).slice(1), [`GET ${pathOf(digest)}`, "GET /here", "GET /back"])
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, secret, secret, undefined])
      assert.deepStrictEqual(authorizationsOf(other), [undefined])
    })
  )

  it.effect("are followed five times", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response, turn) =>
        turn < 5 ? reply(response, 307, { location: `/${turn}` }) : reply(response, 200, {}, blob)
      )
      const { text } = yield* downloadFrom(origin).pipe(Effect.provide(client()))
      assert.strictEqual(text, "the bytes of a layer")
    })
  )

  it.effect("to a server that wants credentials get none", () =>
    Effect.gen(function* () {
      const storage = yield* serve((_, response) => reply(response, 401, { "www-authenticate": "Basic" }))
      const origin = yield* serve((_, response) => reply(response, 307, { location: `${storage.url}/x` }))
      const error = yield* Effect.flip(downloadFrom(origin)).pipe(
        Effect.provide(client([origin, basic("me", "secret")]))
      )
      assert.strictEqual(error.reason._tag, "StorageRefused")
      assert.deepStrictEqual(authorizationsOf(storage), [undefined, undefined, undefined])
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, undefined, undefined])
    })
  )
})

/** A registry that wants a token, and the service that gives it. */
const serveWithToken = Effect.fnUntraced(function* (
  giveToken: Answer,
  options: { readonly scope?: string; readonly isValid?: (authorization: string, turn: number) => boolean } = {}
) {
  const auth = yield* serve(giveToken)
  const { isValid = (authorization) => authorization.startsWith("Bearer token") } = options
  const scope = options.scope === undefined ? "" : `,scope="${options.scope}"`
  const challenge = `Basic realm="ignored", Bearer realm="${auth.url}/token?a=b",service="the registry"${scope}`
  const origin = yield* serve((request, response, turn) =>
    isValid(request.headers.authorization ?? "", turn)
      ? reply(response, 200, {}, blob)
      : reply(response, 401, { "www-authenticate": challenge }, "{}")
  )
  return { auth, origin }
})

const json = (value: unknown) => JSON.stringify(value)

describe("a Bearer challenge", () => {
  it.effect.each([
    ["token", { token: "token-1" }, undefined, `repository:${repository}:pull`],
    ["access_token", { access_token: "token-1" }, undefined, `repository:${repository}:pull`],
    ["token of both", { token: "token-1", access_token: "x" }, "repository:a/b:pull", "repository:a/b:pull"],
    [
      "access_token beside a null",
      { token: null, access_token: "token-1" },
      undefined,
      `repository:${repository}:pull`
    ],
    [
      "access_token beside nothing",
      { token: " ", access_token: "token-1" },
      undefined,
      `repository:${repository}:pull`
    ],
    ["access_token beside a number", { token: 1, access_token: "token-1" }, undefined, `repository:${repository}:pull`],
    ["token with a line's end", { token: "token-1\n", access_token: {} }, undefined, `repository:${repository}:pull`]
  ] as const)("is answered with the %s of the realm, asked anonymously", ([, given, scope, expected]) =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken(
        (_, response) => reply(response, 200, {}, json(given)),
        scope === undefined ? {} : { scope }
      )
      const { text } = yield* downloadFrom(origin).pipe(Effect.provide(client()))
      assert.strictEqual(text, "the bytes of a layer")
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, "Bearer token-1"])
      const asked = new URL(auth.received[0]?.url ?? "", auth.url)
      assert.strictEqual(asked.pathname, "/token")
      assert.deepStrictEqual(
        [...asked.searchParams],
        [
          ["a", "b"],
          ["service", "the registry"],
          ["scope", expected]
        ]
      )
      assert.deepStrictEqual(authorizationsOf(auth), [undefined])
    })
  )

  it.effect("is answered as whom the credentials say", () =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken((_, response) =>
        reply(response, 200, {}, json({ token: "token" }))
      )
      yield* downloadFrom(origin).pipe(Effect.provide(client([origin, basic("me", "pass:word")])))
      assert.deepStrictEqual(authorizationsOf(auth), [`Basic ${base64("me:pass:word")}`])
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, "Bearer token"])
    })
  )

  it.effect("is answered by trading an identity token", () =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken((_, response) =>
        reply(response, 200, {}, json({ access_token: "token" }))
      )
      yield* downloadFrom(origin).pipe(Effect.provide(client([origin, identity("refresh me")])))
      const { body, headers, method } = auth.received[0] as Received
      assert.deepStrictEqual([method, headers.authorization], ["POST", undefined])
      assert.match(headers["content-type"] ?? "", /^application\/x-www-form-urlencoded/)
      assert.deepStrictEqual(Object.fromEntries(new URLSearchParams(body)), {
        grant_type: "refresh_token",
        client_id: "gantry",
        service: "the registry",
        scope: `repository:${repository}:pull`,
        refresh_token: "refresh me"
      })
    })
  )

  it.effect("leads an identity token nowhere else", () =>
    Effect.gen(function* () {
      const elsewhere = yield* serve((_, response) => reply(response, 200, {}, json({ token: "token" })))
      const { origin } = yield* serveWithToken((_, response) => reply(response, 307, { location: elsewhere.url }))
      const error = yield* Effect.flip(downloadFrom(origin)).pipe(
        Effect.provide(client([origin, identity("refresh me")]))
      )
      assert.deepStrictEqual([error.reason._tag, error.status], ["Refused", 307])
      assert.deepStrictEqual(requestsOf(elsewhere), [])
    })
  )

  it.effect.each([
    ["a minute, a tenth early", { token: "token" }, "53 seconds", "2 seconds"],
    ["the life that the token tells", { token: "token", expires_in: 300 }, "269 seconds", "2 seconds"],
    ["an hour at most", { token: "token", expires_in: 1e9 }, "3239 seconds", "2 seconds"],
    ["a life that is told as text", { token: "token", expires_in: "300" }, "269 seconds", "2 seconds"],
    ["a minute where the life is null", { token: "token", expires_in: null }, "53 seconds", "2 seconds"],
    ["a minute where the life is no number", { token: "token", expires_in: "soon" }, "53 seconds", "2 seconds"],
    ["a minute where the life is nothing", { token: "token", expires_in: "" }, "53 seconds", "2 seconds"],
    ["a minute where the life is a list", { token: "token", expires_in: [300] }, "53 seconds", "2 seconds"]
  ] as const)("is foreseen for %s", ([, given, within, after]) =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken((_, response, turn) =>
        reply(response, 200, {}, json({ ...given, token: `${given.token}-${turn}` }))
      )
      yield* downloadFrom(origin)
      yield* TestClock.adjust(within)
      yield* downloadFrom(origin)
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, "Bearer token-0", "Bearer token-0"])
      yield* TestClock.adjust(after)
      yield* downloadFrom(origin)
      assert.deepStrictEqual(authorizationsOf(origin).slice(3), ["Bearer token-1"])
      assert.strictEqual(auth.received.length, 2)
    }).pipe(Effect.provide(client()))
  )

  it.effect.each([[0], [-5]])("is answered afresh when the token lives %d seconds", ([seconds]) =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken((_, response) =>
        reply(response, 200, {}, json({ token: "token", expires_in: seconds }))
      )
      yield* downloadFrom(origin)
      yield* downloadFrom(origin)
      assert.strictEqual(auth.received.length, 2)
    }).pipe(Effect.provide(client()))
  )

  it.effect("is answered by a reply of any success, with a mark of its byte order and of any type", () =>
    Effect.gen(function* () {
      const { origin } = yield* serveWithToken((_, response) =>
        reply(response, 201, { "content-type": "text/plain" }, `\uFEFF${json({ token: "token", issued_at: 5 })}`)
      )
      assert.strictEqual((yield* downloadFrom(origin)).text, "the bytes of a layer")
    }).pipe(Effect.provide(client()))
  )

  it.effect.each([
    ["in two headers", (realm: string) => ["Negotiate", `Bearer realm="${realm}"`], "Bearer token"],
    ["after one that leads nowhere", (realm: string) => [`Bearer realm="", Bearer realm="${realm}"`], "Bearer token"],
    ["in capitals and without quotes", (realm: string) => [`BEARER REALM=${realm}`], "Bearer token"],
    ["that leads nowhere, beside another", () => ['Bearer realm="/token", Basic'], `Basic ${base64("me:secret")}`]
  ] as const)("%s is answered as well", ([, challenge, expected]) =>
    Effect.gen(function* () {
      const auth = yield* serve((_, response) => reply(response, 200, {}, json({ token: "token" })))
      const origin = yield* serve((request, response) =>
        request.headers.authorization === undefined
          ? reply(response, 401, { "www-authenticate": [...challenge(auth.url)] })
          : reply(response, 200, {}, blob)
      )
      yield* downloadFrom(origin).pipe(Effect.provide(client([origin, basic("me", "secret")])))
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, expected])
    })
  )

  it.effect("fetches one token for all who wait for it", () =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken((_, response) =>
        reply(response, 200, {}, json({ token: "token" }))
      )
      const all = Array.from({ length: 20 }, () => downloadFrom(origin))
      yield* Effect.all(all, { concurrency: "unbounded" })
      assert.strictEqual(auth.received.length, 1)
    }).pipe(Effect.provide(client()))
  )

  it.effect("fetches a token for each repository", () =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken((_, response) =>
        reply(response, 200, {}, json({ token: "token" }))
      )
      yield* downloadFrom(origin)
      yield* download(new OriginRef({ ...refAt(origin, digest), repository: "team/app" as typeof repository }))
      const scopes = auth.received.map(({ url }) => new URL(url, auth.url).searchParams.get("scope"))
      assert.deepStrictEqual(scopes, [`repository:${repository}:pull`, "repository:team/app:pull"])
    }).pipe(Effect.provide(client()))
  )

  it.effect("gives up a token that the registry no longer takes", () =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken(
        (_, response, turn) => reply(response, 200, {}, json({ token: `token-${turn}` })),
        { isValid: (authorization, turn) => authorization === (turn < 2 ? "Bearer token-0" : "Bearer token-1") }
      )
      yield* downloadFrom(origin)
      yield* downloadFrom(origin)
      assert.deepStrictEqual(authorizationsOf(origin), [
        undefined,
        "Bearer token-0",
        "Bearer token-0",
        "Bearer token-1"
      ])
      assert.strictEqual(auth.received.length, 2)
    }).pipe(Effect.provide(client()))
  )

  it.effect("is answered once", () =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken(
        (_, response) => reply(response, 200, {}, json({ token: "token" })),
        { isValid: () => false }
      )
      const error = yield* failure(origin)
      assert.deepStrictEqual([error.reason._tag, error.status], ["Unauthorized", 401])
      assert.include(error.message, `no credentials for ${origin.registry}`)
      assert.deepStrictEqual([origin.received.length, auth.received.length], [2, 1])
    })
  )

  it.effect.each([
    [401, {}, "Unauthorized", undefined],
    [403, {}, "Unauthorized", undefined],
    [404, {}, "Refused", undefined],
    [429, { "retry-after": "9" }, "RateLimited", Duration.seconds(9)],
    [500, {}, "Refused", undefined],
    [503, { "retry-after": "9" }, "RateLimited", Duration.seconds(9)]
  ] as const)("fails with the token service's %d", ([status, headers, reason, retryAfter]) =>
    Effect.gen(function* () {
      const { auth, origin } = yield* serveWithToken((_, response) => reply(response, status, headers))
      const error = yield* failure(origin)
      assert.deepStrictEqual([error.reason._tag, error.status], [reason, status])
      assert.deepStrictEqual(error.retryAfter, retryAfter)
      assert.include(error.message, `asked for a token, ${auth.url} answered ${status}`)
    })
  )

  it.effect.each([
    ["no JSON", "token"],
    ["no token", "{}"],
    ["an empty token", json({ token: "" })],
    ["another type", json({ token: 42 })],
    ["a token of a megabyte", json({ token: "x".repeat(1_000_000) })]
  ])("fails when the token service gives %s", ([, body]) =>
    Effect.gen(function* () {
      const { origin } = yield* serveWithToken((_, response) => reply(response, 200, {}, body))
      assert.strictEqual((yield* failure(origin)).reason._tag, "Malformed")
    })
  )

  it.effect("fails when the token cannot be a header, and does not repeat it", () =>
    Effect.gen(function* () {
      const { origin } = yield* serveWithToken((_, response) => reply(response, 200, {}, json({ token: "se\ncret" })))
      const error = yield* failure(origin)
      assert.strictEqual(error.failureClass, "transient")
      assert.notInclude(error.message, "cret")
    })
  )

  it.effect("asks the registry afresh after its token service failed", () =>
    Effect.gen(function* () {
      const moved = yield* serve((_, response) => reply(response, 200, {}, json({ token: "new" })))
      let realm: string = ""
      const old = yield* serve((_, response, turn) =>
        turn === 0 ? reply(response, 200, {}, json({ token: "old", expires_in: 0 })) : reply(response, 410)
      )
      realm = old.url
      const origin = yield* serve((request, response) =>
        request.headers.authorization === `Bearer ${realm === old.url ? "old" : "new"}`
          ? reply(response, 200, {}, blob)
          : reply(response, 401, { "www-authenticate": `Bearer realm="${realm}"` })
      )
      yield* downloadFrom(origin)
      realm = moved.url
      assert.strictEqual((yield* Effect.flip(downloadFrom(origin))).status, 410)
      yield* downloadFrom(origin)
      assert.strictEqual(moved.received.length, 1)
    }).pipe(Effect.provide(client()))
  )
})

describe("a Basic challenge", () => {
  const guarded: Answer = (request, response) =>
    request.headers.authorization === `Basic ${base64("me:secret")}`
      ? reply(response, 200, {}, blob)
      : reply(response, 401, { "www-authenticate": 'Basic realm="x"' })

  it.effect("is answered with the credentials, and foreseen from then on", () =>
    Effect.gen(function* () {
      const origin = yield* serve(guarded)
      yield* Effect.gen(function* () {
        yield* downloadFrom(origin)
        yield* downloadFrom(origin)
      }).pipe(Effect.provide(client([origin, basic("me", "secret")])))
      const secret = `Basic ${base64("me:secret")}`
      assert.deepStrictEqual(authorizationsOf(origin), [undefined, secret, secret])
    })
  )

  it.effect("is answered once", () =>
    Effect.gen(function* () {
      const origin = yield* serve(guarded)
      const error = yield* Effect.flip(downloadFrom(origin)).pipe(
        Effect.provide(client([origin, basic("me", "wrong")]))
      )
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["Unauthorized", "auth"])
      assert.include(error.message, "with the credentials for")
      assert.notInclude(error.message, "wrong")
      assert.strictEqual(origin.received.length, 2)
    })
  )

  it.effect("is not answered without credentials, nor for another registry", () =>
    Effect.gen(function* () {
      const other = yield* serve(guarded)
      const origin = yield* serve(guarded)
      const error = yield* Effect.flip(downloadFrom(origin)).pipe(
        Effect.provide(client([other, basic("me", "secret")]))
      )
      assert.strictEqual(error.reason._tag, "Unauthorized")
      assert.deepStrictEqual(authorizationsOf(origin), [undefined])
    })
  )

  it.effect("cannot be answered while the docker config is broken", () =>
    Effect.gen(function* () {
      const origin = yield* serve(guarded)
      const broken = new Credentials.CredentialsError({
        reason: new Credentials.Malformed({ path: "/config.json", detail: "broken" })
      })
      const layer = RegistryClient.layer().pipe(
        Layer.provide([layerHttp(), Layer.succeed(Credentials.Credentials, { get: () => Effect.fail(broken) })])
      )
      const error = yield* Effect.flip(downloadFrom(origin)).pipe(Effect.provide(layer))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["CredentialsUnknown", "transient"])
      assert.include(error.message, "/config.json: broken")
    })
  )
})

/** What a scripted server sees and says, for hosts that are not on this machine. */
const scripted = (answer: (url: string, authorization: string | undefined) => Response) => {
  const asked: Array<string> = []
  const http = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, url) =>
      Effect.sync(() => {
        asked.push(url.href)
        return HttpClientResponse.fromWeb(request, answer(url.href, request.headers.authorization))
      })
    )
  )
  return { asked, http: Layer.provide(RegistryHttp.layerClient, http) }
}

describe("plain http", () => {
  const found = () => new Response(blob)
  const redirect = (location: string) => new Response("", { status: 302, headers: { location } })
  const challenge = (value: string) => new Response("", { status: 401, headers: { "www-authenticate": value } })
  const ref = (registry: string) => new OriginRef({ registry: Registry.make(registry), repository, digest })
  const ask = (registry: string, http: Layer.Layer<RegistryHttp.RegistryHttp>, plainHttp: ReadonlyArray<string> = []) =>
    download(ref(registry)).pipe(
      Effect.result,
      Effect.provide(RegistryClient.layer({ plainHttp }).pipe(Layer.provide([http, Credentials.layerNone])))
    )
  const path = pathOf(digest)

  it.effect.each([
    ["registry.example.com", `https://registry.example.com${path}`],
    ["registry.example.com:5000", `https://registry.example.com:5000${path}`],
    ["plain.example.com", `http://plain.example.com${path}`],
    ["plain.example.com:5000", `https://plain.example.com:5000${path}`],
    ["ported.example.com:5000", `http://ported.example.com:5000${path}`],
    ["ported.example.com", `https://ported.example.com${path}`],
    ["localhost", `http://localhost${path}`],
    ["localhost:5000", `http://localhost:5000${path}`],
    ["registry.localhost:5000", `http://registry.localhost:5000${path}`],
    ["127.0.0.1:5000", `http://127.0.0.1:5000${path}`],
    ["127.9.9.9", `http://127.9.9.9${path}`],
    ["[::1]:5000", `http://[::1]:5000${path}`],
    ["notlocalhost", `https://notlocalhost${path}`],
    ["127.example.com", `https://127.example.com${path}`],
    ["10.0.0.1", `https://10.0.0.1${path}`],
    ["docker.io", `https://registry-1.docker.io${path}`],
    ["index.docker.io", `https://registry-1.docker.io${path}`]
  ] as const)("is decided for %s: %s", ([registry, expected]) =>
    Effect.gen(function* () {
      const { asked, http } = scripted(found)
      yield* ask(registry, http, ["Plain.example.com", "ported.example.com:5000"])
      assert.deepStrictEqual(asked, [expected])
    })
  )

  it.effect.each([
    ["https://registry.example.com", "http://storage.example.com/x", false],
    ["https://registry.example.com", "http://plain.example.com/x", true],
    ["https://registry.example.com", "https://storage.example.com/x", true],
    ["https://registry.example.com", "//storage.example.com/x", true],
    ["http://plain.example.com", "http://storage.example.com/x", true],
    ["http://plain.example.com", "https://storage.example.com/x", true],
    ["https://registry.example.com", "ftp://storage.example.com/x", false]
  ] as const)("decides whether %s may redirect to %s", ([from, location, allowed]) =>
    Effect.gen(function* () {
      const { asked, http } = scripted((url) => (url.endsWith("/x") ? found() : redirect(location)))
      const result = yield* ask(new URL(from).host, http, ["plain.example.com"])
      assert.strictEqual(Result.isSuccess(result), allowed)
      assert.strictEqual(asked.length, allowed ? 2 : 1)
      if (Result.isFailure(result)) assert.strictEqual(result.failure.reason._tag, "Malformed")
    })
  )

  it.effect.each([
    ["registry.example.com", "https://auth.example.com/token", true],
    ["registry.example.com", "http://auth.example.com/token", false],
    ["registry.example.com", "http://plain.example.com/token", true],
    ["plain.example.com", "http://auth.example.com/token", true],
    ["registry.example.com", "/token", false],
    ["registry.example.com", "", false],
    ["registry.example.com", "file:///token", false]
  ] as const)("decides whether %s may name the token service %s", ([registry, realm, allowed]) =>
    Effect.gen(function* () {
      const { asked, http } = scripted((url, authorization) => {
        if (new URL(url).pathname === "/token") return new Response(json({ token: "token" }))
        return authorization === undefined ? challenge(`Bearer realm="${realm}"`) : found()
      })
      const result = yield* ask(registry, http, ["plain.example.com"])
      assert.strictEqual(Result.isSuccess(result), allowed)
      assert.strictEqual(asked.length, allowed ? 3 : 1)
    })
  )
})

describe("resolve", () => {
  const config = { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: 2 }
  const manifest = json({ schemaVersion: 2, config, layers: [] })
  const manifestDigest = digestOf(Buffer.from(manifest))
  const mediaType = "application/vnd.oci.image.manifest.v1+json"
  const latest = RegistryClient.Tag.make("latest")
  const headers = { "content-type": `${mediaType}; charset=utf-8`, "docker-content-digest": manifestDigest }
  const resolveAt = ({ registry }: Origin) =>
    Effect.flatMap(RegistryClient.RegistryClient, (client) => client.resolve(registry, repository, latest))

  it.effect("asks for the headers of a tag alone, and believes nothing of them but the digest", () =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => reply(response, 200, { ...headers, "content-length": "0" }))
      assert.strictEqual(yield* resolveAt(origin), manifestDigest)
      assert.deepStrictEqual(requestsOf(origin), ["HEAD /v2/library/nginx/manifests/latest"])
      assert.include(origin.received[0]?.headers.accept ?? "", mediaType)
    }).pipe(Effect.provide(client()))
  )

  const hangUp: Answer = (_, response) => void response.destroy()
  const answerHead =
    (status: number, onHead: Record<string, string> = {}): Answer =>
    (_, response) =>
      reply(response, status, onHead)
  const onGet: Answer = (_, response) => reply(response, 200, { "content-type": mediaType }, manifest)
  const byMethod =
    (head: Answer, get: Answer): Answer =>
    (request, response, turn) =>
      (request.method === "HEAD" ? head : get)(request, response, turn)

  it.effect.each([
    ["tells no digest", answerHead(200, { "content-type": mediaType })],
    ["tells a digest of another kind", answerHead(200, { ...headers, "docker-content-digest": "sha512:00" })],
    ["is not allowed", answerHead(405)],
    ["is forbidden", answerHead(403)],
    ["is said to be of nothing", answerHead(404)],
    ["wants to know who asks", answerHead(401)],
    ["is no request", answerHead(400)],
    ["fails", answerHead(500)],
    ["is out of service for no time that it tells", answerHead(503)],
    ["is hung up on", hangUp]
  ] satisfies ReadonlyArray<readonly [string, Answer]>)(
    "hashes the manifest where HEAD %s, and asks by GET alone for ten minutes",
    ([, onHead]) =>
      Effect.gen(function* () {
        const origin = yield* serve(byMethod(onHead, onGet))
        const methods = () => origin.received.map(({ method }) => method)
        assert.strictEqual(yield* resolveAt(origin), manifestDigest)
        assert.deepStrictEqual([...new Set(methods())], ["HEAD", "GET"])
        const count = methods().length
        yield* TestClock.adjust("9 minutes")
        yield* resolveAt(origin)
        assert.deepStrictEqual(methods().slice(count), ["GET"])
        yield* TestClock.adjust("1 minutes")
        yield* resolveAt(origin)
        assert.include(methods().slice(count + 1), "HEAD")
      }).pipe(Effect.provide(client()))
  )

  it.effect("hashes the manifest where HEAD is not answered for 10 seconds", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const origin = yield* serve(byMethod(() => Deferred.doneUnsafe(asked, Effect.void), onGet))
      const fiber = yield* Effect.forkChild(resolveAt(origin), { startImmediately: true })
      yield* Deferred.await(asked)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(fiber), manifestDigest)
    }).pipe(Effect.provide(client()))
  )

  it.effect.each([
    [401, {}, "Unauthorized", 2],
    [403, {}, "Unauthorized", 2],
    [404, {}, "NotFound", 2],
    [500, {}, "Refused", 2],
    [429, {}, "RateLimited", 1],
    [503, { "retry-after": "5" }, "RateLimited", 1]
  ] as const)("takes %d of GET for the answer, and of HEAD if it asks to wait", ([status, onAll, reason, requests]) =>
    Effect.gen(function* () {
      const origin = yield* serve((_, response) => reply(response, status, onAll))
      const error = yield* Effect.flip(resolveAt(origin))
      assert.strictEqual(error.reason._tag, reason)
      assert.include(error.message, `${origin.registry}/library/nginx:latest`)
      assert.strictEqual(origin.received.length, requests)
      // A registry that answers nothing may answer HEAD later.
      yield* Effect.flip(resolveAt(origin))
      assert.strictEqual(origin.received[requests]?.method, "HEAD")
    }).pipe(Effect.provide(client()))
  )

  it.effect.each([
    ["is not what it is said to be", { ...headers, "docker-content-digest": digest }, manifest, "announced"],
    ["is larger than 4 MiB", {}, "x".repeat(4 * 1024 * 1024 + 1), "over 4194304 bytes came"],
    [
      "is a page of someone between",
      { "content-type": "text/html" },
      "<html>Log in to the Wi-Fi</html>",
      "no manifest"
    ],
    ["is some other document", { "content-type": mediaType }, "{}", "no manifest"],
    ["is empty", {}, "", "no manifest"]
  ] as const)("refuses a manifest that %s", ([, onGet, body, detail]) =>
    Effect.gen(function* () {
      const origin = yield* serve(byMethod(answerHead(200), (_, response) => reply(response, 200, onGet, body)))
      const error = yield* Effect.flip(resolveAt(origin))
      assert.strictEqual(error.reason._tag, "Malformed")
      assert.include(error.message, detail)
    }).pipe(Effect.provide(client()))
  )
})

/** Lets sockets and promises have their turn. */
const nextTurn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
