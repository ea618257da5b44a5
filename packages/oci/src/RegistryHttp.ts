/**
 * The connections to registries, and to what they send us to: proxies,
 * certificates, and which connections are kept.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import type { Registry } from "@gantry/protocol"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import { canonicalName } from "./internal/names.ts"
import * as Proxies from "./internal/proxies.ts"
import * as Trust from "./internal/trust.ts"
import type { RegistryHttpError } from "./RegistryHttpError.ts"
import type { Upstream, Upstreams } from "./Upstream.ts"

/** The ways to ask on behalf of one registry. */
export interface Clients {
  /** Over connections that are kept for the next request. */
  readonly kept: HttpClient.HttpClient
  /** Over a new connection each time. */
  readonly fresh: HttpClient.HttpClient
}

/** HTTP clients by the registry on whose behalf they ask. */
export class RegistryHttp extends Context.Service<
  RegistryHttp,
  { readonly clientFor: (registry: Registry) => Clients }
>()("@gantry/oci/RegistryHttp") {}

/** The given HTTP client, whatever the registry. */
export const layerClient: Layer.Layer<RegistryHttp, never, HttpClient.HttpClient> = Layer.effect(
  RegistryHttp,
  Effect.map(HttpClient.HttpClient, (client) => ({ clientFor: () => ({ kept: client, fresh: client }) }))
)

export interface Options {
  readonly upstreams?: Upstreams | undefined
}

const make = Effect.fnUntraced(function* ({ upstreams = {} }: Options = {}) {
  const proxies = yield* Proxies.fromEnvironment
  const roots = yield* Trust.fromEnvironment

  const clientsOf = Effect.fnUntraced(function* (registry: string, upstream: Upstream) {
    const secureContext = yield* Trust.contextOf(registry, upstream, roots)
    const { proxy } = upstream
    const settings = {
      secureContext,
      proxies: proxy === undefined ? proxies : proxy === "direct" ? Proxies.none : Proxies.only(proxy)
    }
    const clientOver = (keeps: boolean) =>
      Effect.flatMap(Proxies.makeDispatcher({ ...settings, keeps }), (dispatcher) =>
        Effect.provideService(NodeHttpClient.makeUndici, NodeHttpClient.Dispatcher, dispatcher)
      )
    return { kept: yield* clientOver(true), fresh: yield* clientOver(false) }
  })

  const others = yield* clientsOf("any registry", {})
  const known = new Map<string, Clients>()
  for (const [registry, upstream] of Object.entries(upstreams)) {
    const { caPath, clientCertPath, proxy } = upstream
    if (caPath === undefined && clientCertPath === undefined && proxy === undefined) continue
    known.set(canonicalName(registry), yield* clientsOf(registry, upstream))
  }
  return RegistryHttp.of({ clientFor: (registry) => known.get(canonicalName(registry)) ?? others })
})

/**
 * Connections as each upstream has them. For the others the environment decides:
 * `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` on proxies, `SSL_CERT_FILE`,
 * `SSL_CERT_DIR` and `NODE_EXTRA_CA_CERTS` on who is trusted. Files are read once.
 */
export const layer = (
  options?: Options
): Layer.Layer<RegistryHttp, RegistryHttpError | Config.ConfigError, FileSystem.FileSystem> =>
  Layer.effect(RegistryHttp, make(options))
