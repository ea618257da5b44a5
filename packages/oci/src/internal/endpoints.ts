/**
 * Where registries are asked, and which servers over plain http.
 */
import type { Registry } from "@gantry/protocol"
import type { Upstream, Upstreams } from "../Upstream.ts"
import { canonicalName, hostOf, isLoopback } from "./names.ts"

export interface Endpoints {
  /** What comes before `/v2/`; undefined for what is no address. */
  readonly endpointOf: (registry: Registry) => string | undefined
  /** Whether a server may be asked over `http`, or is where `https` sends us to. */
  readonly isPlain: (url: URL) => boolean
}

export interface Options {
  readonly upstreams?: Upstreams | undefined
  readonly plainHttp?: ReadonlyArray<string> | undefined
}

/** The host and port of a registry, as a URL over `http` has them. */
const authorityOf = (registry: string) => URL.parse(`http://${hostOf(registry)}`)?.host

export const make = ({ plainHttp = [], upstreams = {} }: Options): Endpoints => {
  const known = new Map<string, Upstream>()
  /** What somebody said, by host and port. */
  const said = new Map<string | undefined, boolean>(plainHttp.map((host) => [authorityOf(host), true]))
  for (const [registry, upstream] of Object.entries(upstreams)) {
    known.set(canonicalName(registry), upstream)
    const { endpoint, plainHttp } = upstream
    if (endpoint !== undefined) said.set(endpoint.host, endpoint.protocol === "http:")
    else if (plainHttp !== undefined) said.set(authorityOf(registry), plainHttp)
  }
  const isPlain = (url: URL) => said.get(url.host) ?? isLoopback(url)

  const endpointOf = (registry: Registry) => {
    const endpoint = known.get(canonicalName(registry))?.endpoint
    if (endpoint !== undefined) return `${endpoint.origin}${endpoint.pathname.replace(/\/+$/, "")}`
    const host = hostOf(registry)
    const url = URL.parse(`http://${host}`)
    if (url === null) return undefined
    return isPlain(url) ? url.origin : `https://${host}`
  }
  return { endpointOf, isPlain }
}
