/**
 * How a node hands out what it has: over HTTP, to its peers, by digest only
 * (parts, Peer transfer).
 */

import * as Http from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { positiveDuration, positiveInteger } from "@gantry/coord/Settings"
import type { StoreError } from "@gantry/coord/Store"
import { type Digest, describeCause, isDigest, isRepository } from "@gantry/protocol"
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
import { BlobStore, type ByteRange } from "./BlobStore.ts"
import { type SendError, send } from "./internal/send.ts"
import * as Manifest from "./Manifest.ts"

/** The header of every request between peers. */
export const mirrored = { name: "gantry-mirrored", value: "1" } as const

/** The endpoint could not listen. */
export class BlobEndpointError extends Schema.TaggedError<BlobEndpointError>("@gantry/oci/BlobEndpointError")(
  "BlobEndpointError",
  { address: Schema.String, cause: Schema.Defect() }
) {
  override get message(): string {
    return `cannot hand out blobs at ${this.address}: ${describeCause(this.cause)}`
  }
}

/** Settings; a number or duration that is not positive is ignored. */
export interface Options {
  /** The address to listen on; 127.0.0.1. */
  readonly host?: string | undefined
  /** The port to listen on; by default one that is free. */
  readonly port?: number | undefined
  /** Blobs that are sent at once; who asks for one more is sent elsewhere; 10. */
  readonly maxConcurrentBlobs?: number | undefined
  /** How long a client may read nothing before it is cut off; 30 seconds. */
  readonly stallTimeout?: Duration.Input | undefined
  /** How long transfers may go on when the scope closes; 5 seconds. */
  readonly shutdownGrace?: Duration.Input | undefined
}

