/**
 * The HTTP client for peers: without a proxy, and each request on a connection
 * of its own, since a kept one may be dead without a sign. Speaks HTTP/1.1, and
 * HTTP/2 with prior knowledge to who speaks nothing else.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import { RecentMap } from "@gantry/coord/RecentMap"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** The most peers of whom it is remembered that they speak HTTP/2 only. */
const maxRemembered = 10_000

/** How long a connection may take, in milliseconds, where nobody waits for it any more. */
const connectTimeout = 10_000

const maxHeaderSize = 16 * 1024

const clientOver = (
  makeDispatcher: () => Undici.Dispatcher
): Effect.Effect<HttpClient.HttpClient, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.sync(makeDispatcher), (dispatcher) => Effect.promise(() => dispatcher.destroy())).pipe(
    Effect.flatMap((dispatcher) =>
      Effect.provideService(NodeHttpClient.makeUndici, NodeHttpClient.Dispatcher, dispatcher)
    )
  )

const overHttp1 = () => new Undici.Agent({ connect: { timeout: connectTimeout }, maxHeaderSize, pipelining: 0 })

const overH2c = () =>
  new Undici.Agent({
    factory: (origin) =>
      new Undici.H2CClient(origin, { connect: { timeout: connectTimeout }, keepAliveTimeout: 1, maxHeaderSize })
  })

/** Whether a server that was reached would not hear of HTTP/1.1: it hung up on us, or answered something else. */
const isRefusal = ({ reason }: HttpClientError): boolean => {
  if (reason._tag !== "TransportError") return false
  const { cause } = reason
  if (cause instanceof Undici.errors.HTTPParserError || cause instanceof Undici.errors.SocketError) return true
  return cause instanceof Error && "code" in cause && (cause.code === "ECONNRESET" || cause.code === "EPIPE")
}

const make = Effect.gen(function* () {
  const http1 = yield* clientOver(overHttp1)
  const h2c = yield* clientOver(overH2c)
  const speaksH2c = new RecentMap<string, true>(maxRemembered)

  return HttpClient.transform(http1, (inHttp1, request) => {
    const { origin } = new URL(request.url)
    const inH2c = Effect.tap(h2c.execute(request), () => Effect.sync(() => speaksH2c.set(origin, true)))
    if (!speaksH2c.get(origin)) {
      return Effect.catchIf(inHttp1, isRefusal, (error) => Effect.mapError(inH2c, () => error))
    }
    return Effect.catch(inH2c, () => {
      speaksH2c.delete(origin)
      return inHttp1
    })
  })
})

/** A client for peers. */
export const layer: Layer.Layer<HttpClient.HttpClient> = Layer.effect(HttpClient.HttpClient, make)
