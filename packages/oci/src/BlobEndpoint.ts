/**
 * How a node hands out what it has: over HTTP, to its peers, by digest only
 * (parts, Peer transfer).
 */

import { networkInterfaces } from "node:os"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type { SettingError } from "@gantry/coord/SettingError"
import * as Settings from "@gantry/coord/Settings"
import type { StoreError } from "@gantry/coord/Store"
import { type Digest, describeCause, isDigest } from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { BlobStore } from "./BlobStore.ts"
import * as HttpRange from "./HttpRange.ts"
import { type Message as HttpMessage, send } from "./HttpSend.ts"
import * as Admission from "./internal/admission.ts"
import * as ContentAddress from "./internal/contentAddress.ts"
import * as PlaintextServer from "./internal/plaintextServer.ts"
import * as Manifest from "./Manifest.ts"

/** The header of every request between peers. */
export const mirrored = { name: "gantry-mirrored", value: "1" } as const

/** The endpoint could not listen. */
export class CannotListen extends Schema.TaggedError<CannotListen>("@gantry/oci/BlobEndpoint/CannotListen")(
  "CannotListen",
  { address: Schema.String, cause: Schema.Defect() }
) {
  override get message(): string {
    return `cannot hand out blobs at ${this.address}: ${describeCause(this.cause)}`
  }
}

/** There is no address at which peers could reach the endpoint; the setting `announce` gives one. */
export class NothingToPublish extends Schema.TaggedError<NothingToPublish>("@gantry/oci/BlobEndpoint/NothingToPublish")(
  "NothingToPublish",
  { address: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `cannot publish ${this.address} as the address of blobs: ${this.detail}; set "announce" to a host or host:port that peers can reach`
  }
}

/** The endpoint does not come up. */
export class BlobEndpointError extends Schema.TaggedError<BlobEndpointError>("@gantry/oci/BlobEndpointError")(
  "BlobEndpointError",
  { reason: Schema.Union([CannotListen, NothingToPublish]) }
) {
  override get message(): string {
    return this.reason.message
  }
}

/** Settings; a number or duration that is not positive is ignored. */
export interface Options {
  /** The address to listen on; 127.0.0.1. */
  readonly host?: string | undefined
  /** The port to listen on, for HTTP/1.1 and h2c alike; by default one that is free. */
  readonly port?: number | undefined
  /**
   * The `host:port` to publish, or a host, which takes the port that is bound.
   * By default what is bound; if that is all interfaces, an address of one that
   * is not loopback, IPv4 before IPv6.
   */
  readonly announce?: string | undefined
  /** Blobs that are sent at once; who asks for one more is sent elsewhere; 10. */
  readonly maxConcurrent?: number | undefined
  /** How many of them may be large; 2. */
  readonly maxConcurrentLarge?: number | undefined
  /** A blob of more bytes than this is large; 32 MiB. */
  readonly largeThreshold?: number | undefined
  /** Blobs that are sent to one IP address at once; as many as in all, since nodes may share an address. */
  readonly maxConcurrentPerPeer?: number | undefined
  /** JSON documents to hand out besides, by their paths; whoever asks gets them. None. */
  readonly documents?: ReadonlyMap<string, Effect.Effect<string>> | undefined
  /** How long a client may read nothing before it is cut off; 30 seconds. */
  readonly stallTimeout?: Duration.Input | undefined
  /** How long transfers may go on when the scope closes; 5 seconds. */
  readonly shutdownGrace?: Duration.Input | undefined
}

/** The endpoint of this node. */
export class BlobEndpoint extends Context.Service<
  BlobEndpoint,
  {
    /** `host:port`, as published to peers. */
    readonly address: string
  }
>()("@gantry/oci/BlobEndpoint") {}

/**
 * Manifests that are sent at once. They have slots of their own, so that a few
 * large layers do not keep all images from starting.
 */
const maxConcurrentManifests = 64

/** Manifests that are read at once to find their type; bounds memory to as many times 4 MiB. */
const maxConcurrentReads = 4

/** The error codes of the distribution specification, and of its reference implementation. */
type ErrorCode =
  | "BLOB_UNKNOWN"
  | "DENIED"
  | "DIGEST_INVALID"
  | "MANIFEST_UNKNOWN"
  | "RANGE_INVALID"
  | "TOOMANYREQUESTS"
  | "UNAVAILABLE"
  | "UNKNOWN"
  | "UNSUPPORTED"

type Message = HttpMessage<StoreError>

