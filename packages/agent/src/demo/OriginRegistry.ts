/**
 * The registry that the demo's nodes pull from: it serves one image layout to
 * accounts that it knows, and remembers every request.
 */
import { createServer, type Server } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { type Digest, digestHex, isDigest, Registry, type Repository } from "@gantry/protocol"
import * as ByteSize from "effect/ByteSize"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Base64, Hex } from "effect/encoding"
import * as FileSystem from "effect/FileSystem"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import type * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { PackedImage } from "./ImagePacker.ts"
import type { Pull } from "./Report.ts"

/** One request, as the registry saw it. */
export interface LoggedRequest {
  readonly method: string
  readonly path: string
  /** Who asked, by the account of the token. */
  readonly account: Option.Option<string>
  /** The manifest or blob that was asked for. */
  readonly digest: Option.Option<Digest>
  readonly status: number
  /** The first byte of the body within the blob. */
  readonly offset: number
  /** Bytes of the body that went out. */
  readonly sent: number
  /** Whether the whole body went out. */
  readonly complete: boolean
}

/** A download that stops in its middle. */
export interface Hold {
  /** The account whose download has come to the middle. */
  readonly reached: Effect.Effect<string>
  /** Lets the download go on. */
  readonly release: Effect.Effect<void>
}

/** The registry, as its operator sees it. */
export class OriginRegistry extends Context.Service<
  OriginRegistry,
  {
    /** Host and port, the first part of the names of its images. */
    readonly registry: Registry
    /** Every request so far, in the order they came. */
    readonly log: Effect.Effect<ReadonlyArray<LoggedRequest>>
    /** Stops the next download of a blob after half of its bytes. */
    readonly hold: (digest: Digest) => Effect.Effect<Hold>
  }
>()("@gantry/agent/OriginRegistry") {}

export interface Options {
  /** The image layout that holds the image. */
  readonly directory: string
  readonly image: PackedImage
  readonly repository: Repository
  readonly tag: string
  /** Passwords by account. */
  readonly accounts: ReadonlyMap<string, string>
}

/** How long a token lets its holder in. */
const tokenLifetime = Duration.minutes(5)

const chunkBytes = 256 * 1024

const service = "gantry-demo"

/** The errors of the OCI distribution specification that this registry answers with. */
type Refusal = Data.TaggedEnum<{
  Unauthorized: { readonly problem: "missing" | "invalid_token" | "insufficient_scope" }
  BadCredentials: {}
  NotFound: { readonly code: "MANIFEST_UNKNOWN" | "BLOB_UNKNOWN" | "NAME_UNKNOWN" }
  RangeNotSatisfiable: { readonly size: number }
}>
const Refusal = Data.taggedEnum<Refusal>()

/** The entry of a request; the body's stream moves it on while it goes out. */
type Entry = { -readonly [Key in keyof LoggedRequest]: LoggedRequest[Key] }

interface Grant {
  readonly account: string
  readonly mayPull: boolean
  readonly expiresAt: number
}

interface Gate {
  readonly reached: Deferred.Deferred<string>
  readonly open: Deferred.Deferred<void>
}

