/**
 * A registry that the agent mirrors (agent, section 2).
 */
import { Registry } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Time } from "./Units.ts"

/** A path that does not depend on where the agent was started. */
export const AbsolutePath = Schema.String.annotate({ expected: "an absolute path" }).check(
  Schema.isPattern(/^\//u, { expected: "an absolute path" })
)

/** Whether a host, as text, is this machine and no other. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" ||
  host.endsWith(".localhost") ||
  Result.match(NetAddress.ipFromString(host.replace(/^\[(.*)\]$/, "$1")), {
    onFailure: () => false,
    onSuccess: NetAddress.isLoopback
  })

const isOrigin = (text: string): boolean => {
  const url = URL.parse(text)
  return url !== null && /^https?:$/.test(url.protocol) && url.username === "" && `${url.origin}/` === url.href
}

/** The URL of a server, without a path. */
const ServerUrl = Schema.String.check(
  Schema.makeFilter(isOrigin, { expected: "https://<host>[:<port>], without a path" })
)

const Proxy = Schema.String.check(
  Schema.makeFilter((text: string) => text === "direct" || isOrigin(text), {
    expected: "http://<host>[:<port>], without a path, or direct"
  })
)

const isHelper = (name: string): boolean => /^[a-z0-9][a-z0-9._-]{0,63}$/i.test(name)

const path = Schema.OptionFromOptionalKey(AbsolutePath)

/** One of the registries. */
export const Upstream = Schema.Struct({
  /** What images carry, and what containerd asks for by `ns`. */
  name: Registry,
  /** Where it is reached. */
  endpoint: ServerUrl,
  /** Another name that containerd may ask for it by. */
  ns_alias: Schema.OptionFromOptionalKey(Registry),
  /** Whether `http` is meant where the endpoint is on another machine. */
  plain_http: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  /** A docker `config.json`, read again when it changes. */
  credentials_path: path,
  /** The credential helpers that may be run, by the names that the docker config has for them. */
  credential_helpers: Schema.Array(
    Schema.String.check(Schema.makeFilter(isHelper, { expected: "the name of a docker credential helper" }))
  ).pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))),
  /** PEM: who may sign for the registry, beside those whom the system trusts. */
  ca_path: path,
  /** PEM: who this agent is to the registry; the key may be in the same file. */
  client_cert_path: path,
  client_key_path: path,
  /** Overrides `HTTPS_PROXY` and `NO_PROXY`; `direct` is none. */
  proxy: Schema.OptionFromOptionalKey(Proxy),
  /** Overrides the setting of the same name. */
  tags_ttl: Schema.OptionFromOptionalKey(Time)
})
export type Upstream = typeof Upstream.Type

/** Whether the endpoint would be asked without encryption though nobody said so. */
export const isUnsafe = ({ endpoint, plain_http }: Upstream): boolean =>
  endpoint.startsWith("http:") && !plain_http && !isLoopback(new URL(endpoint).hostname)
