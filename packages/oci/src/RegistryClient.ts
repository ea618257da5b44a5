/**
 * Asks registries for what they hold, per the OCI distribution specification.
 */
import { positiveDuration } from "@gantry/coord/Settings"
import { type ContentKind, type FailureClass, isDigest, type OriginRef, Registry, Repository } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Descriptor, digestOf } from "./BlobStore.ts"
import { Credentials } from "./Credentials.ts"
import * as Authorizer from "./internal/authorizer.ts"
import * as Exchange from "./internal/exchange.ts"
import { parseContentLength, parseContentRange } from "./internal/headers.ts"
import * as Manifest from "./Manifest.ts"

/** Why a registry did not deliver. */
export const RegistryReason = Schema.Literals([
  /** 401 or 403, from the registry or its token service. */
  "Unauthorized",
  /** 404. */
  "NotFound",
  /** 429. */
  "RateLimited",
  /** Any other status that is not success. */
  "Refused",
  /** No name, no route, no connection, no TLS. */
  "Unreachable",
  /** This node's own network: no route, no name server. */
  "NoNetwork",
  /** No response, or no further byte, in time. */
  "TimedOut",
  /** The body ended before its end. */
  "Truncated",
  /** A response that the specification does not allow, or that would not be safe to follow. */
  "Malformed",
  /** This node's own credentials could not be read. */
  "Credentials"
])
export type RegistryReason = typeof RegistryReason.Type

const advice: Record<RegistryReason, string> = {
  Unauthorized: "log in to the registry, or check that the account may pull from the repository",
  NotFound: "check that the repository exists and still holds it",
  RateLimited: "wait, or log in for a higher limit",
  Refused: "see what the registry reports about itself",
  Unreachable: "check its name, the network and the certificate",
  NoNetwork: "check the routes and the name servers of this node",
  TimedOut: "check the network and the load of the registry",
  Truncated: "check the network",
  Malformed: "check that it is a registry, and whether it is configured for plain http",
  Credentials: "mend the docker config of this node"
}

/** A failed question to a registry (parts, Pump and NegativeCache). */
export class RegistryError extends Schema.TaggedError<RegistryError>("@gantry/oci/RegistryError")("RegistryError", {
  reason: RegistryReason,
  registry: Registry,
  repository: Repository,
  /** The digest or the tag that was asked for. */
  reference: Schema.String,
  detail: Schema.String,
  /** Of the response, if there was one. */
  status: Schema.optionalKey(Schema.Int),
  /** How long the registry asks to be left alone; from a 429 or 503, at most an hour. */
  retryAfter: Schema.optionalKey(Schema.Duration)
}) {
  override get message(): string {
    const { reference, registry, repository } = this
    const name = `${registry}/${repository}${isDigest(reference) ? "@" : ":"}${reference}`
    const pause = this.retryAfter === undefined ? "" : `; it asks to wait ${Duration.format(this.retryAfter)}`
    return `cannot get ${name}: ${this.detail}${pause}; ${advice[this.reason]}`
  }

  /** What peers are told. */
  get failureClass(): FailureClass {
    switch (this.reason) {
      case "Unauthorized":
        return "auth"
      case "NotFound":
        return "not_found"
      case "RateLimited":
        return "rate_limited"
      default:
        return this.status === 503 && this.retryAfter !== undefined ? "rate_limited" : "transient"
    }
  }
}

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
}

/** What a registry delivers. Nothing about it has been verified. */
export interface Delivery {
  /** Of the first byte of the stream: what was asked for, or 0 from a registry that resumes nothing. */
  readonly offset: number
  /** Of the whole, in bytes, where the registry tells. */
  readonly totalSize: Option.Option<number>
  readonly contentType: Option.Option<string>
  /** Ends in success only if all came that was announced. Fails when no byte comes for the idle time. */
  readonly stream: Stream.Stream<Uint8Array, RegistryError>
}

/** Pulls from registries (parts, Pump). Asks once; retrying is for the caller, who knows what it is worth. */
export class RegistryClient extends Context.Service<
  RegistryClient,
  {
    /** Opens a manifest or blob. The scope ends the transfer. */
    readonly fetch: (request: FetchRequest) => Effect.Effect<Delivery, RegistryError, Scope.Scope>
    /** What a tag names now. */
    readonly resolve: (registry: Registry, repository: Repository, tag: Tag) => Effect.Effect<Descriptor, RegistryError>
  }