const make = Effect.fnUntraced(function* (options: Options, listener: Server) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const server = yield* HttpServer.HttpServer
  const random = yield* SecureRandom.SecureRandom
  const registry = Registry.make(HttpServer.formatAddress(server.address).replace("http://", ""))
  const scope = `repository:${options.repository}:pull`
  const mediaTypes = new Map(options.image.blobs.map(({ digest, mediaType }) => [digest, mediaType]))
  const entries: Array<Entry> = []
  const grants = new Map<string, Grant>()
  const gates = new Map<Digest, Gate>()

  const logged = Effect.fnUntraced(function* <R>(
    handler: (
      request: HttpServerRequest.HttpServerRequest,
      entry: Entry
    ) => Effect.Effect<HttpServerResponse.HttpServerResponse, Refusal | PlatformError, R>
  ) {
    const request = yield* HttpServerRequest.HttpServerRequest
    const entry: Entry = {
      method: request.method,
      path: request.url,
      account: Option.none(),
      digest: Option.none(),
      status: 500,
      offset: 0,
      sent: 0,
      complete: false
    }
    entries.push(entry)
    const response = yield* handler(request, entry).pipe(
      Effect.catch((problem) =>
        problem._tag === "PlatformError"
          ? Effect.as(Effect.logError("the registry cannot read its files", problem), unavailable)
          : Effect.succeed(refuse(problem))
      )
    )
    entry.status = response.status
    return response
  })

  /** The token endpoint: an account by Basic credentials gets what it asks for, as far as there is any. */
  const token = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest, entry: Entry) {
    const credentials = basicCredentials(request.headers.authorization)
    if (Option.isNone(credentials)) return yield* Effect.fail(Refusal.BadCredentials())
    const { account, password } = credentials.value
    if (options.accounts.get(account) !== password) return yield* Effect.fail(Refusal.BadCredentials())
    entry.account = Option.some(account)
    const asked = new URL(request.url, "http://registry").searchParams.getAll("scope").flatMap((s) => s.split(" "))
    const text = Hex.encode(yield* random.randomBytes(24))
    const now = yield* Clock.currentTimeMillis
    const expiresAt = now + Duration.toMillis(tokenLifetime)
    grants.set(text, { account, mayPull: asked.some(grantsPull), expiresAt })
    return HttpServerResponse.jsonUnsafe({ token: text, expires_in: Duration.toSeconds(tokenLifetime) })
  })

  const grantsPull = (asked: string): boolean => {
    const [type, name, actions = ""] = asked.split(":")
    return type === "repository" && name === options.repository && actions.split(",").includes("pull")
  }

  const authorize = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest, entry: Entry) {
    const text = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1]
    if (text === undefined) return yield* Effect.fail(Refusal.Unauthorized({ problem: "missing" }))
    const grant = grants.get(text)
    const now = yield* Clock.currentTimeMillis
    if (grant === undefined || grant.expiresAt <= now) {
      return yield* Effect.fail(Refusal.Unauthorized({ problem: "invalid_token" }))
    }
    entry.account = Option.some(grant.account)
    if (!grant.mayPull) return yield* Effect.fail(Refusal.Unauthorized({ problem: "insufficient_scope" }))
    return grant.account
  })

  /** Everything under `/v2/`: the name of a repository has slashes of its own. */
  const distribution = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest, entry: Entry) {
    const account = yield* authorize(request, entry)
    const { pathname } = new URL(request.url, "http://registry")
    if (pathname === "/v2/") return HttpServerResponse.jsonUnsafe({})
    const [, name, endpoint, reference] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(pathname) ?? []
    if (name !== options.repository || reference === undefined) {
      return yield* Effect.fail(Refusal.NotFound({ code: "NAME_UNKNOWN" }))
    }
    const digest = reference === options.tag && endpoint === "manifests" ? options.image.root.digest : reference
    const mediaType = isDigest(digest) ? mediaTypes.get(digest) : undefined
    if (!isDigest(digest) || mediaType === undefined) {
      return yield* Effect.fail(
        Refusal.NotFound({ code: endpoint === "manifests" ? "MANIFEST_UNKNOWN" : "BLOB_UNKNOWN" })
      )
    }
    entry.digest = Option.some(digest)
    return yield* send(
      request,
      entry,
      account,
      digest,
      endpoint === "manifests" ? mediaType : "application/octet-stream"
    )
  })

  const send = Effect.fnUntraced(function* (
    request: HttpServerRequest.HttpServerRequest,
    entry: Entry,
    account: string,
    digest: Digest,
    contentType: string
  ) {
    const file = path.join(options.directory, "blobs", "sha256", digestHex(digest))
    const size = ByteSize.toNumberUnsafe((yield* fs.stat(file)).size)
    const range = parseRange(request.headers.range, size)
    if (range === "unsatisfiable") return yield* Effect.fail(Refusal.RangeNotSatisfiable({ size }))
    const { first, last } = range ?? { first: 0, last: size - 1 }
    entry.offset = first

    const read = (from: number, to: number) =>
      fs.stream(file, { offset: from, bytesToRead: to - from, chunkSize: chunkBytes })
    const gate = request.method === "GET" ? gates.get(digest) : undefined
    if (gate !== undefined) gates.delete(digest)
    const half = Math.floor((first + last + 1) / 2)
    const body =
      gate === undefined
        ? read(first, last + 1)
        : Stream.concat(
            read(first, half),
            Stream.unwrap(
              Deferred.succeed(gate.reached, account).pipe(
                Effect.andThen(Deferred.await(gate.open)),
                Effect.as(read(half, last + 1))
              )
            )
          )
    const counted = Stream.tap(body, (chunk) =>
      Effect.sync(() => {
        entry.sent += chunk.length
        entry.complete = entry.sent === last + 1 - first
      })
    )
    return HttpServerResponse.stream(counted, {
      status: range === undefined ? 200 : 206,
      contentType,
      contentLength: last + 1 - first,
      headers: {
        "accept-ranges": "bytes",
        "docker-content-digest": digest,
        ...(range === undefined ? {} : { "content-range": `bytes ${first}-${last}/${size}` })
      }
    })
  })

  const refuse = Refusal.$match({
    Unauthorized: ({ problem }) =>
      errorResponse(
        problem === "insufficient_scope" ? 403 : 401,
        problem === "insufficient_scope" ? "DENIED" : "UNAUTHORIZED",
        {
          "www-authenticate": `Bearer realm="http://${registry}/token",service="${service}",scope="${scope}"${
            problem === "missing" ? "" : `,error="${problem}"`
          }`
        }
      ),
    BadCredentials: () => errorResponse(401, "UNAUTHORIZED", { "www-authenticate": `Basic realm="${service}"` }),
    NotFound: ({ code }) => errorResponse(404, code),
    RangeNotSatisfiable: ({ size }) => errorResponse(416, "SIZE_INVALID", { "content-range": `bytes */${size}` })
  })

  yield* server.serve(
    yield* HttpRouter.toHttpEffect(
      Layer.mergeAll(
        HttpRouter.add("GET", "/token", logged(token)),
        HttpRouter.add("GET", "/v2/*", logged(distribution))
      )
    )
  )
  // Without this the end would wait for connections that clients keep open for later.
  yield* Effect.addFinalizer(() => Effect.sync(() => listener.closeAllConnections()))

  return OriginRegistry.of({
    registry,
    log: Effect.sync(() => entries.map((entry) => ({ ...entry }))),
    hold: Effect.fnUntraced(function* (digest) {
      const gate: Gate = { reached: yield* Deferred.make<string>(), open: yield* Deferred.make<void>() }
      gates.set(digest, gate)
      return { reached: Deferred.await(gate.reached), release: Effect.asVoid(Deferred.succeed(gate.open, undefined)) }
    })
  })
})

