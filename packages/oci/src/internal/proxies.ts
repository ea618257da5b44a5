/**
 * Through which proxy a server is asked, if through any.
 */
import { BlockList, isIP } from "node:net"
import type { SecureContext } from "node:tls"
import * as Undici from "@effect/platform-node/Undici"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { InvalidProxy, RegistryHttpError } from "../RegistryHttpError.ts"
import { ProxyFailure } from "./connectionFailure.ts"
import { isLoopback } from "./names.ts"

/** The proxies for each scheme, and the servers that are asked without. */
export interface Proxies {
  readonly http: Option.Option<URL>
  readonly https: Option.Option<URL>
  /** Host names, addresses and their ends, as in `NO_PROXY`. */
  readonly exempt: string
  /** Other servers that are asked without. */
  readonly isExempt: (url: URL) => boolean
}

/** All servers are asked directly. */
export const none: Proxies = { http: Option.none(), https: Option.none(), exempt: "", isExempt: () => true }

/** All servers are asked through one proxy. */
export const only = (proxy: URL): Proxies => ({
  http: Option.some(proxy),
  https: Option.some(proxy),
  exempt: "",
  isExempt: () => false
})

const variable = (name: string) =>
  Config.option(Config.NonEmptyString(name).pipe(Config.orElse(() => Config.NonEmptyString(name.toUpperCase()))))

const variables = Config.all({
  http: variable("http_proxy"),
  https: variable("https_proxy"),
  exempt: Config.map(
    variable("no_proxy"),
    Option.getOrElse(() => "")
  )
})

const parse = (setting: string, text: Option.Option<string>) =>
  Effect.suspend(() => {
    if (Option.isNone(text)) return Effect.succeed(Option.none<URL>())
    const url = URL.parse(text.value.includes("://") ? text.value : `http://${text.value}`)
    return url === null
      ? Effect.fail(new RegistryHttpError({ reason: new InvalidProxy({ setting }) }))
      : Effect.succeedSome(url)
  })

/** The blocks of addresses in a `NO_PROXY`, such as `10.0.0.0/8`. */
const blocksIn = (exempt: string): ((url: URL) => boolean) => {
  const blocks = new BlockList()
  for (const entry of exempt.split(/[\s,]+/)) {
    const [, network = "", bits = ""] = /^\[?([\d.:a-f]+)\]?\/(\d{1,3})$/i.exec(entry) ?? []
    const family = isIP(network)
    if (family !== 0 && Number(bits) <= (family === 6 ? 128 : 32)) {
      blocks.addSubnet(network, Number(bits), family === 6 ? "ipv6" : "ipv4")
    }
  }
  return ({ hostname }) => {
    const address = hostname.replace(/^\[|\]$/g, "")
    const family = isIP(address)
    return family !== 0 && blocks.check(address, family === 6 ? "ipv6" : "ipv4")
  }
}

/**
 * What `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say, in either case of their
 * letters. As with curl and Go each scheme has its own proxy; as with Go
 * `NO_PROXY` may name blocks of addresses, and no proxy is asked for what is on
 * this machine.
 */
export const fromEnvironment: Effect.Effect<Proxies, RegistryHttpError | Config.ConfigError> = Effect.gen(function* () {
  const { exempt, http, https } = yield* variables
  const isInBlock = blocksIn(exempt)
  return {
    http: yield* parse("HTTP_PROXY", http),
    https: yield* parse("HTTPS_PROXY", https),
    exempt,
    isExempt: (url) => isLoopback(url) || isInBlock(url)
  }
})

/** How connections are made, whoever they are to. */
export interface Settings {
  readonly proxies: Proxies
  readonly secureContext: Option.Option<SecureContext>
  /** Whether a connection is kept for the next request. */
  readonly keeps: boolean
}

/**
 * No connection is kept longer than this without use, whatever its server
 * allows: what is between us and the server forgets it without a word.
 */
const maxIdleMillis = 30_000

/** Marks what fails on the way to the proxy as the proxy's fault. */
const toProxy = (proxy: URL, options: object): Undici.Dispatcher => {
  const connect = "connect" in options ? (options.connect as Undici.buildConnector.connector) : Undici.buildConnector()
  return new Undici.Pool(proxy.origin, {
    ...options,
    connect: (target, callback) =>
      connect(target, (...[error, socket]) =>
        error === null ? callback(null, socket) : callback(new ProxyFailure(proxy, error), null)
      )
  })
}

/** Opens connections; the scope closes them. */
export const makeDispatcher = ({
  keeps,
  proxies,
  secureContext
}: Settings): Effect.Effect<Undici.Dispatcher, never, Scope.Scope> => {
  const tls = Option.match(secureContext, { onNone: () => ({}), onSome: (secureContext) => ({ secureContext }) })
  const options = {
    // Over HTTP/2 all blobs of a registry would share one connection, and what one connection carries.
    allowH2: false,
    keepAliveMaxTimeout: maxIdleMillis,
    ...(keeps ? {} : { pipelining: 0 }),
    connect: tls
  }
  const own = [proxies.http, proxies.https].flatMap(Option.toArray)
  const acquire = <A extends Undici.Dispatcher>(make: () => A) =>
    Effect.acquireRelease(Effect.sync(make), (dispatcher) => Effect.promise(() => dispatcher.destroy()))

  return Effect.gen(function* () {
    const direct = yield* acquire(() => new Undici.Agent(options))
    if (own.length === 0) return direct
    const textOf = Option.match({ onNone: () => "", onSome: (url: URL) => url.href })
    const proxied = yield* acquire(
      () =>
        new Undici.EnvHttpProxyAgent({
          ...options,
          httpProxy: textOf(proxies.http),
          httpsProxy: textOf(proxies.https),
          noProxy: proxies.exempt,
          requestTls: tls,
          proxyTls: tls,
          clientFactory: toProxy,
          factory: (origin, options) => {
            const proxy = own.find((proxy) => proxy.origin === new URL(origin).origin)
            return proxy === undefined ? new Undici.Pool(origin, options) : toProxy(proxy, options)
          }
        })
    )
    const isDirect = (url: URL) =>
      Option.isNone(url.protocol === "https:" ? proxies.https : proxies.http) || proxies.isExempt(url)
    return direct.compose((dispatch) => (request, handler) => {
      const isProxied = request.origin !== undefined && !isDirect(new URL(request.origin))
      return isProxied ? proxied.dispatch(request, handler) : dispatch(request, handler)
    })
  })
}
