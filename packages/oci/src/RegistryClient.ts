/**
 * Asks registries for what they hold, per the OCI distribution specification.
 */
import type { SettingError } from "@gantry/coord/SettingError"
import * as Settings from "@gantry/coord/Settings"
import {
  type ContentKind,
  type Digest,
  isDigest,
  type OriginRef,
  type Registry,
  type Repository
} from "@gantry/protocol"
import * as Cache from "effect/Cache"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { digestOf } from "./BlobStore.ts"
import { Credentials } from "./Credentials.ts"
import * as Authorizer from "./internal/authorizer.ts"
import * as Endpoints from "./internal/endpoints.ts"
import * as Exchange from "./internal/exchange.ts"
import { type Asked, type Part, rangeHeader, read, whole } from "./internal/rangedRead.ts"
import * as Manifest from "./Manifest.ts"
import {
  Malformed,
  RegistryError,
  type RegistryErrorReason,
  Truncated,
  Unauthorized,
  Unreachable
} from "./RegistryError.ts"
import { RegistryHttp } from "./RegistryHttp.ts"
import type { Upstreams } from "./Upstream.ts"

/** A tag of a repository, as the distribution specification allows them. */
export const Tag = Schema.String.check(Schema.isPattern(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/)).pipe(
  Schema.brand("Tag")
)
export type Tag = typeof Tag.Type

/** One digest to fetch, from a byte on. */
export interface FetchRequest {
  readonly ref: OriginRef
  readonly kind: ContentKind
  /** The first byte that is wanted; 0. */
  readonly offset?: number | undefined
  /** Of the whole, in bytes, where an earlier delivery told: a part of something of another size is not taken. */
  readonly size?: number | undefined
}

/** What a registry delivers. Nothing about it has been verified. */
export interface Delivery {
  /** Of the first byte of the stream: what was asked for, or 0 from a registry that resumes nothing. */
  readonly offset: number
  /** Of the whole, in bytes, where the registry tells. */
  readonly totalSize: Option.Option<number>
  /** Ends in success only if all came that was announced. Fails when no byte comes for the idle time. */
  readonly stream: Stream.Stream<Uint8Array, RegistryError>
}

/**
 * Pulls from registries (parts, Pump). Asks once, and once more without a
 * shortcut that fails; retrying is for the caller, who knows what it is worth.
 */
export class RegistryClient extends Context.Service<
  RegistryClient,
  {
    /** Opens a manifest or blob. The scope ends the transfer. */
    readonly fetch: (request: FetchRequest) => Effect.Effect<Delivery, RegistryError, Scope.Scope>
    /**
     * The digest that a tag names now, by the word of the registry: all that it
     * says besides, of size and type, no digest covers.
     */
    readonly resolve: (registry: Registry, repository: Repository, tag: Tag) => Effect.Effect<Digest, RegistryError>
  }
>()("@gantry/oci/RegistryClient") {}

/** Settings; a duration that is not positive is ignored. */
export interface Options {
  /** Registries that are not simply at `https://<registry>`. */
  readonly upstreams?: Upstreams | undefined
  /** Other servers that registries may send us to, as `host` or `host:port`, that are asked over `http`. */
  readonly plainHttp?: ReadonlyArray<string> | undefined
  /** How long one request may take to connect and be answered; 10 seconds. */
  readonly responseTimeout?: Duration.Input | undefined
  /** How long a body may stay without a further byte; 30 seconds. */
  readonly idleTimeout?: Duration.Input | undefined
}

const manifestTypes = Manifest.mediaTypes.join(", ")

/** How often the registry is asked for another redirect after its storage refused. */
const maxFreshRedirects = 2

/** How long, and of how many registries, it is remembered that a shortcut leads nowhere. */
const detourTime = Duration.minutes(10)
const maxDetours = 1024

interface Subject extends Authorizer.Place {
  readonly reference: string
}