/** What to send, if it is the answer to a GET. */
const refuse = (status: number, code: ErrorCode, message: string, headers: Message["headers"] = {}): Message => {
  const text = Buffer.from(JSON.stringify({ errors: [{ code, message }] }))
  return {
    status,
    headers: { ...headers, "content-type": "application/json", "content-length": `${text.length}` },
    body: { runForEach: (use) => use(text) }
  }
}

const octetStream = "application/octet-stream"

type Folder = "blobs" | "manifests"

/** Any name of a repository, even none: the digest decides. */
const target = /^\/v2\/(?:[^?#]*\/)?(blobs|manifests)\/([^/?#]+)(?:\?.*)?$/

/** What a request is for, or why that is refused. */
const parse = (
  request: HttpServerRequest.HttpServerRequest
): Result.Result<{ readonly folder: Folder; readonly digest: Digest }, Message> => {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return Result.fail(refuse(405, "UNSUPPORTED", "blobs are only handed out", { allow: "GET, HEAD" }))
  }
  if (request.headers[mirrored.name] !== mirrored.value) {
    return Result.fail(refuse(400, "DENIED", "only peers are served, who send Gantry-Mirrored: 1"))
  }
  const [, folder, digest = ""] = target.exec(request.url) ?? []
  if (folder !== "blobs" && folder !== "manifests") {
    return Result.fail(refuse(404, "UNSUPPORTED", "there are blobs and manifests"))
  }
  if (!isDigest(digest)) return Result.fail(refuse(400, "DIGEST_INVALID", "that is no sha256 digest"))
  return Result.succeed({ folder, digest })
}

/** Where the bytes come from: the blob store, or whatever else has blobs by their digests. */
type Source = Pick<BlobStore["Service"], "open" | "size">

const makeHandler = Effect.fnUntraced(function* (source: Source, options: Options) {
  const { largeThreshold, maxConcurrent, maxConcurrentLarge, maxConcurrentPerPeer, stallTimeout } =
    yield* Settings.read(options, (settings) => ({
      stallTimeout: settings.duration("stallTimeout", "30 seconds"),
      maxConcurrent: settings.integer("maxConcurrent", 10),
      maxConcurrentLarge: settings.integer("maxConcurrentLarge", 2),
      largeThreshold: settings.integer("largeThreshold", 32 * 1024 ** 2),
      maxConcurrentPerPeer: settings.integer("maxConcurrentPerPeer", settings.integer("maxConcurrent", 10))
    }))
  const admit = Admission.make()
  const reading = yield* Semaphore.make(maxConcurrentReads)

  /** What sending a blob takes. Only what may be a manifest has the slots of manifests. */
  const claimsOf = (folder: Folder, size: number, peer: string): ReadonlyArray<Admission.Claim> =>
    folder === "manifests" && size <= Manifest.maxBytes
      ? [{ of: "manifests", limit: maxConcurrentManifests }]
      : [
          { of: "blobs", limit: maxConcurrent },
          ...(size > largeThreshold ? [{ of: "large blobs", limit: maxConcurrentLarge }] : []),
          { of: `blobs for ${peer}`, limit: maxConcurrentPerPeer }
        ]

  /** The type that a manifest gives itself. */
  const manifestType = Effect.fnUntraced(function* (digest: Digest) {
    const blob = yield* source.open(digest)
    if (Option.isNone(blob)) return Option.none()
    return Manifest.mediaTypeOf(Buffer.concat(yield* Stream.runCollect(blob.value.stream)))
  }, Effect.scoped)

  const typeOf = (folder: Folder, digest: Digest, size: number) =>
    folder === "blobs" || size > Manifest.maxBytes
      ? Effect.succeed(octetStream)
      : Effect.map(
          reading.withPermit(manifestType(digest)),
          Option.getOrElse(() => octetStream)
        )

  /** What to answer; what that takes is held until the scope closes. */
  const answer = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
    const document = options.documents?.get(request.url)
    if (document !== undefined && request.method === "GET") return yield* json(document)
    const asked = parse(request)
    if (Result.isFailure(asked)) return asked.failure
    const { digest, folder } = asked.success
    const unknown = refuse(404, folder === "blobs" ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN", `${digest} is not here`)

    const found = yield* source.size(digest)
    if (Option.isNone(found)) return unknown
    const size = found.value
    const headers = {
      "accept-ranges": "bytes",
      "content-type": yield* typeOf(folder, digest, size),
      "docker-content-digest": digest
    }
    if (request.method === "HEAD") return { status: 200, headers: { ...headers, "content-length": `${size}` } }

    // We give no validator that the condition of an If-Range could name.
    const part =
      request.headers["if-range"] === undefined ? HttpRange.partOf(request.headers.range, size) : Option.none()
    if (part === "unsatisfiable") {
      return refuse(416, "RANGE_INVALID", `there are ${size} bytes`, { "content-range": `bytes */${size}` })
    }
    const peer = Option.getOrElse(request.peerAddress, () => "")
    if (!(yield* admit(claimsOf(folder, size, peer)))) return busy(request)
    const body = yield* source.open(digest, Option.getOrUndefined(part))
    if (Option.isNone(body)) return unknown

    return Option.match(part, {
      onNone: () => ({ status: 200, headers: { ...headers, "content-length": `${size}` }, body: body.value }),
      onSome: ({ length, offset }) => ({
        status: 206,
        headers: {
          ...headers,
          "content-length": `${length}`,
          "content-range": `bytes ${offset}-${offset + length - 1}/${size}`
        },
        body: body.value
      })
    })
  })

  const respond = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
    const { body, ...head } = yield* Effect.catch(answer(request), explain)
    const response = NodeHttpServerRequest.toServerResponse(request)
    yield* send(response, request.method === "HEAD" ? head : { ...head, body }, stallTimeout)
  }, Effect.scoped)

  return (request: HttpServerRequest.HttpServerRequest) =>
    respond(request).pipe(
      Effect.catchTag("StoreError", logFailure),
      Effect.catch((error) => Effect.logDebug(`${request.url}: ${error.message}`)),
      // It has been sent or has broken off, which the platform sees and lets be.
      Effect.as(HttpServerResponse.empty()),
      Effect.interruptible
    )
})

