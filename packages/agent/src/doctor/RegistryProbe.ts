/**
 * Logs in to a registry as `docker login` does, to learn whether it takes our
 * credentials, and what time it has.
 */

import type { Credentials } from "@gantry/oci"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { describeHttpError } from "../runtime/describeHttpError.ts"

/**
 * Why a registry cannot be used. `Unreachable`: no connection, no TLS, no
 * answer in time. `Refused`: it does not take the credentials. `Unwell`: it
 * answers what no registry should.
 */
export class RegistryProbeError extends Schema.TaggedError<RegistryProbeError>("@gantry/agent/RegistryProbeError")(
  "RegistryProbeError",
  { reason: Schema.Literals(["Unreachable", "Refused", "Unwell"]), url: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `${this.url} ${this.detail}`
  }
}

/** What a registry that answers has told. */
export interface Probe {
  /** Whether it took the credentials, gave anybody a token, or asked for nothing. */
  readonly access: "accepted" | "anonymous" | "open"
  /** Its time, in milliseconds since 1970, where it tells. */
  readonly date: Option.Option<number>
}

/** How long all of it may take, and the longest reply. */
const patience = Duration.seconds(10)
const maxReplyBytes = 64 * 1024

const Token = Schema.fromJsonString(
  Schema.Struct({ token: Schema.optionalKey(Schema.String), access_token: Schema.optionalKey(Schema.String) })
)

interface Challenge {
  readonly scheme: "basic" | "bearer"
  readonly realm: string
  readonly service: string
}

const parameterIn = (header: string, name: string): string =>
  new RegExp(`\\b${name}\\s*=\\s*"([^"]*)"`, "i").exec(header)?.[1] ?? ""

const challengeOf = (header: string): Option.Option<Challenge> => {
  const scheme = /^\s*(basic|bearer)\b/i.exec(header)?.[1]?.toLowerCase()
  return scheme === "basic" || scheme === "bearer"
    ? Option.some({ scheme, realm: parameterIn(header, "realm"), service: parameterIn(header, "service") })
    : Option.none()
}

const basic = ({ password, username }: Credentials.Credential & { readonly _tag: "Basic" }) =>
  `Basic ${Base64.encode(`${username}:${Redacted.value(password)}`)}`

/** Asks the registry at a URL without a path, as whom the credential says. */
export const probe = Effect.fnUntraced(
  function* (
    endpoint: string,
    credential: Option.Option<Credentials.Credential>
  ): Effect.fn.Return<Probe, RegistryProbeError, HttpClient.HttpClient> {
    const client = yield* HttpClient.HttpClient
    const fail = (reason: RegistryProbeError["reason"], detail: string, url = endpoint) =>
      new RegistryProbeError({ reason, url, detail })

    const send = (request: HttpClientRequest.HttpClientRequest) =>
      client.execute(HttpClientRequest.setHeader(request, "user-agent", "gantry")).pipe(
        // A span would show the headers.
        Effect.provideService(HttpClient.TracerDisabledWhen, () => true),
        Effect.mapError((error) => fail("Unreachable", `cannot be reached: ${describeHttpError(error)}`))
      )

    const ask = (authorization?: string) => {
      const request = HttpClientRequest.get(`${endpoint}/v2/`)
      return send(
        authorization === undefined ? request : HttpClientRequest.setHeader(request, "authorization", authorization)
      )
    }

    const replyOf = Effect.fnUntraced(function* (response: HttpClientResponse) {
      const chunks: Array<Uint8Array> = []
      let length = 0
      yield* Stream.runForEach(
        Stream.mapError(response.stream, () => fail("Unwell", "breaks off its reply")),
        (chunk) => {
          length += chunk.length
          if (length > maxReplyBytes) return Effect.fail(fail("Unwell", `replies over ${maxReplyBytes} bytes`))
          return Effect.sync(() => void chunks.push(chunk))
        }
      )
      return Buffer.concat(chunks).toString()
    })

    const tokenFrom = Effect.fnUntraced(function* ({ realm, service }: Challenge) {
      const url = URL.parse(realm)
      const isSafe = url?.protocol === "https:" || (url?.protocol === "http:" && endpoint.startsWith("http:"))
      if (url === null || !isSafe) return yield* fail("Unwell", `sends for a token to ${JSON.stringify(realm)}`)
      const refresh = Option.filter(credential, ({ _tag }) => _tag === "IdentityToken")
      if (Option.isNone(refresh) && service !== "") url.searchParams.set("service", service)
      const request = Option.match(credential, {
        onNone: () => HttpClientRequest.get(url.href),
        onSome: (credential) =>
          credential._tag === "Basic"
            ? HttpClientRequest.setHeader(HttpClientRequest.get(url.href), "authorization", basic(credential))
            : HttpClientRequest.setBody(
                HttpClientRequest.post(url.href),
                HttpBody.urlParams([
                  ["grant_type", "refresh_token"],
                  ["service", service],
                  ["client_id", "gantry"],
                  ["refresh_token", Redacted.value(credential.token)]
                ])
              )
      })
      const response = yield* send(request)
      if (response.status === 401 || response.status === 403) {
        return yield* fail("Refused", `answers ${response.status}`, url.origin)
      }
      if (response.status !== 200) return yield* fail("Unwell", `answers ${response.status}`, url.origin)
      const reply = yield* Effect.mapError(Effect.flatMap(replyOf(response), Schema.decodeEffect(Token)), () =>
        fail("Unwell", "gives no token", url.origin)
      )
      const token = reply.token ?? reply.access_token
      return token === undefined ? yield* fail("Unwell", "gives no token", url.origin) : `Bearer ${token}`
    })

    const first = yield* ask()
    const date = Option.filter(Option.map(Option.fromUndefinedOr(first.headers.date), Date.parse), Number.isFinite)
    if (first.status === 200) return { access: "open", date }
    if (first.status !== 401) return yield* fail("Unwell", `answers ${first.status}`)
    const challenge = challengeOf(first.headers["www-authenticate"] ?? "")
    if (Option.isNone(challenge)) return yield* fail("Unwell", "does not say how to log in")
    if (challenge.value.scheme === "bearer" && Option.isNone(credential)) {
      yield* tokenFrom(challenge.value)
      return { access: "anonymous", date }
    }
    if (Option.isNone(credential)) return yield* fail("Refused", "asks for credentials, and there are none")
    if (challenge.value.scheme === "basic" && credential.value._tag !== "Basic") {
      return yield* fail("Refused", "asks for a name and a password, and there is an identity token")
    }
    const authorization =
      challenge.value.scheme === "basic" && credential.value._tag === "Basic"
        ? basic(credential.value)
        : yield* tokenFrom(challenge.value)
    const second = yield* ask(authorization)
    if (second.status === 401 || second.status === 403) return yield* fail("Refused", `answers ${second.status}`)
    return second.status === 200 ? { access: "accepted", date } : yield* fail("Unwell", `answers ${second.status}`)
  },
  (effect, endpoint) =>
    Effect.timeoutOrElse(effect, {
      duration: patience,
      orElse: () =>
        Effect.fail(
          new RegistryProbeError({
            reason: "Unreachable",
            url: endpoint,
            detail: `does not answer within ${Duration.format(patience)}`
          })
        )
    })
)
