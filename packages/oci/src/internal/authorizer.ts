/**
 * Answers the challenges of registries, and remembers the answers.
 */
import { RecentMap } from "@gantry/coord/RecentMap"
import type { Registry, Repository } from "@gantry/protocol"
import * as Cache from "effect/Cache"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Base64 from "effect/encoding/Base64"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Credential, type Credentials } from "../Credentials.ts"
import { CredentialsUnknown, Malformed, Refused, type RegistryErrorReason } from "../RegistryError.ts"
import { type Answer, type Exchange, maxReplyBytes } from "./exchange.ts"
import { type Challenge, parseChallenges } from "./headers.ts"

/** What is asked for: authorizations hold for one repository. */
export interface Place {
  readonly registry: Registry
  readonly repository: Repository
}

/** The value of an `Authorization` header. */
export type Authorization = Redacted.Redacted

export interface Authorizer {
  /** The authorization that the place is known to want; none before its first challenge. */
  readonly known: (place: Place) => Effect.Effect<Option.Option<Authorization>, RegistryErrorReason>
  /** Answers a 401 or 403 that came in spite of `refused`; none if there is nothing else to answer with. */
  readonly respond: (
    place: Place,
    answer: Answer,
    refused: Option.Option<Authorization>
  ) => Effect.Effect<Option.Option<Authorization>, RegistryErrorReason>
}

/** A question to a registry's token service; equal ones share a token. */
class TokenRequest extends Data.Class<{
  readonly registry: Registry
  /** Credentials may differ from one to the other. */
  readonly repository: Repository
  readonly realm: string
  readonly service: string | undefined
  readonly scope: string
}> {}

type Method = TokenRequest | "basic"

interface Token {
  readonly authorization: Authorization
  readonly timeToLive: Duration.Duration
}

/** Repositories whose way of authentication, and tokens that are kept; the oldest leave first. */
const capacity = 1024

/** A token that does not tell its life has a minute (distribution specification). No token is kept longer than an hour. */
const defaultTokenSeconds = 60
const maxTokenSeconds = 3600

/** A token is given up before its end, which comes sooner on a registry whose clock is ahead. */
const usableShare = 0.9

const TokenReply = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))

/** The token of a reply. Some services send it under both names, one of them empty. */
const tokenIn = ({ access_token, token }: typeof TokenReply.Type): string | undefined =>
  [token, access_token].map((value) => (typeof value === "string" ? value.trim() : "")).find((text) => text !== "")

/** How long a token lives, in seconds. Some services send the number as text. */
const secondsIn = ({ expires_in }: typeof TokenReply.Type): number => {
  const seconds = typeof expires_in === "string" && expires_in.trim() !== "" ? Number(expires_in) : expires_in
  return typeof seconds === "number" && Number.isFinite(seconds) ? seconds : defaultTokenSeconds
}

const basic = ({ password, username }: Extract<Credential, { _tag: "Basic" }>): Authorization =>
  Redacted.make(`Basic ${Base64.encode(`${username}:${Redacted.value(password)}`)}`)

const tokenQuestion = ({ realm, scope, service }: TokenRequest): HttpClientRequest.HttpClientRequest => {
  const url = new URL(realm)
  if (service !== undefined) url.searchParams.append("service", service)
  for (const part of scope.split(" ")) url.searchParams.append("scope", part)
  return HttpClientRequest.get(url.href)
}

const refreshQuestion = ({ realm, scope, service }: TokenRequest, token: Redacted.Redacted) =>
  HttpClientRequest.bodyUrlParams(HttpClientRequest.post(realm), {
    grant_type: "refresh_token",
    client_id: "gantry",
    service,
    scope,
    refresh_token: Redacted.value(token)
  })

const isSame = (a: Authorization, b: Authorization) => Redacted.value(a) === Redacted.value(b)

/**
 * Asks token services over the given exchange. A realm over plain http is taken
 * from who was asked that way, and from others if it is one that may be.
 */
