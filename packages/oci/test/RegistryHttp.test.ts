import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { OriginRef, Registry } from "@gantry/protocol"
import { Effect, FileSystem, Layer } from "effect"
import { digestOf } from "../src/BlobStore.ts"
import { askingTls, certificatePath, serverTls } from "./support/certificates.ts"
import { type Answer, pathOf, reply, repository, serve } from "./support/origin.ts"
import { serveProxy } from "./support/proxy.ts"
import { client, download, requestsOf } from "./support/registryClient.ts"
import { layerHttp } from "./support/registryHttp.ts"

const blob = new TextEncoder().encode("the bytes of a layer")
const digest = digestOf(blob)
const path = pathOf(digest)
const all: Answer = (_, response) => reply(response, 200, {}, blob)

const at = (registry: string) => download(new OriginRef({ registry: Registry.make(registry), repository, digest }))

/** A name of this machine that does not tell that it is. */
const nameOf = ({ port }: { readonly port: number }) => `0.0.0.0:${port}`

const host = "registry.example.com"
const authority = certificatePath("authority")

describe("a proxy", () => {
  const plainHttp = [host, "auth.example.com", "storage.example.com"]

  it.effect.each([["http_proxy"], ["HTTP_PROXY"]] as const)(
    "of %s is asked for what is asked over http",
    ([variable]) =>
      Effect.gen(function* () {
        const proxy = yield* serveProxy((request, response) => {
          if (request.url.startsWith("http://auth.example.com/")) return reply(response, 200, {}, '{"token":"token"}')
          if (request.url === "http://storage.example.com/x") return reply(response, 200, {}, blob)
          return request.headers.authorization === undefined
            ? reply(response, 401, { "www-authenticate": 'Bearer realm="http://auth.example.com/token"' })
            : reply(response, 307, { location: "http://storage.example.com/x" })
        })
        const { text } = yield* at(host).pipe(
          Effect.provide(client(undefined, { plainHttp }, { [variable]: proxy.url }))
        )
        assert.strictEqual(text, "the bytes of a layer")
        assert.deepStrictEqual(
          requestsOf(proxy).map((line) => line.replace(/\?.*$/, "")),
          [
            `GET http://${host}${path}`,
            "GET http://auth.example.com/token",
            `GET http://${host}${path}`,
            "GET http://storage.example.com/x"
          ]
        )
        assert.deepStrictEqual(proxy.tunnels, [])
      })
  )

  it.effect.each([["https_proxy"], ["HTTPS_PROXY"]] as const)(
    "of %s is asked for tunnels to what is asked over https",
    ([variable]) =>
      Effect.gen(function* () {
        const origin = yield* serve(all, serverTls)
        const proxy = yield* serveProxy(all, origin)
        const env = { [variable]: proxy.url, SSL_CERT_FILE: authority }
        const { text } = yield* at(host).pipe(Effect.provide(client(undefined, {}, env)))
        assert.strictEqual(text, "the bytes of a layer")
        assert.deepStrictEqual(proxy.tunnels, [`${host}:443`])
        assert.deepStrictEqual(requestsOf(origin), [`GET ${path}`])
        assert.deepStrictEqual(requestsOf(proxy), [])
      })
  )

  it.effect("of one scheme is not asked for the other", () =>
    Effect.gen(function* () {
      const secure = yield* serve(all, serverTls)
      const plain = yield* serve(all)
      const proxy = yield* serveProxy(all)
      const upstreams = { [nameOf(plain)]: { plainHttp: true } }
      yield* at(nameOf(plain)).pipe(Effect.provide(client(undefined, { upstreams }, { HTTPS_PROXY: proxy.url })))
      // The certificate is not for this name, which only the server itself can show.
      const error = yield* Effect.flip(at(nameOf(secure))).pipe(
        Effect.provide(client(undefined, {}, { HTTP_PROXY: proxy.url, SSL_CERT_FILE: authority }))
      )
      assert.include(error.message, "altnames")
      assert.deepStrictEqual([proxy.tunnels, proxy.received.length], [[], 0])
    })
  )

  it.effect.each([
    ["the name", "0.0.0.0", true],
    ["a list with the name", "other.example.com, 0.0.0.0", true],
    ["the name and the port", "0.0.0.0:PORT", true],
    ["the name and another port", "0.0.0.0:1", false],
    ["everything", "*", true],
    ["a block of addresses", "10.0.0.0/8,0.0.0.0/8", true],
    ["another block", "10.0.0.0/8", false],
    ["another name", "other.example.com", false],
    ["nothing", "", false]
  ] as const)("is passed over, or not, where NO_PROXY has %s", ([, exempt, isPassedOver]) =>
    Effect.gen(function* () {
      const origin = yield* serve(all)
      const proxy = yield* serveProxy(all)
      const env = { HTTP_PROXY: proxy.url, NO_PROXY: exempt.replace("PORT", `${origin.port}`) }
      const upstreams = { [nameOf(origin)]: { plainHttp: true } }
      yield* at(nameOf(origin)).pipe(Effect.provide(client(undefined, { upstreams }, env)))
      assert.deepStrictEqual([origin.received.length, proxy.received.length], isPassedOver ? [1, 0] : [0, 1])
    })
  )

  it.effect("of the environment is not asked for what is on this machine", () =>
    Effect.gen(function* () {
      const origin = yield* serve(all)
      const proxy = yield* serveProxy(all)
      yield* at(origin.registry).pipe(Effect.provide(client(undefined, {}, { HTTP_PROXY: proxy.url })))
      assert.deepStrictEqual([origin.received.length, proxy.received.length], [1, 0])
    })
  )

  it.effect("of one registry is asked for that one alone, whatever the environment says", () =>
    Effect.gen(function* () {
      const origin = yield* serve(all)
      const own = yield* serveProxy(all)
      const usual = yield* serveProxy(all)
      const upstreams = {
        [host]: { plainHttp: true, proxy: new URL(own.url) },
        [origin.registry]: { proxy: new URL(own.url) },
        [nameOf(origin)]: { plainHttp: true, proxy: "direct" as const },
        "other.example.com": { plainHttp: true }
      }
      const env = { HTTP_PROXY: usual.url, NO_PROXY: host }
      yield* Effect.gen(function* () {
        for (const registry of [host, origin.registry, nameOf(origin), "other.example.com"]) yield* at(registry)
      }).pipe(Effect.provide(client(undefined, { upstreams }, env)))
      assert.deepStrictEqual(requestsOf(own), [`GET http://${host}${path}`, `GET ${origin.url}${path}`])
      assert.deepStrictEqual(requestsOf(usual), [`GET http://other.example.com${path}`])
      assert.strictEqual(origin.received.length, 1)
    })
  )

  it.effect("may be named without a scheme, and want a password that nobody else sees", () =>
    Effect.gen(function* () {
      const origin = yield* serve(all, serverTls)
      const proxy = yield* serveProxy(all, origin)
      const env = { HTTPS_PROXY: `me:secret@127.0.0.1:${proxy.port}`, SSL_CERT_FILE: authority }
      yield* at(host).pipe(Effect.provide(client(undefined, {}, env)))
      assert.deepStrictEqual(proxy.authorizations, [`Basic ${Buffer.from("me:secret").toString("base64")}`])
      assert.notProperty(origin.received[0]?.headers, "proxy-authorization")
    })
  )

  it.effect("that is no URL is refused at once, and its text not repeated", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Layer.build(layerHttp({ HTTPS_PROXY: "http://me:secret@[" })))
      assert.include(error.message, "HTTPS_PROXY is not <host>:<port>")
      assert.notInclude(error.message, "secret")
    })
  )

  it.effect.each([
    ["where nobody listens", undefined, "NoNetwork"],
    ["that wants to know who asks", 407, "NoNetwork"],
    ["that lets nobody through", 403, "NoNetwork"],
    ["that does not get to the registry", 502, "Unreachable"],
    ["for which the registry takes too long", 504, "Unreachable"]
  ] as const)("%s is this node's fault, if it is the proxy's: tunnel %s, %s", ([, status, reason]) =>
    Effect.gen(function* () {
      const proxy = yield* serveProxy(all, status)
      const url = status === undefined ? "http://me:secret@127.0.0.1:1" : proxy.url
      const error = yield* Effect.flip(at(host)).pipe(Effect.provide(client(undefined, {}, { HTTPS_PROXY: url })))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], [reason, "transient"])
      assert.strictEqual(error.isOwnFault, reason === "NoNetwork")
      assert.notInclude(error.message, "secret")
      if (status === undefined) assert.include(error.message, "the proxy 127.0.0.1:1: ")
    })
  )

  it.effect.each([
    ["where nobody listens", undefined, "NoNetwork"],
    ["that wants to know who asks", 407, "NoNetwork"],
    ["that does not get to the registry", 502, "Refused"]
  ] as const)("%s is this node's fault, if it is the proxy's: request %s, %s", ([, status, reason]) =>
    Effect.gen(function* () {
      const proxy = yield* serveProxy((_, response) => reply(response, status ?? 200))
      const env = { HTTP_PROXY: status === undefined ? "http://127.0.0.1:1" : proxy.url }
      const error = yield* Effect.flip(at(host)).pipe(Effect.provide(client(undefined, { plainHttp }, env)))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], [reason, "transient"])
    })
  )
})