const make = Effect.fnUntraced(function* (options: Options = {}) {
  const credentials = yield* Credentials
  const { endpointOf, isPlain } = Endpoints.make(options)
  const timeouts = yield* Settings.read(options, (settings) => ({
    responseTimeout: settings.duration("responseTimeout", "10 seconds"),
    idleTimeout: settings.duration("idleTimeout", "30 seconds")
  }))
  const settings: Exchange.Settings = { ...timeouts, http: yield* RegistryHttp, isPlain }
  const exchange = yield* Exchange.make(settings)
  const tokenExchange = yield* Exchange.make({ ...settings, preface: "asked for a token, " })
  const authorizer = yield* Authorizer.make(tokenExchange, credentials, isPlain)
  const makeDetours = Cache.make({ capacity: maxDetours, timeToLive: detourTime, lookup: () => Effect.void })
  const resumesNothing = yield* makeDetours
  const answersNoHead = yield* makeDetours

  const blame =
    ({ reference, registry, repository }: Subject) =>
    (reason: RegistryErrorReason) =>
      new RegistryError({ reason, registry, repository, reference })

  const urlOf = Effect.fnUntraced(function* ({ reference, registry, repository }: Subject, folder: string) {
    const endpoint = endpointOf(registry)
    if (endpoint === undefined) return yield* new Unreachable({ detail: `${registry} is no address` })
    return `${endpoint}/v2/${repository}/${folder}/${reference}`
  })

  const request = (method: "GET" | "HEAD", url: string, headers: Record<string, string>) =>
    // A compressed transfer would have another digest, and other ranges.
    HttpClientRequest.make(method)(url, {
      headers: { "user-agent": "gantry", "accept-encoding": "identity", ...headers }
    })

  /** Asks, answers at most one challenge, and asks once more. */
  const askOnce = Effect.fnUntraced(function* (subject: Subject, request: HttpClientRequest.HttpClientRequest) {
    const { registry } = subject
    const known = yield* authorizer.known(subject)
    const answer = yield* exchange.ask({ registry, request, authorization: known })
    const { status } = answer.response
    // A token that is too old, or for too little, is refused by some with 403.
    const isChallenge = status === 401 || (status === 403 && Option.isSome(known))
    // Another server's challenge is not the registry's: nothing of ours answers it.
    if (!isChallenge || answer.isElsewhere) return answer
    const authorization = yield* authorizer.respond(subject, answer, known)
    if (Option.isNone(authorization)) return answer
    yield* exchange.discard(answer)
    return yield* exchange.ask({ registry, request, authorization })
  })

  /**
   * Asks, and asks again for another redirect, also those who keep answers for
   * others, when the storage that the registry sent us to refuses: its URLs expire.
   */
  const ask = Effect.fnUntraced(function* (
    subject: Subject,
    request: HttpClientRequest.HttpClientRequest,
    freshRedirects = maxFreshRedirects
  ) {
    let answer = yield* askOnce(subject, request)
    const again = HttpClientRequest.setHeader(request, "cache-control", "no-cache")
    for (let count = 0; count < freshRedirects && isExpired(answer); count++) {
      yield* exchange.discard(answer)
      answer = yield* askOnce(subject, again)
    }
    return answer
  })

  const refuse = Effect.fnUntraced(function* (subject: Subject, answer: Exchange.Answer) {
    const reason = yield* exchange.refusal(answer)
    if (reason._tag !== "Unauthorized") return yield* reason
    const { registry, repository } = subject
    const credential = yield* Effect.orElseSucceed(credentials.get(registry, repository), Option.none)
    const whose = Option.isSome(credential) ? "the credentials" : "no credentials"
    return yield* new Unauthorized({ ...reason, detail: `${reason.detail}, with ${whose} for ${registry}` })
  })

  const fetch = Effect.fn("RegistryClient.fetch")(function* ({ kind, offset = 0, ref, size }: FetchRequest) {
    const subject: Subject = { registry: ref.registry, repository: ref.repository, reference: ref.digest }
    return yield* Effect.mapError(open(subject, kind === "manifest", offset, size), blame(subject))
  })

  const open = Effect.fnUntraced(function* (
    subject: Subject,
    isManifest: boolean,
    offset: number,
    size: number | undefined
  ): Effect.fn.Return<Delivery, RegistryErrorReason, Scope.Scope> {
    const url = yield* urlOf(subject, isManifest ? "manifests" : "blobs")
    const get = request("GET", url, isManifest ? { accept: manifestTypes } : {})
    const { origin } = new URL(url)
    const canResume = offset > 0 && !(yield* Cache.has(resumesNothing, origin))
    if (canResume) {
      const rest = yield* openRest(subject, get, { from: offset, size })
      if (Option.isSome(rest)) return rest.value
    }

    // Whoever asked for the rest has asked for a fresh redirect once, and does so again by asking for the whole.
    const answer = yield* ask(subject, get, canResume ? 0 : maxFreshRedirects)
    const reading = read(answer.response, { from: 0 })
    if (reading._tag === "Unfit") return yield* exchange.malformed(answer.url, reading.detail)
    if (reading._tag === "Refused") return yield* refuse(subject, answer)
    // What is between us and the registry may have pages of its own for us.
    if (isManifest && /^text\/html\b/i.test(answer.response.headers["content-type"] ?? "")) {
      return yield* exchange.malformed(answer.url, "sent a page for people in place of a manifest")
    }
    if (canResume) yield* Cache.set(resumesNothing, origin, undefined)
    return deliver(subject, answer, reading)
  })

  /** Asks for what follows a byte; none if all of it has to be asked for instead. */
  const openRest = Effect.fnUntraced(function* (
    subject: Subject,
    get: HttpClientRequest.HttpClientRequest,
    rest: Asked
  ) {
    const ranged = HttpClientRequest.setHeaders(get, rangeHeader(rest.from))
    const asked = yield* Effect.result(ask(subject, ranged, 1))
    if (Result.isFailure(asked)) {
      // Some break off the connection at what they do not know.
      return asked.failure._tag === "Unreachable" ? Option.none() : yield* asked.failure
    }
    const answer = asked.success
    const reading = read(answer.response, rest)
    if (reading._tag === "Part") return Option.some(deliver(subject, answer, reading))
    if (answer.response.status === 401 || asksToWait(answer)) return yield* refuse(subject, answer)
    yield* exchange.discard(answer)
    return Option.none()
  })

  /** The body, which must hold as many bytes as the headers say. */
  const deliver = (subject: Subject, answer: Exchange.Answer, part: Part): Delivery => {
    const fail = (reached: number, total: number) => {
      const detail = `${answer.url.origin} ended at byte ${reached} of ${total}`
      return reached < total ? new Truncated({ detail }) : new Malformed({ detail })
    }
    return {
      offset: part.first,
      totalSize: part.total,
      stream: Stream.mapError(whole(exchange.body(answer), part, fail), blame(subject))
    }
  }

  const resolve = Effect.fn("RegistryClient.resolve")(function* (registry: Registry, repository: Repository, tag: Tag) {
    const subject: Subject = { registry, repository, reference: tag }
    return yield* Effect.mapError(digestAt(subject), blame(subject))
  }, Effect.scoped)

  const digestAt = Effect.fnUntraced(function* (
    subject: Subject
  ): Effect.fn.Return<Digest, RegistryErrorReason, Scope.Scope> {
    const url = yield* urlOf(subject, "manifests")
    const { origin } = new URL(url)
    const asksHead = !(yield* Cache.has(answersNoHead, origin))
    if (asksHead) {
      const announced = yield* announcedAt(subject, request("HEAD", url, { accept: manifestTypes }))
      if (Option.isSome(announced)) return announced.value
    }

    const answer = yield* ask(subject, request("GET", url, { accept: manifestTypes }))
    if (answer.response.status !== 200) return yield* refuse(subject, answer)
    const bytes = yield* exchange.bytes(answer, Manifest.maxBytes)
    const digest = digestOf(bytes)
    const manifest = Manifest.parse(bytes)
    if (Result.isFailure(manifest))
      return yield* exchange.malformed(answer.url, `sent no manifest: ${Exchange.excerpt(manifest.failure.detail)}`)
    const claimed = announcedBy(answer)
    if (Option.isSome(claimed) && claimed.value !== digest) {
      return yield* exchange.malformed(answer.url, `announced ${claimed.value} and sent ${digest}`)
    }
    if (asksHead) yield* Cache.set(answersNoHead, origin, undefined)
    return digest
  })

  /** What the headers of a tag say; none if the tag has to be asked for in full. */
  const announcedAt = Effect.fnUntraced(function* (subject: Subject, head: HttpClientRequest.HttpClientRequest) {
    const asked = yield* Effect.result(ask(subject, head))
    if (Result.isFailure(asked)) {
      const isOfHead = asked.failure._tag === "Unreachable" || asked.failure._tag === "TimedOut"
      return isOfHead ? Option.none() : yield* asked.failure
    }
    const answer = asked.success
    if (answer.response.status === 200) return announcedBy(answer)
    return asksToWait(answer) ? yield* refuse(subject, answer) : Option.none()
  })

  return RegistryClient.of({ fetch, resolve })
})

const announcedBy = ({ response }: Exchange.Answer): Option.Option<Digest> =>
  Option.filter(Option.some((response.headers["docker-content-digest"] ?? "").trim()), isDigest)

/** Whether a server asks to be left alone: no other form of the question is welcome. */
const asksToWait = ({ response: { headers, status } }: Exchange.Answer) =>
  status === 429 || (status === 503 && headers["retry-after"] !== undefined)

/** Whether storage refuses what the registry sent us for. */
const isExpired = ({ isElsewhere, response: { status } }: Exchange.Answer) =>
  isElsewhere && status >= 400 && status < 500 && status !== 416 && status !== 429

/** Asks over the given connections, as whom the credentials say. */
export const layer = (options?: Options): Layer.Layer<RegistryClient, SettingError, RegistryHttp | Credentials> =>
  Layer.effect(RegistryClient, make(options))
