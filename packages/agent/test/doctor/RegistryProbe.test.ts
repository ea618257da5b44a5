import type { IncomingMessage, ServerResponse } from "node:http"
import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Credentials } from "@gantry/oci"
import { Effect, Fiber, Latch, Option, Redacted } from "effect"
import { probe } from "../../src/doctor/RegistryProbe.ts"
import { eventually, serve } from "../members/support.ts"

const me = Option.some(Credentials.Credential.Basic({ username: "me", password: Redacted.make("s3cret") }))
const basic = `Basic ${Buffer.from("me:s3cret").toString("base64")}`
const refresh = Option.some(Credentials.Credential.IdentityToken({ token: Redacted.make("refresh") }))

const bodyOf = async (request: IncomingMessage) => {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

/** A registry that wants what it is told to want. */
const registry = (answer: (request: IncomingMessage, response: ServerResponse, origin: string) => void) =>
  Effect.map(
    serve((request, response) => answer(request, response, `http://${request.headers.host}`)),
    ({ address }) => `http://${address}`
  )

const bearer = (grants: (request: IncomingMessage, body: string) => boolean) =>
  registry((request, response, origin) => {
    if (request.url?.startsWith("/token") === true) {
      void bodyOf(request).then((body) =>
        grants(request, body) ? response.end('{"token":"t"}') : response.writeHead(401).end()
      )
    } else if (request.headers.authorization === "Bearer t") response.end("{}")
    else {
      response.writeHead(401, { "www-authenticate": `Bearer realm="${origin}/token",service="registry"` }).end()
    }
  })

const outcome = (endpoint: string, credential: Option.Option<Credentials.Credential> = Option.none()) =>
  Effect.map(Effect.result(probe(endpoint, credential)), (result) =>
    result._tag === "Success" ? result.success.access : result.failure.reason
  ).pipe(Effect.provide(NodeHttpClient.layerUndici))

describe("RegistryProbe", () => {
  it.effect("finds a registry open that asks for nothing, and takes its time", () =>
    Effect.gen(function* () {
      const endpoint = yield* registry((_, response) =>
        response.writeHead(200, { date: "Thu, 01 Jan 1970 00:01:00 GMT" }).end("{}")
      )
      const found = yield* Effect.provide(probe(endpoint, Option.none()), NodeHttpClient.layerUndici)
      assert.deepStrictEqual(found, { access: "open", date: Option.some(60_000) })
    })
  )

  it.effect("logs in with name and password", () =>
    Effect.gen(function* () {
      const endpoint = yield* registry((request, response) =>
        request.headers.authorization === basic
          ? response.end("{}")
          : response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end()
      )
      assert.strictEqual(yield* outcome(endpoint, me), "accepted")
      const other = Option.some(Credentials.Credential.Basic({ username: "me", password: Redacted.make("no") }))
      assert.strictEqual(yield* outcome(endpoint, other), "Refused")
      assert.strictEqual(yield* outcome(endpoint), "Refused")
      assert.strictEqual(yield* outcome(endpoint, refresh), "Refused")
    })
  )

  it.effect("logs in with a token for name and password, and sees a refusal where it comes from", () =>
    Effect.gen(function* () {
      const endpoint = yield* bearer(
        ({ headers, url }) => headers.authorization === basic && url === "/token?service=registry"
      )
      assert.strictEqual(yield* outcome(endpoint, me), "accepted")
      assert.strictEqual(yield* outcome(endpoint), "Refused")
    })
  )

  it.effect("logs in with a token for a refresh token", () =>
    Effect.gen(function* () {
      const endpoint = yield* bearer(
        ({ method }, body) => method === "POST" && new URLSearchParams(body).get("refresh_token") === "refresh"
      )
      assert.strictEqual(yield* outcome(endpoint, refresh), "accepted")
    })
  )

  it.effect("takes a token for anybody without credentials", () =>
    Effect.gen(function* () {
      const endpoint = yield* bearer(({ headers }) => headers.authorization === undefined)
      assert.strictEqual(yield* outcome(endpoint), "anonymous")
    })
  )

  it.effect("does not show the credentials to whom the registry names but by https", () =>
    Effect.gen(function* () {
      const endpoint = yield* registry((_, response) =>
        response.writeHead(401, { "www-authenticate": 'Bearer realm="ftp://thief.example.com/"' }).end()
      )
      assert.strictEqual(yield* outcome(endpoint, me), "Unwell")
    })
  )

  it.effect("tells what is no registry, and what is not there", () =>
    Effect.gen(function* () {
      const shop = yield* registry((_, response) => response.writeHead(404).end())
      assert.strictEqual(yield* outcome(shop), "Unwell")
      const gone = yield* Effect.scoped(registry(() => {}))
      assert.strictEqual(yield* outcome(gone), "Unreachable")
      const asked = yield* Latch.make()
      const silent = yield* registry(() => asked.openUnsafe())
      const waiting = yield* Effect.forkScoped(outcome(silent))
      yield* asked.await
      yield* eventually(Effect.sync(() => waiting.pollUnsafe() !== undefined))
      assert.strictEqual(yield* Fiber.join(waiting), "Unreachable")
    })
  )
})
