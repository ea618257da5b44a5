/**
 * Answers the challenges of registries, and remembers the answers.
 */
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
import { type Answer, type Exchange, fail, maxReplyBytes, type Problem } from "./exchange.ts"
import { parseChallenges } from "./headers.ts"

/** What is asked for: authorizations hold for one repository. */
export interface Place {
  readonly registry: Registry
  readonly repository: Repository
}

/** The value of an `Authorization` header. */
export type Authorization = Redacted.Redacted

export interface Authorizer {
  /** The authorization that the place is known to want; none before its first challenge. */
  readonly known: (place: Place) => Effect.Effect<Option.Option<Authorization>, Problem>
  /** Answers a 401 that came in spite of `refused`; none if there is nothing to answer with. */
  readonly respond: (
    place: Place,
    answer: Answer,
    refused: Option.Option<Authorization>
  ) => Effect.Effect<Option.Option<Authorization>, Problem>
}

/** A question to a registry's token service; equal ones share a token. */
class TokenRequest extends Data.Class<{
  readonly registry: Registry
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

const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const TokenReply = Schema.fromJsonString(
  Schema.Struct({
    token: optional(Schema.String),
    access_token: optional(Schema.String),
    expires_in: optional(Schema.Finite)
  })
)

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

export const make = Effect.fnUntraced(function* (exchange: Exchange, credentials: Credentials["Service"]) {
  const methods = new Map<string, Method>()

  const credentialFor = (registry: Registry) =>
    Effect.mapError(credentials.get(registry), ({ message }): Problem => ({ reason: "Credentials", detail: message }))

  const fetchToken = Effect.fnUntraced(
    function* (request: TokenRequest): Effect.fn.Return<Token, Problem, Scope.Scope> {
      const credential = Option.getOrUndefined(yield* credentialFor(request.registry))
      const answer = yield* credential?._tag === "IdentityToken"
        ? exchange.askOnce(refreshQuestion(request, credential.token))
        : exchange.ask(tokenQuestion(request), Option.map(Option.fromUndefinedOr(credential), basic))
      if (answer.response.status !== 200) {
        const refusal = yield* exchange.refusal(answer)
        // A token service that is not there says nothing about the image.
        return yield* Effect.fail(refusal.reason === "NotFound" ? { ...refusal, reason: "Refused" as const } : refusal)
      }
      const reply = Schema.decodeOption(TokenReply)((yield* exchange.bytes(answer, maxReplyBytes)).toString())
      const token = Option.flatMapNullishOr(reply, ({ access_token, token }) => token || access_token)
      if (Option.isNone(token)) return yield* fail("Malformed", `${answer.url.origin} gave no token`)
      const seconds = Option.getOrUndefined(reply)?.expires_in ?? defaultTokenSeconds
      return {
        authorization: Redacted.make(`Bearer ${token.value}`),
        timeToLive: Duration.seconds(Math.min(Math.max(seconds, 0), maxTokenSeconds) * usableShare)
      }
    },
    Effect.scoped,
    Effect.mapError((problem) => ({ ...problem, detail: `asked for a token, ${problem.detail}` }))
  )

  const tokens = yield* Cache.makeWith(fetchToken, {
    capacity,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? exit.value.timeToLive : Duration.zero)
  })

  const authorize = Effect.fnUntraced(function* (place: Place, method: Method) {
    if (method !== "basic") return Option.some((yield* Cache.get(tokens, method)).authorization)
    return Option.map(Option.filter(yield* credentialFor(place.registry), Credential.$is("Basic")), basic)
  })

  const choose = (place: Place, answer: Answer): Effect.Effect<Option.Option<Method>, Problem> => {
    const challenges = parseChallenges(answer.response.headers["www-authenticate"] ?? "")
    const bearer = challenges.find(({ scheme }) => scheme === "bearer")
    if (bearer === undefined) {
      const offered = challenges.some(({ scheme }) => scheme === "basic")
      return Effect.succeed(offered ? Option.some("basic") : Option.none())
    }
    const realm = URL.parse(bearer.parameters.get("realm") ?? "")
    const isSafe =
      realm?.protocol === "https:" ||
      (realm?.protocol === "http:" && (answer.url.protocol === "http:" || exchange.isPlain(realm)))
    if (realm === null || !isSafe) return fail("Malformed", `${answer.url.origin} names no usable token service`)
    const scope = bearer.parameters.get("scope") || `repository:${place.repository}:pull`
    const service = bearer.parameters.get("service")
    return Effect.succeedSome(new TokenRequest({ registry: place.registry, realm: realm.href, service, scope }))
  }

  const keyOf = ({ registry, repository }: Place) => `${registry}/${repository}`

  const remember = (place: Place, method: Method) => {
    methods.delete(keyOf(place))
    methods.set(keyOf(place), method)
    if (methods.size > capacity) methods.delete(methods.keys().next().value as string)
  }

  const known = (place: Place) => {
    const method = methods.get(keyOf(place))
    if (method === undefined) return Effect.succeedNone
    // What a registry wanted once may be out of date: after a failure it is asked afresh.
    return Effect.tapError(authorize(place, method), () => Effect.sync(() => methods.delete(keyOf(place))))
  }

  const respond = Effect.fnUntraced(function* (place: Place, answer: Answer, refused: Option.Option<Authorization>) {
    const method = yield* choose(place, answer)
    if (Option.isNone(method)) return Option.none()
    if (method.value !== "basic" && Option.isSome(refused)) {
      yield* Cache.invalidateWhen(tokens, method.value, ({ authorization }) => authorization === refused.value)
    }
    remember(place, method.value)
    return yield* authorize(place, method.value)
  })

  const authorizer: Authorizer = { known: (place) => Effect.suspend(() => known(place)), respond }
  return authorizer
})
