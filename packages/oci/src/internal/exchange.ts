/**
 * One question to a server over HTTP, its redirects followed.
 */
import type { Registry } from "@gantry/protocol"
import * as Cache from "effect/Cache"
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
import {
  Malformed,
  NoNetwork,
  NotFound,
  RateLimited,
  Refused,
  type RegistryErrorReason,
  StorageRefused,
  TimedOut,
  Truncated,
  Unauthorized,
  Unreachable
} from "../RegistryError.ts"
import type { RegistryHttp } from "../RegistryHttp.ts"
import { describe, isBroken, isOwnFailure } from "./connectionFailure.ts"
import { parseRetryAfter } from "./headers.ts"

/** A response, and who gave it. */
export interface Answer {
  readonly response: HttpClientResponse
  /** The server after all redirects. */
  readonly url: URL
  /** Whether it is another one than was asked. */
  readonly isElsewhere: boolean
}

/** A question on a registry's behalf: to itself, or to its token service. */
export interface Question {
  readonly registry: Registry
  readonly request: HttpClientRequest.HttpClientRequest
  readonly authorization: Option.Option<Redacted.Redacted>
}

export interface Exchange {
  /** Follows redirects. The authorization goes to the origin of the request alone. */
  readonly ask: (question: Question) => Effect.Effect<Answer, RegistryErrorReason, Scope.Scope>
  /** Takes the first response, a redirect too: for a request that carries a secret in its body. */
  readonly askOnce: (
    question: Omit<Question, "authorization">
  ) => Effect.Effect<Answer, RegistryErrorReason, Scope.Scope>
  /** The body, as it comes. Fails when no byte comes for the idle time. */
  readonly body: (answer: Answer) => Stream.Stream<Uint8Array, RegistryErrorReason>
  /** A whole body of at most so many bytes. */
  readonly bytes: (answer: Answer, most: number) => Effect.Effect<Buffer, RegistryErrorReason>
  /** Lets go of a response. A body read to its end frees the connection for the next request. */
  readonly discard: (answer: Answer) => Effect.Effect<void>
  /** What a response that is not wanted means. */
  readonly refusal: (answer: Answer) => Effect.Effect<RegistryErrorReason>
  /** A response that cannot be used, because of what follows its server's name. */
  readonly malformed: (server: URL, what: string) => Effect.Effect<never, Malformed>
}

export interface Settings {
  readonly http: RegistryHttp["Service"]
  /** Whether a server may be asked over `http` by who was asked over `https`. */
  readonly isPlain: (url: URL) => boolean
  readonly responseTimeout: Duration.Duration
  readonly idleTimeout: Duration.Duration
  /** Goes before the name of the server in whatever is told; nothing, if not given. */
  readonly preface?: string | undefined
}

/** More than a registry needs to get to its storage, and few enough to end a loop soon. */
const maxRedirects = 5

/** Of the body of a redirect, an error or a token: what is longer is none of these. */
export const maxReplyBytes = 64 * 1024

/** No origin is waited for longer; the cooldown after it is bounded by the negative cache. */
const maxRetryAfter = Duration.hours(1)

/** How long, and of how many servers, it is remembered that a request to them got no response. */
const doubtTime = Duration.minutes(1)
const maxDoubts = 1024

const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

const isText = (value: unknown): value is string => typeof value === "string" && value !== ""

const ErrorBody = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))

/** What the body of an error says: by the distribution specification, or in one of the other forms that occur. */
const wordsIn = (body: Readonly<Record<string, unknown>>): string => {
  const { code, details, error, errors, message } = body
  if (Array.isArray(errors)) {
    const items = errors.map((item) =>
      typeof item === "object" && item !== null ? wordsIn({ ...item, errors: 0 }) : item
    )
    return items.filter(isText).join("; ")
  }
  const words = [code, message].filter(isText)
  return (words.length > 0 ? words : [error, details].filter(isText)).join(": ")
}

/** Text of a stranger, fit for a line of a log. */
export const excerpt = (text: string) => text.replace(/[\p{Cc}\p{Cf}\s]+/gu, " ").slice(0, 200)

const causeOf = (error: HttpClientError): unknown => ("cause" in error.reason ? error.reason.cause : error)

