/**
 * The mirror: what a container runtime pulls through. It speaks the read side of
 * the OCI distribution specification, and answers every request in time: with
 * the content, or with 503, upon which runtimes ask the registry itself.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { HttpRange, HttpSend, type Manifest } from "@gantry/oci"
import { type Digest, OriginRef, Registry } from "@gantry/protocol"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import type { BlobSource, Delivery } from "./BlobSource.ts"
import type { Descriptors } from "./Descriptors.ts"
import * as MirrorMetrics from "./MirrorMetrics.ts"
import { Miss, unavailable } from "./Miss.ts"
import { type Place, parse, type Refusal, type Registries, type Route } from "./Route.ts"
import type { TagAnswer, TagCache, TagError, TagRef } from "./TagCache.ts"

/** A manifest, verified and whole. */
export interface ServedManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Uint8Array
  readonly source: "store" | "peer" | "origin"
}

/** What the mirror asks of its surroundings. */
export interface Surroundings {
  readonly registries: Effect.Effect<Registries>
  /** Whether an image is ours to serve, by name. */
  readonly isAllowed: (place: Place) => Effect.Effect<boolean>
  readonly blobs: BlobSource["Service"]
  readonly tags: TagCache
  /** Brings in a manifest. */
  readonly manifest: (ref: OriginRef) => Effect.Effect<ServedManifest, Miss>
  /** Told of each manifest that is served, for what a client will want next. */
  readonly served: (ref: OriginRef, manifest: Manifest.Manifest) => Effect.Effect<void>
  readonly descriptors: Descriptors
  /** Succeeds once the agent is ready to serve. */
  readonly ready: Effect.Effect<void>
}

/** Settings of the mirror. */
export interface Options {
  /** How long a blob's headers may take. */
  readonly headerDeadline: Duration.Duration
  /** How long a manifest may take; everything waits for it. */
  readonly manifestDeadline: Duration.Duration
  /** How long a client may read nothing, and a body may stay without a further byte. */
  readonly stallTimeout: Duration.Duration
  /** Requests at once; one more is answered 503. */
  readonly maxRequests: number
}

type Message = HttpSend.Message<Miss>

const common = { "docker-distribution-api-version": "registry/2.0" } as const

/** An answer in the form of the specification's errors; `detail` names the rule that decided, and why. */
const refuse = (
  status: number,
  code: string,
  message: string,
  detail?: { readonly rule: string; readonly reason: string },
  headers: Record<string, string> = {}
): Message => {
  const text = Buffer.from(JSON.stringify({ errors: [{ code, message, ...(detail === undefined ? {} : { detail }) }] }))
  return {
    status,
    headers: { ...common, ...headers, "content-type": "application/json", "content-length": `${text.length}` },
    body: { runForEach: (use) => use(text) }
  }
}

const refusal = (why: Refusal): Message => {
  switch (why._tag) {
    case "Unsupported":
      return refuse(404, "UNSUPPORTED", "there are manifests, blobs, referrers and lists of tags")
    case "NameInvalid":
      return refuse(400, "NAME_INVALID", "that is no name of a repository")
    case "DigestInvalid":
      return refuse(400, "DIGEST_INVALID", "that is no sha256 digest")
    case "TagInvalid":
      return refuse(404, "MANIFEST_UNKNOWN", "that is no tag")
    case "UnknownRegistry":
      return refuse(404, "NAME_UNKNOWN", `${why.registry} is no registry that this node mirrors`)
  }
}

const unknownCode: Record<Route["_tag"], string> = {
  Base: "UNSUPPORTED",
  Manifest: "MANIFEST_UNKNOWN",
  Tag: "MANIFEST_UNKNOWN",
  Blob: "BLOB_UNKNOWN",
  Referrers: "MANIFEST_UNKNOWN",
  TagsList: "NAME_UNKNOWN"
}

const missed = (route: Route, { detail: reason, reason: what, rule }: Miss): Message =>
  what === "NotFound"
    ? refuse(404, unknownCode[route._tag], "the registry does not have it", { rule, reason })
    : refuse(503, "UNAVAILABLE", "this node cannot serve it now; ask the registry", { rule, reason })

const late = (what: string, limit: Duration.Duration) =>
  Effect.andThen(
    MirrorMetrics.deadline(what),
    Effect.fail(unavailable("deadline", `nothing came within ${Duration.format(limit)}`))
  )