describe("a registry over https", () => {
  it.effect("is not believed without an authority that vouches for it", () =>
    Effect.gen(function* () {
      const origin = yield* serve(all, serverTls)
      const options = { upstreams: { [origin.registry]: { plainHttp: false } } }
      const error = yield* Effect.flip(at(origin.registry)).pipe(Effect.provide(client(undefined, options)))
      assert.deepStrictEqual([error.reason._tag, error.failureClass], ["Unreachable", "transient"])
      assert.include(error.message, "SSL_CERT_FILE and caPath name others")
      assert.strictEqual(origin.received.length, 0)
    })
  )

  it.effect.each([["SSL_CERT_FILE"], ["SSL_CERT_DIR"], ["both"]])("is believed by the word of %s", ([variable]) =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const directory = yield* files.makeTempDirectoryScoped()
      const elsewhere = yield* files.makeTempDirectoryScoped()
      yield* files.copyFile(authority, `${directory}/authority.pem`)
      yield* files.writeFileString(`${directory}/README`, "no certificate")
      yield* files.symlink(`${directory}/absent`, `${directory}/broken.pem`)
      const env: Record<string, string> =
        variable === "SSL_CERT_FILE"
          ? { SSL_CERT_FILE: authority }
          : variable === "SSL_CERT_DIR"
            ? { SSL_CERT_DIR: `${elsewhere}:${directory}` }
            : { SSL_CERT_FILE: authority, SSL_CERT_DIR: directory }
      const origin = yield* serve(all, serverTls)
      const options = { upstreams: { [origin.registry]: { plainHttp: false } } }
      yield* at(origin.registry).pipe(Effect.provide(client(undefined, options, env)))
      assert.strictEqual(origin.received.length, 1)
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.effect("is believed by the word of its own authority, and no other registry is", () =>
    Effect.gen(function* () {
      const own = yield* serve(all, serverTls)
      const other = yield* serve(all, serverTls)
      const upstreams = {
        [own.registry]: { plainHttp: false, caPath: authority },
        [other.registry]: { plainHttp: false }
      }
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* at(own.registry)).text, "the bytes of a layer")
        assert.strictEqual((yield* Effect.flip(at(other.registry))).reason._tag, "Unreachable")
      }).pipe(Effect.provide(client(undefined, { upstreams })))
    })
  )

  it.effect("is shown the certificate of this node if it asks, and no other registry is", () =>
    Effect.gen(function* () {
      const own = yield* serve(all, askingTls)
      const other = yield* serve(all, askingTls)
      const files = yield* FileSystem.FileSystem
      const both = `${yield* files.makeTempDirectoryScoped()}/both.pem`
      const texts = yield* Effect.forEach(["client", "client.key"] as const, (name) =>
        files.readFileString(certificatePath(name))
      )
      yield* files.writeFileString(both, texts.join("\n"))
      for (const [clientCertPath, clientKeyPath] of [
        [certificatePath("client"), certificatePath("client.key")],
        [both, undefined]
      ] as const) {
        const upstreams = {
          [own.registry]: { plainHttp: false, caPath: authority, clientCertPath, clientKeyPath },
          [other.registry]: { plainHttp: false, caPath: authority }
        }
        yield* Effect.andThen(at(own.registry), at(other.registry)).pipe(
          Effect.provide(client(undefined, { upstreams }))
        )
      }
      assert.deepStrictEqual(
        [own, other].map(({ received }) => received.map(({ isKnown }) => isKnown)),
        [
          [true, true],
          [false, false]
        ]
      )
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  const absent = "/absent.pem"
  it.effect.each([
    ["a file of the environment that is not there", { SSL_CERT_FILE: absent }, {}, "SSL_CERT_FILE names /absent.pem"],
    ["a directory that is not there", { SSL_CERT_DIR: "/absent" }, {}, "SSL_CERT_DIR names /absent"],
    ["a file without a certificate", { SSL_CERT_FILE: "/dev/null" }, {}, "there is no certificate in it"],
    ["an authority that is not there", {}, { caPath: absent }, `caPath of ${host} names /absent.pem`],
    ["a certificate that is not there", {}, { clientCertPath: absent }, `clientCertPath of ${host} names /absent.pem`],
    [
      "a key that is of another certificate",
      {},
      { clientCertPath: certificatePath("client"), clientKeyPath: certificatePath("server.key") },
      `clientCertPath of ${host} names`
    ],
    [
      "a certificate without a key",
      {},
      { clientCertPath: certificatePath("client") },
      `clientCertPath of ${host} names`
    ]
  ] as const)("is not asked in vain: %s is told at once", ([, env, upstream, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Layer.build(layerHttp(env, { upstreams: { [host]: upstream } })))
      assert.strictEqual(error._tag, "RegistryHttpError")
      assert.include(error.message, message)
    })
  )
})