/** Asks over the clients of each registry. */
export const make = Effect.fnUntraced(function* ({
  http,
  idleTimeout,
  isPlain,
  preface = "",
  responseTimeout
}: Settings): Effect.fn.Return<Exchange> {
  /** Servers whose kept connections may be dead without a word: they are asked over new ones. */
  const doubts = yield* Cache.make({ capacity: maxDoubts, timeToLive: doubtTime, lookup: () => Effect.void })

  const nameOf = ({ origin }: URL) => `${preface}${origin}`

  const malformed = (server: URL, what: string) => Effect.fail(new Malformed({ detail: `${nameOf(server)} ${what}` }))

  const unreachable = (url: URL) => (error: HttpClientError) => {
    const cause = causeOf(error)
    const detail = `${nameOf(url)}: ${describe(cause)}`
    return isOwnFailure(cause) ? new NoNetwork({ detail }) : new Unreachable({ detail })
  }

  const timedOut = (url: URL, what: string, limit: Duration.Duration) =>
    Effect.fail(new TimedOut({ detail: `${nameOf(url)}: ${what} for ${Duration.format(limit)}` }))

  const send = Effect.fnUntraced(function* (
    registry: Registry,
    request: HttpClientRequest.HttpClientRequest,
    url: URL
  ) {
    const { fresh, kept } = http.clientFor(registry)
    const overFresh = HttpClient.withScope(fresh).execute(request)
    // A server ends a kept connection when it likes, also while a request is under way to it.
    const overKept = Effect.catchIf(
      HttpClient.withScope(kept).execute(request),
      (error) => request.method !== "POST" && isBroken(causeOf(error)),
      () => overFresh
    )
    return yield* ((yield* Cache.has(doubts, url.origin)) ? overFresh : overKept).pipe(
      // A span would show the signed URLs of storage.
      Effect.provideService(HttpClient.TracerDisabledWhen, constTrue),
      Effect.mapError(unreachable(url)),
      Effect.timeoutOrElse({
        duration: responseTimeout,
        orElse: () =>
          Effect.andThen(Cache.set(doubts, url.origin, undefined), timedOut(url, "no response", responseTimeout))
      })
    )
  })

  const body = ({ response, url }: Answer) => {
    const chunks = Stream.mapError(
      response.stream,
      (error) => new Truncated({ detail: `${nameOf(url)}: ${describe(causeOf(error))}` })
    )
    // `Stream.timeoutOrElse` would do the same at twice the cost: it keeps a fiber and a queue beside the stream.
    return Stream.transformPull(chunks, (pull) =>
      Effect.succeed(
        Effect.timeoutOrElse(pull, { duration: idleTimeout, orElse: () => timedOut(url, "no byte", idleTimeout) })
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
          if (length > most)
            return Effect.fail(new Malformed({ detail: `${nameOf(answer.url)}: over ${most} bytes came` }))
          return Effect.sync(() => void chunks.push(chunk))
        }),
        () => Buffer.concat(chunks)
      )
    })

  /** The text of a short body; empty if it is long, or does not end soon. */
  const reply = (answer: Answer) =>
    bytes(answer, maxReplyBytes).pipe(
      Effect.timeoutOption(responseTimeout),
      Effect.map(Option.match({ onNone: () => "", onSome: (read) => read.toString() })),
      Effect.orElseSucceed(() => "")
    )

  const discard = (answer: Answer) => Effect.asVoid(reply(answer))

  const target = (location: string, from: URL): Effect.Effect<URL, Malformed> => {
    const refuse = (why: string) => malformed(from, `redirects ${why}`)
    const to = URL.parse(location, from)
    if (to === null) return refuse("to no URL")
    if (to.protocol === "https:") return Effect.succeed(to)
    if (to.protocol !== "http:") return refuse(`to ${excerpt(to.protocol)}`)
    if (from.protocol === "http:" || isPlain(to)) return Effect.succeed(to)
    return refuse(`from https to ${to.origin}, which is not to be asked over plain http`)
  }

  // `HttpClient.followRedirects` ends the connection of a redirect whose body
  // comes later than its head: each blob would cost the registry another one.
  const ask = Effect.fnUntraced(function* ({ authorization, registry, request }: Question) {
    const asked = new URL(request.url)
    let url = asked
    let secret = authorization
    for (let hop = 0; hop <= maxRedirects; hop++) {
      // As text: taken apart and put together again, a signed query may change.
      const here = HttpClientRequest.setUrl(request, url.href)
      const withSecret = Option.match(secret, {
        onNone: () => here,
        onSome: (value) => HttpClientRequest.setHeader(here, "authorization", Redacted.value(value))
      })
      const response = yield* send(registry, withSecret, url)
      const answer: Answer = { response, url, isElsewhere: url.origin !== asked.origin }
      const location = response.headers.location
      if (!redirects.has(response.status) || location === undefined) return answer
      const next = yield* target(location, url)
      yield* discard(answer)
      if (next.origin !== url.origin) secret = Option.none()
      url = next
    }
    return yield* malformed(asked, `leads to more than ${maxRedirects} redirects`)
  })

  const askOnce = ({ registry, request }: Omit<Question, "authorization">) => {
    const url = new URL(request.url)
    return Effect.map(send(registry, request, url), (response): Answer => ({ response, url, isElsewhere: false }))
  }

  const refusal = Effect.fnUntraced(function* (answer: Answer): Effect.fn.Return<RegistryErrorReason> {
    const { isElsewhere, response, url } = answer
    const { headers, status } = response
    const said = Option.match(Schema.decodeOption(ErrorBody)(yield* reply(answer)), {
      onNone: () => "",
      onSome: wordsIn
    })
    const server = isElsewhere ? `redirected to ${nameOf(url)}, which` : nameOf(url)
    const problem = { detail: `${server} answered ${status}${said === "" ? "" : ` (${excerpt(said)})`}`, status }
    const now = yield* Clock.currentTimeMillis
    const retryAfter =
      status === 429 || status === 503 ? parseRetryAfter(headers["retry-after"], now, maxRetryAfter) : Option.none()
    const patience = Option.isSome(retryAfter) ? { ...problem, retryAfter: retryAfter.value } : problem
    if (isElsewhere) return new StorageRefused(patience)
    if (status === 401 || status === 403) return new Unauthorized(problem)
    if (status === 404) return new NotFound(problem)
    return status === 429 || Option.isSome(retryAfter) ? new RateLimited(patience) : new Refused(problem)
  })

  return { ask, askOnce, body, bytes, discard, refusal, malformed }
})