>()("@gantry/oci/RegistryClient") {}

/** Settings; a duration that is not positive is ignored. */
export interface Options {
  /** Registries, as `host` or `host:port`, that are asked over `http`. Those on loopback always are. */
  readonly plainHttp?: ReadonlyArray<string> | undefined
  /** How long one request may take to connect and be answered; 10 seconds. */
  readonly responseTimeout?: Duration.Input | undefined
  /** How long a body may stay without a further byte; 30 seconds. */
  readonly idleTimeout?: Duration.Input | undefined
}

const manifestTypes = Manifest.mediaTypes.join(", ")

/** Statuses about which a second question in another form would change nothing. */
const verdicts: ReadonlySet<number> = new Set([401, 403, 404, 429])

/** Docker Hub serves its API under another name than its images carry. */
const hosts: ReadonlyMap<string, string> = new Map([
  ["docker.io", "registry-1.docker.io"],
  ["index.docker.io", "registry-1.docker.io"]
])

const isLoopback = ({ hostname }: URL) =>
  hostname === "localhost" ||
  hostname.endsWith(".localhost") ||
  /^127(\.\d+){3}$/.test(hostname) ||
  hostname === "[::1]"

interface Subject extends Authorizer.Place {
  readonly reference: string
}

const make = Effect.fnUntraced(function* (options: Options = {}) {
  const credentials = yield* Credentials
  const plain = new Set(options.plainHttp?.map((host) => URL.parse(`http://${host}`)?.host))
  const isPlain = (url: URL) => isLoopback(url) || plain.has(url.host)
  const exchange = Exchange.make(yield* HttpClient.HttpClient, {
    isPlain,
    responseTimeout: positiveDuration(options.responseTimeout, Duration.seconds(10)),
    idleTimeout: positiveDuration(options.idleTimeout, Duration.seconds(30))
  })
  const authorizer = yield* Authorizer.make(exchange, credentials)

  const blame =
    ({ reference, registry, repository }: Subject) =>
    (problem: Exchange.Problem) =>
      new RegistryError({ registry, repository, reference, ...problem })

  const endpoint = Effect.fnUntraced(function* ({ reference, registry, repository }: Subject, folder: string) {
    const host = hosts.get(registry.toLowerCase()) ?? registry
    const path = `${host}/v2/${repository}/${folder}/${reference}`
    const url = URL.parse(`http://${path}`)
    if (url === null) {
      return yield* Exchange.fail("Unreachable", `${registry} is no address`)
    }
    return isPlain(url) ? url.href : `https://${path}`
  })

  /** Asks, answers at most one challenge, and asks once more. */
  const ask = Effect.fnUntraced(function* (subject: Subject, request: HttpClientRequest.HttpClientRequest) {
    const known = yield* authorizer.known(subject)
    const answer = yield* exchange.ask(request, known)
    // Another server's challenge is not the registry's: nothing of ours answers it.
    if (answer.response.status !== 401 || answer.url.origin !== new URL(request.url).origin) return answer
    const authorization = yield* authorizer.respond(subject, answer, known)
    if (Option.isNone(authorization)) return answer
    yield* exchange.discard(answer)
    return yield* exchange.ask(request, authorization)
  })

  const refuse = Effect.fnUntraced(function* (subject: Subject, answer: Exchange.Answer) {
    const problem = yield* exchange.refusal(answer)
    if (problem.reason !== "Unauthorized") return yield* Effect.fail(problem)
    const credential = yield* Effect.orElseSucceed(credentials.get(subject.registry), Option.none)
    const whose = Option.isSome(credential) ? "the credentials" : "no credentials"
    return yield* Effect.fail({ ...problem, detail: `${problem.detail}, with ${whose} for ${subject.registry}` })
  })

  const request = (method: "GET" | "HEAD", url: string, headers: Record<string, string>) =>
    // A compressed transfer would have another digest, and other ranges.
    HttpClientRequest.make(method)(url, {
      headers: { "user-agent": "gantry", "accept-encoding": "identity", ...headers }
    })

  const fetch = Effect.fn("RegistryClient.fetch")(function* ({ kind, offset = 0, ref }: FetchRequest) {
    const subject: Subject = { registry: ref.registry, repository: ref.repository, reference: ref.digest }
    const isManifest = kind === "manifest"

    const open = Effect.fnUntraced(function* (from: number): Effect.fn.Return<Delivery, Exchange.Problem, Scope.Scope> {
      const url = yield* endpoint(subject, isManifest ? "manifests" : "blobs")
      const answer = yield* ask(
        subject,
        request("GET", url, {
          ...(isManifest ? { accept: manifestTypes } : {}),
          ...(from > 0 ? { range: `bytes=${from}-` } : {})
        })
      )
      const { headers, status } = answer.response
      // The blob is shorter than what we have of it: that was something else.
      if (status === 416 && from > 0) return yield* open(0)
      if (status !== 200 && status !== 206) return yield* refuse(subject, answer)
      const range =
        status === 200
          ? { first: 0, total: parseContentLength(headers["content-length"]) }
          : Option.getOrUndefined(parseContentRange(headers["content-range"] ?? ""))
      if (range === undefined || (status === 206 && range.first !== from)) {
        return yield* Exchange.fail("Malformed", `${answer.url.origin} sent another part than from byte ${from} on`)
      }
      return {
        offset: range.first,
        totalSize: range.total,
        contentType: Option.fromUndefinedOr(headers["content-type"]),
        stream: Stream.mapError(whole(answer, range), blame(subject))
      }
    })

    return yield* Effect.mapError(open(offset), blame(subject))
  })

  /** The body, which must hold as many bytes as the headers say. */
  const whole = (answer: Exchange.Answer, range: { readonly first: number; readonly total: Option.Option<number> }) =>
    Stream.suspend(() => {
      let reached = range.first
      const counted = Stream.map(exchange.body(answer), (chunk) => {
        reached += chunk.length
        return chunk
      })
      const check = Stream.suspend(() =>
        Option.exists(range.total, (total) => reached < total)
          ? Stream.fromEffect(Exchange.fail("Truncated", `${answer.url.origin} ended at byte ${reached}`))
          : Stream.empty
      )
      return Stream.concat(counted, check)
    })

  const resolve = Effect.fn("RegistryClient.resolve")(function* (registry: Registry, repository: Repository, tag: Tag) {
    const subject: Subject = { registry, repository, reference: tag }
    return yield* Effect.mapError(describeTag(subject), blame(subject))
  }, Effect.scoped)

  const describeTag = Effect.fnUntraced(function* (
    subject: Subject
  ): Effect.fn.Return<Descriptor, Exchange.Problem, Scope.Scope> {
    const url = yield* endpoint(subject, "manifests")
    const head = yield* ask(subject, request("HEAD", url, { accept: manifestTypes }))
    const announced = descriptorOf(head)
    if (head.response.status === 200 && Option.isSome(announced)) return announced.value
    if (verdicts.has(head.response.status)) return yield* refuse(subject, head)

    // Not every registry answers HEAD, or answers it in full.
    const answer = yield* ask(subject, request("GET", url, { accept: manifestTypes }))
    if (answer.response.status !== 200) return yield* refuse(subject, answer)
    const bytes = yield* exchange.bytes(answer, Manifest.maxBytes)
    const digest = digestOf(bytes)
    const claimed = answer.response.headers["docker-content-digest"] ?? ""
    if (isDigest(claimed) && claimed !== digest) {
      return yield* Exchange.fail("Malformed", `${answer.url.origin} announced ${claimed} and sent ${digest}`)
    }
    return { mediaType: mediaTypeOf(answer), digest, size: bytes.length }
  })

  const mediaTypeOf = ({ response }: Exchange.Answer) =>
    response.headers["content-type"]?.split(";", 1)[0]?.trim() || "application/octet-stream"

  const descriptorOf = (answer: Exchange.Answer): Option.Option<Descriptor> => {
    const { headers } = answer.response
    const digest = headers["docker-content-digest"] ?? ""
    return isDigest(digest) && headers["content-type"] !== undefined
      ? Option.map(parseContentLength(headers["content-length"]), (size) => ({
          mediaType: mediaTypeOf(answer),
          digest,
          size
        }))
      : Option.none()
  }

  return RegistryClient.of({ fetch, resolve })
})

/** Asks over the given HTTP client, as whom the credentials say. */
export const layer = (options?: Options): Layer.Layer<RegistryClient, never, HttpClient.HttpClient | Credentials> =>
  Layer.effect(RegistryClient, make(options))