/** The endpoint of this node. */
export class BlobEndpoint extends Context.Service<
  BlobEndpoint,
  {
    /** `host:port`, as bound. */
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

/** Connections at once, far more than slots: who is turned away has to be told so. */
const maxConnections = 2048

/** A request is a few hundred bytes; who takes longer to send them is cut off, by Node, before we see any of it. */
const requestTimeoutMillis = 10_000

/** The error codes of the distribution specification, and of its reference implementation. */
type ErrorCode =
  | "BLOB_UNKNOWN"
  | "DENIED"
  | "DIGEST_INVALID"
  | "MANIFEST_UNKNOWN"
  | "NAME_INVALID"
  | "RANGE_INVALID"
  | "TOOMANYREQUESTS"
  | "UNAVAILABLE"
  | "UNKNOWN"
  | "UNSUPPORTED"

const refuse = (status: number, code: ErrorCode, message: string, headers: Record<string, string> = {}) =>
  HttpServerResponse.jsonUnsafe({ errors: [{ code, message }] }, { status, headers })

const octetStream = "application/octet-stream"

type Folder = "blobs" | "manifests"

const target = /^\/v2\/([^?#]+)\/(blobs|manifests)\/([^/?#]+)$/

/** What a request is for, or why that is refused. */
const parse = (
  request: HttpServerRequest.HttpServerRequest
): Result.Result<{ readonly folder: Folder; readonly digest: Digest }, HttpServerResponse.HttpServerResponse> => {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return Result.fail(refuse(405, "UNSUPPORTED", "blobs are only handed out", { allow: "GET, HEAD" }))
  }
  if (request.headers[mirrored.name] !== mirrored.value) {
    return Result.fail(refuse(400, "DENIED", "only peers are served, who send Gantry-Mirrored: 1"))
  }
  const [, name = "", folder, digest = ""] = target.exec(request.url) ?? []
  if (folder !== "blobs" && folder !== "manifests") {
    return Result.fail(refuse(404, "UNSUPPORTED", "there are blobs and manifests"))
  }
  if (!isRepository(name)) return Result.fail(refuse(400, "NAME_INVALID", "that is no name of a repository"))
  if (!isDigest(digest)) return Result.fail(refuse(400, "DIGEST_INVALID", "that is no sha256 digest"))
  return Result.succeed({ folder, digest })
}

/** The one range that a header asks for. */
const single = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i

/**
 * The part of a blob that a `Range` header asks for (RFC 9110, section 14.2).
 * None, so the whole, where the header is none of ours or malformed, or has
 * several ranges, as a server may choose; `unsatisfiable` where the blob ends
 * before the range begins.
 */
const partOf = (header: string | undefined, size: number): Option.Option<ByteRange> | "unsatisfiable" => {
  const [, first = "", last = ""] = single.exec(header ?? "") ?? []
  if (first === "" && last === "") return Option.none()
  if (first === "") {
    const length = Math.min(Number(last), size)
    return length === 0 ? "unsatisfiable" : Option.some({ offset: size - length, length })
  }
  const offset = Number(first)
  if (last !== "" && Number(last) < offset) return Option.none()
  if (offset >= size) return "unsatisfiable"
  return Option.some({ offset, length: Math.min(last === "" ? size : Number(last) + 1, size) - offset })
}

const makeHandler = Effect.fnUntraced(function* (options: Options) {
  const store = yield* BlobStore
  const stallTimeout = positiveDuration(options.stallTimeout, "30 seconds")
  const slots = {
    blobs: yield* Semaphore.make(positiveInteger(options.maxConcurrentBlobs, 10)),
    manifests: yield* Semaphore.make(maxConcurrentManifests)
  }
  const reading = yield* Semaphore.make(maxConcurrentReads)

  const takeSlot = (of: Semaphore.Semaphore) =>
    Effect.acquireRelease(of.takeIfAvailable(1), (taken) => (taken ? of.release(1) : Effect.void))

  /** The type that a manifest gives itself. */
  const manifestType = Effect.fnUntraced(function* (digest: Digest) {
    const blob = yield* store.open(digest)
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

  const respond = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
    const asked = parse(request)
    if (Result.isFailure(asked)) return asked.failure
    const { digest, folder } = asked.success
    const unknown = refuse(404, folder === "blobs" ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN", `${digest} is not here`)

    const found = yield* store.size(digest)
    if (Option.isNone(found)) return unknown
    const size = found.value
    const headers = {
      "accept-ranges": "bytes",
      "content-type": yield* typeOf(folder, digest, size),
      "docker-content-digest": digest
    }
    if (request.method === "HEAD") {
      return HttpServerResponse.empty({ status: 200, headers: { ...headers, "content-length": `${size}` } })
    }

    // We give no validator that the condition of an If-Range could name.
    const part = request.headers["if-range"] === undefined ? partOf(request.headers.range, size) : Option.none()
    if (part === "unsatisfiable") {
      return refuse(416, "RANGE_INVALID", `there are ${size} bytes`, { "content-range": `bytes */${size}` })
    }
    if (!(yield* takeSlot(slots[folder]))) {
      return refuse(503, "TOOMANYREQUESTS", "as many are being served as can be", { "retry-after": "1" })
    }
    const blob = yield* store.open(digest, Option.getOrUndefined(part))
    if (Option.isNone(blob)) return unknown

    const response = NodeHttpServerRequest.toServerResponse(request) as Http.ServerResponse
    const message = Option.match(part, {
      onNone: () => ({ status: 200, headers: { ...headers, "content-length": `${size}` } }),
      onSome: ({ length, offset }) => ({
        status: 206,
        headers: {
          ...headers,
          "content-length": `${length}`,
          "content-range": `bytes ${offset}-${offset + length - 1}/${size}`
        }
      })
    })
    yield* send(response, { ...message, body: blob.value }, stallTimeout)
    // Sent already, which the platform sees and lets be.
    return HttpServerResponse.empty()
  })

  const explain = (error: StoreError | SendError) =>
    error._tag === "StoreError" && error.reason === "Unavailable"
      ? refuse(503, "UNAVAILABLE", "the store cannot be reached")
      : refuse(500, "UNKNOWN", "the store failed")

  return (request: HttpServerRequest.HttpServerRequest) =>
    respond(request).pipe(
      Effect.tapErrorTag("StoreError", (error) => Effect.logWarning(error.message)),
      Effect.tapErrorTag("SendError", (error) => Effect.logDebug(`${request.url}: ${error.message}`)),
      Effect.catch((error) => Effect.succeed(explain(error))),
      Effect.interruptible
    )
})

const listen = Effect.fnUntraced(function* (options: Options = {}) {
  const { host = "127.0.0.1", port = 0 } = options
  const server = Http.createServer({ headersTimeout: requestTimeoutMillis, requestTimeout: requestTimeoutMillis })
  server.maxConnections = maxConnections
  const { address, serve } = yield* Effect.mapError(
    NodeHttpServer.make(() => server, {
      host,
      port,
      gracefulShutdownTimeout: positiveDuration(options.shutdownGrace, "5 seconds")
    }),
    ({ cause }) => new BlobEndpointError({ address: `${host}:${port}`, cause })
  )
  // After the grace nothing is waited for, least of all a connection without a request.
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const handle = yield* makeHandler(options)
  yield* serve(Effect.flatMap(HttpServerRequest.HttpServerRequest, handle))
  return BlobEndpoint.of({ address: NetAddress.formatSocketAddress(address) })
})

/** Hands out the blobs of the store, from when the layer is built until its scope closes. */
export const layer = (options?: Options): Layer.Layer<BlobEndpoint, BlobEndpointError, BlobStore> =>
  Layer.effect(BlobEndpoint, listen(options))
