/**
 * Real HTTP servers on loopback that a test scripts: registries, token
 * services and storage.
 */
import * as Http from "node:http"
import * as Https from "node:https"
import type * as Net from "node:net"
import { type ContentKind, type Digest, OriginRef, Registry, Repository } from "@gantry/protocol"
import * as Effect from "effect/Effect"

/** A request as it came. */
export interface Received {
  readonly method: string
  readonly url: string
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
  /** Whether the client has shown a certificate that the server trusts. */
  readonly isKnown: boolean
  /** That of the client: another one for each connection. */
  readonly port: number | undefined
}

/** A server that runs until the scope ends. */
export interface Origin {
  /** `127.0.0.1:port`, which is also its name as a registry. */
  readonly registry: Registry
  readonly url: string
  readonly port: number
  readonly server: Http.Server
  /** All requests so far, in their order. */
  readonly received: ReadonlyArray<Received>
}

/** Answers one request; `turn` counts from 0. */
export type Answer = (request: Received, response: Http.ServerResponse, turn: number) => void

/** How a server that speaks TLS shows who it is, and whom it asks for a certificate. */
export interface Tls extends Https.ServerOptions {}

/** Starts a server; over TLS, if told how. */
export const serve = (answer: Answer, tls?: Tls) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly server: Http.Server; readonly received: ReadonlyArray<Received> }>((resume) => {
        const received: Array<Received> = []
        const listener: Http.RequestListener = (request, response) => {
          const chunks: Array<Uint8Array> = []
          request.on("data", (chunk) => chunks.push(chunk))
          request.on("end", () => {
            const { headers, method = "", socket, url = "" } = request
            const body = Buffer.concat(chunks).toString()
            const isKnown = "authorized" in socket && socket.authorized === true
            const turn = received.push({ method, url, headers, body, isKnown, port: socket.remotePort })
            answer(received[turn - 1] as Received, response, turn - 1)
          })
        }
        const server = tls === undefined ? Http.createServer(listener) : Https.createServer(tls, listener)
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, received })))
      }),
      ({ server }) =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    ),
    ({ received, server }): Origin => {
      const { port } = server.address() as Net.AddressInfo
      const registry = Registry.make(`127.0.0.1:${port}`)
      return { registry, url: `http${tls === undefined ? "" : "s"}://${registry}`, port, received, server }
    }
  )

/** Answers with a status, headers and a body. */
export const reply = (
  response: Http.ServerResponse,
  status: number,
  headers: Http.OutgoingHttpHeaders = {},
  body: string | Uint8Array = ""
) => void response.writeHead(status, { "content-length": Buffer.byteLength(body), ...headers }).end(body)

/** Answers with bytes, or with the part of them that the request's range names. */
export const replyBytes = (request: Received, response: Http.ServerResponse, bytes: Uint8Array) => {
  const first = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0)
  if (first === 0) return reply(response, 200, {}, bytes)
  if (first >= bytes.length) return reply(response, 416, { "content-range": `bytes */${bytes.length}` })
  const range = `bytes ${first}-${bytes.length - 1}/${bytes.length}`
  return reply(response, 206, { "content-range": range }, bytes.subarray(first))
}

/** Announces bytes and sends the first few of them; the connection is cut when the test has them. */
export const replyCut = (response: Http.ServerResponse, bytes: Uint8Array, sent: number, cut: Promise<void>) => {
  response.writeHead(200, { "content-length": bytes.length })
  response.write(bytes.subarray(0, sent))
  void cut.then(() => response.destroy())
}

/** The repository of all tests. */
export const repository: Repository = Repository.make("library/nginx")

/** A digest at an origin. */
export const refAt = ({ registry }: Origin, digest: Digest): OriginRef =>
  new OriginRef({ registry, repository, digest })

/** Where a digest is asked for. */
export const pathOf = (digest: Digest, kind: ContentKind = "layer"): string =>
  `/v2/${repository}/${kind === "manifest" ? "manifests" : "blobs"}/${digest}`