describe("where a registry is", () => {
  it.effect("is what its endpoint says: scheme, host and path", () =>
    Effect.gen(function* () {
      const origin = yield* serve(all)
      const upstreams = { "docker.io": { endpoint: new URL(`${origin.url}/mirror/docker/`) } }
      yield* Effect.andThen(at("docker.io"), at("index.docker.io")).pipe(
        Effect.provide(client(undefined, { upstreams }))
      )
      assert.deepStrictEqual(requestsOf(origin), [`GET /mirror/docker${path}`, `GET /mirror/docker${path}`])
    })
  )

  it.effect("over https on this machine is over https, also when it redirects to itself", () =>
    Effect.gen(function* () {
      const origin = yield* serve(
        (request, response) =>
          request.url === path
            ? reply(response, 307, { location: `http://127.0.0.1:${origin.port}/x` })
            : reply(response, 200, {}, blob),
        serverTls
      )
      const endpoint = new URL(origin.url)
      for (const upstream of [{ endpoint }, { plainHttp: false }]) {
        const options = { upstreams: { [origin.registry]: { ...upstream, caPath: authority } } }
        const error = yield* Effect.flip(at(origin.registry)).pipe(Effect.provide(client(undefined, options)))
        assert.strictEqual(error.reason._tag, "Malformed")
        assert.include(error.message, "redirects from https")
      }
      assert.deepStrictEqual(requestsOf(origin), [`GET ${path}`, `GET ${path}`])
    })
  )
})
