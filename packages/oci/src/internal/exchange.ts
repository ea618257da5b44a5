/**
 * One question to a server over HTTP, its redirects followed.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { constTrue } from "effect/Function"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { RegistryReason } from "../RegistryClient.ts"
import { parseRetryAfter } from "./headers.ts"

/** What went wrong, before it is known for which image. */
export interface Problem {
  readonly reason: RegistryReason
  readonly detail: string
  readonly status?: number
  readonly retryAfter?: Duration.Duration
}

/** Fails with a problem. */
export const fail = (reason: RegistryReason, detail: string): Effect.Effect<never, Problem> =>
  Effect.fail({ reason, detail })

/** A response, and the server that gave it after all redirects. */
export interface Answer {
  readonly response: HttpClientResponse
  readonly url: URL
}

export interface Exchange {
  /** Follows redirects. The authorization goes to the origin of the request alone. */
  readonly ask: (
    request: HttpClientRequest.HttpClientRequest,
    authorization: Option.Option<Redacted.Redacted>
  ) => Effect.Effect<Answer, Problem, Scope.Scope>
  /** Takes the first response, a redirect too: for a request that carries a secret in its body. */
  readonly askOnce: (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<Answer, Problem, Scope.Scope>
  /** The body, as it comes. Fails when no byte comes for the idle time. */
  readonly body: (answer: Answer) => Stream.Stream<Uint8Array, Problem>
  /** A whole body of at most so many bytes. */
  readonly bytes: (answer: Answer, most: number) => Effect.Effect<Buffer, Problem>
  /** Lets go of a response. A body read to its end frees the connection for the next request. */
  readonly discard: (answer: Answer) => Effect.Effect<void>
  /** What a response that is not wanted means. */
  readonly refusal: (answer: Answer) => Effect.Effect<Problem>
  /** Whether a server is asked over `http`, or may send us there. */
  readonly isPlain: (url: URL) => boolean
}

export interface Settings {
  readonly isPlain: (url: URL) => boolean
  readonly responseTimeout: Duration.Duration
  readonly idleTimeout: Duration.Duration
}

/** More than a registry needs to get to its storage, and few enough to end a loop soon. */
const maxRedirects = 5

/** Of the body of a redirect, an error or a token: what is longer is none of these. */
export const maxReplyBytes = 64 * 1024

/** No origin is waited for longer; the cooldown after it is bounded by the negative cache. */
const maxRetryAfter = Duration.hours(1)

const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** The errors of the distribution specification. */
const ErrorBody = Schema.fromJsonString(
  Schema.Struct({
    errors: Schema.Array(
      Schema.Struct({ code: Schema.optionalKey(Schema.String), message: Schema.optionalKey(Schema.String) })
    )
  })
)

/** Text of a stranger, fit for a line of a log. */
const excerpt = (text: string) => text.replace(/[\p{Cc}\p{Cf}\s]+/gu, " ").slice(0, 200)

/** The innermost words about a failed connection: those around it repeat the URL, whose query may be signed. */
const describe = (cause: unknown): string => {
  if (cause instanceof AggregateError && cause.errors.length > 0) return describe(cause.errors[0])
  if (!(cause instanceof Error)) return String(cause)
  if (cause.cause instanceof Error) return describe(cause.cause)
  return cause.message || ("code" in cause ? String(cause.code) : cause.name)
}

const unreachable =
  (url: URL) =>
  (error: HttpClientError): Problem => ({
    reason: "Unreachable",
    detail: `${url.origin}: ${describe("cause" in error.reason ? error.reason.cause : error)}`
  })

const reasonOf = (status: number): RegistryReason => {
  if (status === 401 || status === 403) return "Unauthorized"
  if (status === 404) return "NotFound"
  return status === 429 ? "RateLimited" : "Refused"
}

/** Asks over the given client. */
export const make = (httpClient: HttpClient.HttpClient, settings: Settings): Exchange => {
  const client = HttpClient.withScope(httpClient)

  const timedOut = (url: URL, what: string, limit: Duration.Duration) =>
    fail("TimedOut", `${url.origin}: ${what} for ${Duration.format(limit)}`)

  const send = Effect.fnUntraced(function* (request: HttpClientRequest.HttpClientRequest, url: URL) {
    const response = yield* client.execute(request).pipe(
      // A span would show the signed URLs of storage.
      Effect.provideService(HttpClient.TracerDisabledWhen, constTrue),
      Effect.mapError(unreachable(url)),
      Effect.timeoutOrElse({
        duration: settings.responseTimeout,
        orElse: () => timedOut(url, "no response", settings.responseTimeout)
      })
    )
    return { response, url }
  })

  const body = ({ response, url }: Answer) => {
    const chunks = Stream.mapError(
      response.stream,
      (error): Problem => ({ ...unreachable(url)(error), reason: "Truncated" })
    )
    // `Stream.timeoutOrElse` would do the same at twice the cost: it keeps a fiber and a queue beside the stream.
    return Stream.transformPull(chunks, (pull) =>
      Effect.succeed(
        Effect.timeoutOrElse(pull, {
          duration: settings.idleTimeout,
          orElse: () => timedOut(url, "no byte", settings.idleTimeout)
        })
      )
    )
  }

  const bytes = (answer: Answer, most: number) =>
    Effect.suspend(() => {
      const chunks: Array<Uint8Array> = []
      let length = 0
      return Effect.map(
        Stream.runForEach(body(answer), (chunk) => {
          length += chunk.length
          if (length > most) {
            return fail("Malformed", `${answer.url.origin}: over ${most} bytes came`)
          }
          return Effect.sync(() => void chunks.push(chunk))
        }),
        () => Buffer.concat(chunks)
      )
    })

  /** The text of a short body; empty if it is long, or does not end soon. */
  const reply = (answer: Answer) =>
    bytes(answer, maxReplyBytes).pipe(
      Effect.timeoutOption(settings.responseTimeout),
      Effect.map(Option.match({ onNone: () => "", onSome: (read) => read.toString() })),
      Effect.orElseSucceed(() => "")
    )

  const discard = (answer: Answer) => Effect.asVoid(reply(answer))

  const target = (location: string, from: URL): Effect.Effect<URL, Problem> => {
    const refuse = (why: string) => fail("Malformed", `${from.origin} redirects ${why}`)
    const to = URL.parse(location, from)
    if (to === null) return refuse("to no URL")
    if (to.protocol === "https:") return Effect.succeed(to)
    if (to.protocol !== "http:") return refuse(`to ${excerpt(to.protocol)}`)
    if (from.protocol === "http:" || settings.isPlain(to)) return Effect.succeed(to)
    return refuse(`from https to ${to.origin}, which is not configured for plain http`)
  }

  const ask = Effect.fnUntraced(function* (
    request: HttpClientRequest.HttpClientRequest,
    authorization: Option.Option<Redacted.Redacted>
  ) {
    let url = new URL(request.url)
    let secret = authorization
    for (let hop = 0; hop <= maxRedirects; hop++) {
      // As text: taken apart and put together again, a signed query may change.
      const here = HttpClientRequest.setUrl(request, url.href)
      const answer = yield* send(
        Option.match(secret, {
          onNone: () => here,
          onSome: (value) => HttpClientRequest.setHeader(here, "authorization", Redacted.value(value))
        }),
        url
      )
      const location = answer.response.headers.location
      if (!redirects.has(answer.response.status) || location === undefined) return answer
      const next = yield* target(location, url)
      yield* discard(answer)
      if (next.origin !== url.origin) secret = Option.none()
      url = next
    }
    return yield* fail("Malformed", `more than ${maxRedirects} redirects`)
  })

  const refusal = Effect.fnUntraced(function* (answer: Answer): Effect.fn.Return<Problem> {
    const { headers, status } = answer.response
    const said = Schema.decodeOption(ErrorBody)(yield* reply(answer)).pipe(
      Option.map(({ errors }) => errors.map(({ code, message }) => [code, message].filter(Boolean).join(": "))),
      Option.match({ onNone: () => "", onSome: (errors) => ` (${excerpt(errors.join("; "))})` })
    )
    const now = yield* Clock.currentTimeMillis
    const retryAfter =
      status === 429 || status === 503 ? parseRetryAfter(headers["retry-after"], now, maxRetryAfter) : Option.none()
    return {
      reason: reasonOf(status),
      detail: `${answer.url.origin} answered ${status}${said}`,
      status,
      ...(Option.isSome(retryAfter) ? { retryAfter: retryAfter.value } : {})
    }
  })

  return {
    ask,
    askOnce: (request) => send(request, new URL(request.url)),
    body,
    bytes,
    discard,
    refusal,
    isPlain: settings.isPlain
  }
}