export const make = Effect.fnUntraced(function* (
  exchange: Exchange,
  credentials: Credentials["Service"],
  isPlain: (url: URL) => boolean
) {
  const methods = new RecentMap<string, Method>(capacity)

  const credentialFor = ({ registry, repository }: Place) =>
    Effect.mapError(credentials.get(registry, repository), ({ message }) => new CredentialsUnknown({ detail: message }))

  const fetchToken = Effect.fnUntraced(function* (
    request: TokenRequest
  ): Effect.fn.Return<Token, RegistryErrorReason, Scope.Scope> {
    const { registry } = request
    const credential = Option.getOrUndefined(yield* credentialFor(request))
    const answer = yield* credential?._tag === "IdentityToken"
      ? exchange.askOnce({ registry, request: refreshQuestion(request, credential.token) })
      : exchange.ask({
          registry,
          request: tokenQuestion(request),
          authorization: Option.map(Option.fromUndefinedOr(credential), basic)
        })
    const { status } = answer.response
    if (status < 200 || status > 299) {
      const refusal = yield* exchange.refusal(answer)
      // A token service that is not there says nothing about the image.
      const isVerdict = refusal._tag !== "NotFound" && refusal._tag !== "StorageRefused"
      return yield* isVerdict ? refusal : new Refused({ detail: refusal.detail, status })
    }
    const text = new TextDecoder().decode(yield* exchange.bytes(answer, maxReplyBytes))
    const reply = Option.getOrElse(Schema.decodeOption(TokenReply)(text), () => ({}))
    const token = tokenIn(reply)
    if (token === undefined) return yield* exchange.malformed(answer.url, "gave no token")
    return {
      authorization: Redacted.make(`Bearer ${token}`),
      timeToLive: Duration.seconds(Math.min(Math.max(secondsIn(reply), 0), maxTokenSeconds) * usableShare)
    }
  }, Effect.scoped)

  const tokens = yield* Cache.makeWith(fetchToken, {
    capacity,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? exit.value.timeToLive : Duration.zero)
  })

  const authorize = Effect.fnUntraced(function* (place: Place, method: Method) {
    if (method !== "basic") return Option.some((yield* Cache.get(tokens, method)).authorization)
    return Option.map(Option.filter(yield* credentialFor(place), Credential.$is("Basic")), basic)
  })

  const tokenRequest = ({ registry, repository }: Place, from: URL, { parameters }: Challenge) => {
    const realm = URL.parse(parameters.get("realm") ?? "")
    const isSafe =
      realm?.protocol === "https:" || (realm?.protocol === "http:" && (from.protocol === "http:" || isPlain(realm)))
    if (realm === null || !isSafe) return undefined
    const scope = parameters.get("scope") || `repository:${repository}:pull`
    return new TokenRequest({ registry, repository, realm: realm.href, service: parameters.get("service"), scope })
  }

  /** The first way that is offered and can be gone; a token before a password. */
  const choose = (
    place: Place,
    { response, url }: Answer
  ): Effect.Effect<Option.Option<Method>, RegistryErrorReason> => {
    const challenges = parseChallenges(response.headers["www-authenticate"] ?? "")
    const bearer = challenges.filter(({ scheme }) => scheme === "bearer")
    for (const challenge of bearer) {
      const request = tokenRequest(place, url, challenge)
      if (request !== undefined) return Effect.succeedSome(request)
    }
    if (challenges.some(({ scheme }) => scheme === "basic")) return Effect.succeedSome("basic")
    return bearer.length === 0
      ? Effect.succeedNone
      : Effect.fail(new Malformed({ detail: `${url.origin} names no usable token service` }))
  }

  const keyOf = ({ registry, repository }: Place) => `${registry}/${repository}`

  const remember = (place: Place, method: Method) => methods.set(keyOf(place), method)

  const known = (place: Place) => {
    const method = methods.get(keyOf(place))
    if (method === undefined) return Effect.succeedNone
    // What a registry wanted once may be out of date: after a failure it is asked afresh.
    return Effect.tapError(authorize(place, method), () => Effect.sync(() => methods.delete(keyOf(place))))
  }

  const respond = Effect.fnUntraced(function* (place: Place, answer: Answer, refused: Option.Option<Authorization>) {
    const offered = yield* choose(place, answer)
    // Not every registry that takes a token no longer says what it wants instead.
    const before = Option.isSome(refused) ? Option.fromUndefinedOr(methods.get(keyOf(place))) : Option.none()
    const method = Option.orElse(offered, () => before)
    if (Option.isNone(method)) return Option.none()
    if (method.value !== "basic" && Option.isSome(refused)) {
      yield* Cache.invalidateWhen(tokens, method.value, ({ authorization }) => isSame(authorization, refused.value))
    }
    remember(place, method.value)
    const authorization = yield* authorize(place, method.value)
    return Option.filter(authorization, (value) => !Option.exists(refused, (other) => isSame(value, other)))
  })

  const authorizer: Authorizer = { known: (place) => Effect.suspend(() => known(place)), respond }
  return authorizer
})
