/**
 * How a registry is reached: the proxy and the certificates that the
 * configuration has for it.
 */

import { rootCertificates } from "node:tls"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import { describeCause } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Upstream } from "../config/Upstream.ts"

const readPem = Effect.fnUntraced(function* (path: Option.Option<string>) {
  const fs = yield* FileSystem.FileSystem
  if (Option.isNone(path)) return undefined
  return yield* Effect.mapError(
    fs.readFileString(path.value),
    (error) => `${path.value} cannot be read: ${error.message}`
  )
})

const dispatcherOf = Effect.fnUntraced(function* (upstream: Upstream) {
  const ca = yield* readPem(upstream.ca_path)
  const cert = yield* readPem(upstream.client_cert_path)
  const key = (yield* readPem(upstream.client_key_path)) ?? cert
  const tls = {
    ...(ca === undefined ? {} : { ca: [...rootCertificates, ca] }),
    ...(cert === undefined ? {} : { cert, key: key ?? cert })
  }
  return yield* Effect.try({
    try: (): Undici.Dispatcher => {
      const proxy = Option.getOrUndefined(upstream.proxy)
      if (proxy === "direct") return new Undici.Agent({ connect: tls })
      if (proxy !== undefined) return new Undici.ProxyAgent({ uri: proxy, requestTls: tls })
      return new Undici.EnvHttpProxyAgent({ connect: tls, requestTls: tls })
    },
    catch: describeCause
  })
})

/** A client for one registry; fails with which of its files cannot be used. */
export const layer = (upstream: Upstream): Layer.Layer<HttpClient.HttpClient, string, FileSystem.FileSystem> =>
  NodeHttpClient.layerUndiciNoDispatcher.pipe(
    Layer.provide(
      Layer.effect(
        NodeHttpClient.Dispatcher,
        Effect.acquireRelease(dispatcherOf(upstream), (dispatcher) => Effect.promise(() => dispatcher.destroy()))
      )
    )
  )
