/**
 * An HTTP server without TLS that speaks HTTP/1.1 and, to who begins with its
 * preface, HTTP/2 (RFC 9113, section 3.3): both on one port.
 */

import * as Http from "node:http"
import * as Http2 from "node:http2"
import type * as Net from "node:net"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as HttpServer from "effect/http/HttpServer"
import type { ServeError } from "effect/http/HttpServerError"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"

/** Connections at once, far more than slots: who is turned away has to be told so. */
const maxConnections = 2048

/**
 * A request is a few hundred bytes. Who takes longer to send them is cut off,
 * as is an HTTP/2 connection that has had no request for so long.
 */
const requestTimeout = Duration.seconds(10)

/** How long an HTTP/2 connection that has been told to end may take to do so. */
const farewell = Duration.seconds(5)

/** All headers of a request together, in bytes. */
const maxHeaderBytes = 16 * 1024

const http1Limits: Http.ServerOptions = {
  headersTimeout: Duration.toMillis(requestTimeout),
  requestTimeout: Duration.toMillis(requestTimeout),
  // By default Node looks every 30 seconds only whether a timeout has passed.
  connectionsCheckingInterval: 1000,
  maxHeaderSize: maxHeaderBytes
}

const http2Limits: Http2.ServerOptions = {
  settings: { maxConcurrentStreams: 100, maxHeaderListSize: maxHeaderBytes },
  maxHeaderListPairs: 64,
  // Frames that no well-meaning client sends.
  maxSessionInvalidFrames: 20,
  // A client may give up requests, but not open and reset them without end (CVE-2023-44487).
  streamResetBurst: 200,
  streamResetRate: 20
}

/** What an HTTP/2 connection begins with and no HTTP/1.1 request does. */
const preface = Buffer.from("PRI ")

/** The first bytes that a client sends, so many as tell its protocol; none if it sends fewer. */
const firstBytes = (socket: Net.Socket) =>
  Effect.callback<Option.Option<Buffer>>((resume) => {
    let bytes: Buffer = Buffer.alloc(0)
    const read = () => {
      const chunk: Buffer | null = socket.read()
      if (chunk === null) return
      bytes = Buffer.concat([bytes, chunk])
      const isUndecided = bytes.length < preface.length && preface.subarray(0, bytes.length).equals(bytes)
      if (!isUndecided) end(Option.some(bytes))
    }
    const leave = () => end(Option.none())
    const end = (first: Option.Option<Buffer>) => {
      socket.off("readable", read).off("end", leave).off("error", leave).off("close", leave)
      resume(Effect.succeed(first))
    }
    socket.on("readable", read).on("end", leave).on("error", leave).on("close", leave)
  })

/** Ends an HTTP/2 connection that has had no request for too long. */
const watch = (session: Http2.ServerHttp2Session) => {
  let open = 0
  let changes = 0
  const change = (by: 1 | -1) => {
    open += by
    changes++
  }
  session.on("stream", (stream) => {
    change(1)
    stream.once("close", () => change(-1))
  })
  return Effect.gen(function* () {
    let before: number
    do {
      before = changes
      yield* Effect.sleep(requestTimeout)
    } while (open > 0 || changes > before)
    session.close()
    yield* Effect.sleep(farewell)
    session.destroy()
  })
}

/** Listens until the scope closes; requests in progress then have the grace to end, and nothing has more. */
export const listen = Effect.fnUntraced(function* (options: {
  readonly host: string
  readonly port: number
  readonly grace: Duration.Duration
}): Effect.fn.Return<HttpServer.HttpServer["Service"], ServeError, Scope.Scope> {
  const run = yield* FiberSet.makeRuntime<never, void, never>()
  const sockets = new Set<Net.Socket>()
  const http1 = Http.createServer(http1Limits)
  const http2 = Http2.createServer(http2Limits)

  // The server for HTTP/1.1 listens for both: Node keeps its connections'
  // deadlines only then. Its own way to take a connection waits for the verdict.
  const [takeHttp1] = http1.listeners("connection") as [(this: Http.Server, socket: Net.Socket) => void]
  const take = Effect.fnUntraced(function* (socket: Net.Socket) {
    const first = Option.flatten(yield* Effect.timeoutOption(firstBytes(socket), requestTimeout))
    if (Option.isNone(first)) return void socket.destroy()
    socket.unshift(first.value)
    if (!first.value.subarray(0, preface.length).equals(preface)) return takeHttp1.call(http1, socket)
    // To HTTP/2 a client that ends its side is gone.
    socket.allowHalfOpen = false
    http2.emit("connection", socket)
  })
  http1.maxConnections = maxConnections
  http1.removeAllListeners("connection")
  http1.on("connection", (socket: Net.Socket) => {
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
    run(take(socket))
  })
  http1.on("request", (_, response) => {
    response.once("close", () => {
      if (!http1.listening) http1.closeIdleConnections()
    })
  })
  http2.on("session", (session) => {
    const watching = run(watch(session))
    session.once("close", () => watching.interruptUnsafe())
  })
  for (const event of ["request", "session"] as const) {
    http2.on(event, (...args: ReadonlyArray<unknown>) => void http1.emit(event, ...args))
  }

  const server = yield* NodeHttpServer.make(() => http1, {
    host: options.host,
    port: options.port,
    gracefulShutdownTimeout: options.grace
  })
  // After the grace nothing is waited for, least of all a connection without a request.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
    })
  )
  return server
})