const missOfTag = ({ detail, reason }: TagError) =>
  new Miss({ reason: reason === "NotFound" ? "NotFound" : "Unavailable", rule: "tag", detail })

/** Answers one request after the other. */
export const make = Effect.fnUntraced(function* (surroundings: Surroundings, options: Options) {
  const { blobs, descriptors, manifest, ready, served, tags } = surroundings
  const slots = yield* Semaphore.make(options.maxRequests)

  const refOf = ({ registry, repository }: Place, digest: Digest) =>
    new OriginRef({ registry: Registry.make(registry), repository, digest })

  const within = <A>(what: string, limit: Duration.Duration, effect: Effect.Effect<A, Miss>) =>
    Effect.timeoutOrElse(effect, { duration: limit, orElse: () => late(what, limit) })

  const base: Message = {
    status: 200,
    headers: { ...common, "content-type": "application/json", "content-length": "2" },
    body: { runForEach: (use) => use(Buffer.from("{}")) }
  }

  const manifestMessage = Effect.fnUntraced(function* (place: Place, digest: Digest, more: Record<string, string>) {
    const ref = refOf(place, digest)
    const { bytes, mediaType, source } = yield* manifest(ref)
    const parsed = descriptors.learn(bytes)
    if (Option.isSome(parsed)) yield* served(ref, parsed.value)
    yield* MirrorMetrics.cache(source)
    return {
      status: 200,
      headers: {
        ...common,
        ...more,
        "accept-ranges": "none",
        "content-length": `${bytes.length}`,
        "content-type": mediaType,
        "docker-content-digest": digest,
        "gantry-source": source,
        "oci-namespace": place.registry
      },
      body: { runForEach: (use) => Effect.andThen(use(bytes), MirrorMetrics.bytes("manifest", source, bytes.length)) }
    } satisfies Message
  })

  const staleness = ({ checkedAt, how }: TagAnswer): Record<string, string> =>
    how === "stale"
      ? { warning: `299 - "tag not revalidated since ${DateTime.formatIso(DateTime.makeUnsafe(checkedAt))}"` }
      : {}

  const tagMessage = Effect.fnUntraced(function* (ref: TagRef) {
    const answer = yield* Effect.mapError(tags.resolve(ref), missOfTag)
    yield* MirrorMetrics.tagAnswer(answer.how)
    return yield* manifestMessage(ref, answer.manifest.digest, staleness(answer))
  })

  // Blobs

  const blobHeaders = (place: Place, digest: Digest, source: string) => ({
    ...common,
    "accept-ranges": "bytes",
    "content-type": "application/octet-stream",
    "docker-content-digest": digest,
    "gantry-source": source,
    "oci-namespace": place.registry
  })

  const wantedOf = (place: Place, digest: Digest) => {
    const known = descriptors.lookup(digest)
    return {
      ref: refOf(place, digest),
      kind: Option.match(known, { onNone: () => "layer" as const, onSome: ({ kind }) => kind }),
      size: Option.map(known, ({ size }) => size)
    }
  }

  const blobHead = Effect.fnUntraced(function* (place: Place, digest: Digest) {
    const size = yield* within("head", options.headerDeadline, blobs.size(wantedOf(place, digest)))
    return {
      status: 200,
      headers: { ...blobHeaders(place, digest, "store"), "content-length": `${size}` }
    } satisfies Message
  })

  /** The headers go out with the first byte; or at the deadline, if it is known how many there will be. */
  const awaitFirst = (delivery: Delivery, offsetOf: (size: number) => number) =>
    Effect.flatMap(delivery.sized, (size) => delivery.reaches(offsetOf(size))).pipe(
      Effect.timeoutOption(options.headerDeadline),
      Effect.flatMap((first) => (Option.isSome(first) ? Effect.void : MirrorMetrics.deadline("blob"))),
      Effect.andThen(delivery.size),
      Effect.flatMap(
        Option.match({
          onSome: Effect.succeed,
          onNone: () =>
            Effect.fail(
              unavailable("deadline", `its size was not known within ${Duration.format(options.headerDeadline)}`)
            )
        })
      )
    )

  const blobGet = Effect.fnUntraced(function* (place: Place, digest: Digest, range: string | undefined) {
    const wanted = wantedOf(place, digest)
    const delivery = yield* blobs.open(wanted)
    const partOf = (size: number) => HttpRange.partOf(range, size)
    const size = yield* awaitFirst(delivery, (size) => {
      const part = partOf(size)
      return part === "unsatisfiable" ? 0 : Option.match(part, { onNone: () => 0, onSome: ({ offset }) => offset })
    })
    const source = Option.getOrElse(yield* delivery.source, () => "pending")
    const headers = blobHeaders(place, digest, source)
    const part = partOf(size)
    if (part === "unsatisfiable") {
      return refuse(416, "RANGE_INVALID", `there are ${size} bytes`, undefined, { "content-range": `bytes */${size}` })
    }
    yield* MirrorMetrics.cache(source)
    const whole = { offset: 0, length: size }
    const bytes = Option.getOrElse(part, () => whole)
    const body: Message["body"] = {
      runForEach: (use) =>
        delivery.runForEach(bytes, (piece) =>
          Effect.andThen(use(piece), MirrorMetrics.bytes(wanted.kind, source, piece.length))
        )
    }
    const { length, offset } = bytes
    return (
      Option.isNone(part)
        ? { status: 200, headers: { ...headers, "content-length": `${size}` }, body }
        : {
            status: 206,
            headers: {
              ...headers,
              "content-length": `${length}`,
              "content-range": `bytes ${offset}-${offset + length - 1}/${size}`
            },
            body
          }
    ) satisfies Message
  })

  const dispatch = (request: HttpServerRequest.HttpServerRequest, route: Route): Effect.Effect<Message, Miss> => {
    switch (route._tag) {
      case "Base":
        return Effect.succeed(base)
      case "Manifest":
        return within("manifest", options.manifestDeadline, manifestMessage(route, route.digest, {}))
      case "Tag":
        return within("manifest", options.manifestDeadline, tagMessage(route))
      case "Blob":
        return request.method === "HEAD"
          ? blobHead(route, route.digest)
          : // We give no validator that the condition of an If-Range could name.
            blobGet(route, route.digest, request.headers["if-range"] === undefined ? request.headers.range : undefined)
      case "Referrers":
      case "TagsList":
        return Effect.fail(unavailable("list", `${route._tag} is answered by the registry alone`))
    }
  }

  const isAllowed = (route: Route) => (route._tag === "Base" ? Effect.succeed(true) : surroundings.isAllowed(route))

  const answer = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
    const parsed = parse(request.url, yield* surroundings.registries)
    if (Result.isFailure(parsed)) return { kind: "none", message: refusal(parsed.failure) }
    const route = parsed.success
    const message = yield* Effect.gen(function* () {
      if (!(yield* isAllowed(route))) {
        return refuse(404, "DENIED", "the configuration of this node excludes the image")
      }
      // Whoever is turned away at the start goes to the registry, on all nodes that boot.
      if (route._tag !== "Base") yield* within("ready", options.manifestDeadline, ready)
      return yield* dispatch(request, route)
    }).pipe(Effect.catch((miss) => Effect.as(Effect.logDebug(`${request.url}: ${miss.message}`), missed(route, miss))))
    return { kind: route._tag.toLowerCase(), message }
  })

  const decide = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<{ kind: string; message: Message }> => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      const message = refuse(405, "UNSUPPORTED", "the mirror is only read", undefined, { allow: "GET, HEAD" })
      return Effect.succeed({ kind: "none", message })
    }
    // A peer, or a mirror that mirrors itself.
    if (request.headers["gantry-mirrored"] !== undefined) {
      return Effect.succeed({ kind: "none", message: refuse(503, "UNAVAILABLE", "a mirror does not ask a mirror") })
    }
    return answer(request)
  }

  const busy = refuse(503, "TOOMANYREQUESTS", "as many requests are being served as can be", undefined, {
    "retry-after": "1"
  })

  const respond = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
    const slot = yield* Effect.acquireRelease(slots.takeIfAvailable(1), (taken) =>
      taken ? slots.release(1) : Effect.void
    )
    const { kind, message } = slot ? yield* decide(request) : { kind: "none", message: busy }
    yield* MirrorMetrics.request(request.method, kind, message.status)
    const { body, ...head } = message
    const response = NodeHttpServerRequest.toServerResponse(request)
    yield* HttpSend.send(response, request.method === "HEAD" ? head : { ...head, body }, options.stallTimeout)
  }, Effect.scoped)

  return (request: HttpServerRequest.HttpServerRequest) =>
    respond(request).pipe(
      Effect.catch((error) => Effect.logDebug(`${request.url}: ${error.message}`)),
      // It has been sent or has broken off, which the platform sees and lets be.
      Effect.as(HttpServerResponse.empty()),
      Effect.interruptible
    )
})