/** How long a document may take. */
const documentTimeout = "2 seconds"

const json = (document: Effect.Effect<string>): Effect.Effect<Message> =>
  Effect.map(Effect.timeoutOption(document, documentTimeout), (text) => {
    if (Option.isNone(text)) return refuse(503, "UNAVAILABLE", "not yet", { "retry-after": "1" })
    const bytes = Buffer.from(text.value)
    return {
      status: 200,
      headers: { "content-type": "application/json", "content-length": `${bytes.length}` },
      body: { runForEach: (use) => use(bytes) }
    }
  })

/**
 * Says that there is no slot. Azure's Go agents, who speak nothing but HTTP/2,
 * take 503 for a broken store.
 */
const busy = (request: HttpServerRequest.HttpServerRequest) =>
  refuse(
    NodeHttpServerRequest.toIncomingMessage(request).httpVersionMajor === 2 ? 429 : 503,
    "TOOMANYREQUESTS",
    "as many are being served as can be",
    { "retry-after": "1" }
  )

const logFailure = (error: StoreError) => Effect.logWarning(error.message)

const explain = (error: StoreError) =>
  Effect.as(
    logFailure(error),
    error.reason === "Unavailable"
      ? refuse(503, "UNAVAILABLE", "the store cannot be reached")
      : refuse(500, "UNKNOWN", "the store failed")
  )

/** What is published for what is bound. */
const publish = ({ announce }: Options, bound: NetAddress.InetAddress) =>
  Result.match(
    announce === undefined
      ? ContentAddress.published(bound, networkInterfaces())
      : ContentAddress.announced(announce, bound.port),
    {
      onSuccess: Effect.succeed,
      onFailure: (detail) => {
        const address = announce ?? NetAddress.formatInet(bound)
        return Effect.fail(new BlobEndpointError({ reason: new NothingToPublish({ address, detail }) }))
      }
    }
  )

const listen = Effect.fnUntraced(function* (options: Options = {}) {
  const { host = "127.0.0.1", port = 0 } = options
  const grace = yield* Settings.read(options, (settings) => settings.duration("shutdownGrace", "5 seconds"))
  const { address: bound, serve } = yield* Effect.mapError(
    PlaintextServer.listen({ host, port, grace }),
    ({ cause }) => new BlobEndpointError({ reason: new CannotListen({ address: `${host}:${port}`, cause }) })
  )
  const address = yield* publish(options, bound as NetAddress.InetAddress)
  const handle = yield* makeHandler(yield* BlobStore, options)
  yield* serve(Effect.flatMap(HttpServerRequest.HttpServerRequest, handle))
  return BlobEndpoint.of({ address })
})

/** Hands out the blobs of the store, from when the layer is built until its scope closes. */
export const layer = (options?: Options): Layer.Layer<BlobEndpoint, BlobEndpointError | SettingError, BlobStore> =>
  Layer.effect(BlobEndpoint, listen(options))
