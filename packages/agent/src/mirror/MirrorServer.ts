/**
 * The mirror's listener.
 */
import * as Http from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import { ListenError } from "../daemon/ListenError.ts"
import * as Mirror from "./Mirror.ts"

/** Settings of the listener and of what it serves. */
export interface Options extends Mirror.Options {
  /** The name of the setting that says where to listen, for whoever has to change it. */
  readonly setting: string
  readonly host: string
  readonly port: number
  /** How long running requests may go on when the scope closes. */
  readonly drainTimeout: Duration.Duration
}

/** The mirror of this agent. */
export class MirrorServer extends Context.Service<
  MirrorServer,
  {
    /** `host:port`, as bound. */
    readonly address: string
  }
>()("@gantry/agent/mirror/MirrorServer") {}

/** A request is a few hundred bytes; who takes longer than this to send them is cut off. */
const requestTimeoutMillis = 5_000

/** All headers of a request together, in bytes. */
const maxHeaderSize = 16 * 1024

const make = Effect.fnUntraced(function* (surroundings: Mirror.Surroundings, options: Options) {
  const { host, port, setting } = options
  const server = Http.createServer({
    headersTimeout: requestTimeoutMillis,
    requestTimeout: requestTimeoutMillis,
    connectionsCheckingInterval: 1_000,
    maxHeaderSize,
    // A client that pulls layer after layer keeps its connection.
    keepAliveTimeout: 65_000
  })
  // Who is turned away has to be told so.
  server.maxConnections = 2 * options.maxRequests
  const { address, serve } = yield* Effect.mapError(
    NodeHttpServer.make(() => server, { host, port, gracefulShutdownTimeout: options.drainTimeout }),
    ({ cause }) => new ListenError({ setting, address: `${host}:${port}`, cause })
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const handle = yield* Mirror.make(surroundings, options)
  yield* serve(Effect.flatMap(HttpServerRequest.HttpServerRequest, handle))
  return MirrorServer.of({ address: NetAddress.formatSocketAddress(address) })
})

/** Serves container runtimes from when the layer is built until its scope closes. */
export const layer = <R>(
  surroundings: Effect.Effect<Mirror.Surroundings, never, R>,
  options: Options
): Layer.Layer<MirrorServer, ListenError, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    MirrorServer,
    Effect.flatMap(surroundings, (given) => make(given, options))
  )
