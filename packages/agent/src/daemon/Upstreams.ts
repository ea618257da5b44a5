/**
 * The registries of the configuration, as the parts of the agent need them.
 */
import * as NodeChildProcessSpawner from "@effect/platform-node/NodeChildProcessSpawner"
import type { SettingError } from "@gantry/coord"
import { Credentials, RegistryClient, RegistryHttp, type RegistryHttpError, type Upstream } from "@gantry/oci"
import { isRegistry } from "@gantry/protocol"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { Settings } from "../config/Settings.ts"
import type { Upstream as UpstreamSettings } from "../config/Upstream.ts"
import type { Registries } from "../mirror/Route.ts"

/** How a registry is contacted. */
export const contactOf = (upstream: UpstreamSettings): Upstream.Upstream => ({
  endpoint: new URL(upstream.endpoint),
  caPath: Option.getOrUndefined(upstream.ca_path),
  clientCertPath: Option.getOrUndefined(upstream.client_cert_path),
  clientKeyPath: Option.getOrUndefined(upstream.client_key_path),
  proxy: Option.getOrUndefined(Option.map(upstream.proxy, (url) => (url === "direct" ? url : new URL(url))))
})

const contacts = ({ upstream_registries }: Settings): Record<string, Upstream.Upstream> =>
  Object.fromEntries(upstream_registries.map((upstream) => [upstream.name, contactOf(upstream)]))

/** The settings of the client of registries. */
export const clientOptions = (settings: Settings): RegistryClient.Options => ({
  upstreams: contacts(settings),
  idleTimeout: settings.origin_stall_timeout
})

/** The registries that may be pulled from; any, if all public ones are mirrored. */
export const allowed = ({ upstream_registries, wildcard_registries }: Settings): ReadonlyArray<string> | undefined =>
  wildcard_registries ? undefined : upstream_registries.map(({ name }) => name)

/**
 * What clients may call a registry: its name, its alias, or where it is. Any name
 * is one, if all public registries are mirrored.
 */
export const registries = ({ default_registry, upstream_registries, wildcard_registries }: Settings): Registries => {
  const byName = new Map<string, string>()
  for (const { endpoint, name, ns_alias } of upstream_registries) {
    for (const called of [name, new URL(endpoint).host, ...Option.toArray(ns_alias)]) {
      if (!byName.has(called.toLowerCase())) byName.set(called.toLowerCase(), name)
    }
  }
  const only = upstream_registries.length === 1 ? upstream_registries[0]?.name : undefined
  return {
    find: (called) =>
      Option.orElse(Option.fromUndefinedOr(byName.get(called.toLowerCase())), () =>
        wildcard_registries && isRegistry(called) ? Option.some(called) : Option.none()
      ),
    default: Option.orElse(default_registry, () => Option.fromUndefinedOr(only))
  }
}

/** Each registry's own docker config; the others have none. */
const layerCredentials = (
  settings: Settings
): Layer.Layer<
  Credentials.Credentials,
  Credentials.CredentialsError | SettingError.SettingError,
  FileSystem.FileSystem | Path.Path
> => {
  const files = settings.upstream_registries.flatMap(({ credential_helpers, credentials_path, name }) =>
    Option.toArray(credentials_path).map((path) => ({ name, path, helpers: credential_helpers }))
  )
  return Layer.effect(
    Credentials.Credentials,
    Effect.gen(function* () {
      const sources = new Map<string, Credentials.Credentials["Service"]>()
      for (const { helpers, name, path } of files) {
        const context = yield* Layer.build(Credentials.layerFile(path, { helpers }))
        sources.set(name.toLowerCase(), yield* Effect.provideContext(Credentials.Credentials, context))
      }
      return Credentials.Credentials.of({
        get: (registry, repository) =>
          sources.get(registry.toLowerCase())?.get(registry, repository) ?? Effect.succeedNone
      })
    })
  ).pipe(Layer.provide(NodeChildProcessSpawner.layer))
}

/** The way to the registries. */
export const layer = (
  settings: Settings
): Layer.Layer<
  RegistryClient.RegistryClient,
  Config.ConfigError | Credentials.CredentialsError | RegistryHttpError.RegistryHttpError | SettingError.SettingError,
  FileSystem.FileSystem | Path.Path
> =>
  RegistryClient.layer(clientOptions(settings)).pipe(
    Layer.provide([layerCredentials(settings), RegistryHttp.layer(clientOptions(settings))])
  )