const errorResponse = (status: number, code: string, headers: Record<string, string> = {}) =>
  HttpServerResponse.jsonUnsafe(
    { errors: [{ code, message: code.toLowerCase().replace("_", " ") }] },
    { status, headers }
  )

const unavailable = errorResponse(500, "UNAVAILABLE")

const basicCredentials = (header: string | undefined): Option.Option<{ account: string; password: string }> => {
  const encoded = /^Basic (.+)$/i.exec(header ?? "")?.[1]
  if (encoded === undefined) return Option.none()
  const decoded = Result.getOrElse(Base64.decodeString(encoded), () => "")
  const colon = decoded.indexOf(":")
  return colon < 0
    ? Option.none()
    : Option.some({ account: decoded.slice(0, colon), password: decoded.slice(colon + 1) })
}

/** One range from a first byte on. Other forms are ignored, as RFC 9110 allows: the answer is the whole blob. */
const parseRange = (
  header: string | undefined,
  size: number
): { readonly first: number; readonly last: number } | "unsatisfiable" | undefined => {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(header ?? "") ?? []
  if (from === undefined) return undefined
  const first = Number(from)
  const last = Math.min(to === undefined || to === "" ? Infinity : Number(to), size - 1)
  return first > last ? "unsatisfiable" : { first, last }
}

/** Serves the image on a free port of the loopback interface. */
export const layer = (
  options: Options
): Layer.Layer<OriginRegistry, HttpServerError.ServeError, FileSystem.FileSystem | Path.Path> =>
  Layer.suspend(() => {
    const listener = createServer()
    return Layer.effect(OriginRegistry, make(options, listener)).pipe(
      Layer.provide([NodeHttpServer.layer(() => listener, { host: "127.0.0.1", port: 0 }), SecureRandom.layerWebCrypto])
    )
  })

/** The pulls in a log: a download that goes on where an earlier one of its account was cut belongs to the same pull. */
export const pulls = (log: ReadonlyArray<LoggedRequest>): ReadonlyArray<Pull> => {
  const found: Array<{ -readonly [Key in keyof Pull]: Pull[Key] }> = []
  for (const { account, digest, method, offset, sent, status } of log) {
    if (method !== "GET" || status >= 300 || Option.isNone(digest) || Option.isNone(account)) continue
    const cut = found.find(
      (pull) => offset > 0 && pull.bytes === offset && pull.digest === digest.value && pull.account === account.value
    )
    if (cut === undefined) found.push({ digest: digest.value, account: account.value, bytes: sent })
    else cut.bytes += sent
  }
  return found
}
