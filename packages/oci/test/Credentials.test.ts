import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Registry } from "@gantry/protocol"
import { ConfigProvider, Effect, FileSystem, Layer, Logger, Option, Path, Redacted } from "effect"
import { TestClock } from "effect/testing"
import * as Credentials from "../src/Credentials.ts"

/** The credential for a registry, its secrets in the open. */
const get = Effect.fnUntraced(function* (registry: string) {
  const credentials = yield* Credentials.Credentials
  return Option.getOrNull(
    Option.map(yield* credentials.get(Registry.make(registry)), (credential) =>
      credential._tag === "Basic"
        ? `${credential.username}:${Redacted.value(credential.password)}`
        : `token ${Redacted.value(credential.token)}`
    )
  )
})

/** A directory of the test's own, with a config of the given text. */
const directoryWith = Effect.fnUntraced(function* (text?: string) {
  const files = yield* FileSystem.FileSystem
  const directory = yield* files.makeTempDirectoryScoped()
  if (text !== undefined) yield* files.writeFileString(`${directory}/config.json`, text)
  return directory
})

const fileWith = (config: unknown) =>
  Effect.map(
    directoryWith(typeof config === "string" ? config : JSON.stringify(config)),
    (directory) => `${directory}/config.json`
  )

/** Runs with the credentials of a config. */
const withConfig =
  (config: unknown) =>
  <A, E>(effect: Effect.Effect<A, E, Credentials.Credentials>) =>
    Effect.flatMap(fileWith(config), (path) => Effect.provide(effect, Credentials.layerFile(path)))

const base64 = (text: string) => Buffer.from(text).toString("base64")

describe("Credentials", () => {
  it.effect.each([
    ["a base64 auth", { auth: base64("me:se:cret") }, "me:se:cret"],
    ["a name and a password", { username: "me", password: "secret" }, "me:secret"],
    ["auth before a name and a password", { auth: base64("me:secret"), username: "you", password: "x" }, "me:secret"],
    ["an empty password", { auth: base64("me:") }, "me:"],
    ["an identity token", { auth: base64("<token>:"), identitytoken: "refresh" }, "token refresh"],
    ["nothing for an empty entry", {}, null],
    ["nothing for an entry of nulls", { auth: null, identitytoken: null }, null],
    ["nothing for an empty auth", { auth: "" }, null]
  ] as const)("reads %s", ([, entry, expected]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* get("registry.example.com:5000"), expected)
      assert.strictEqual(yield* get("registry.example.com"), null)
    }).pipe(withConfig({ auths: { "registry.example.com:5000": entry } }), Effect.provide(NodeServices.layer))
  )

  it.effect.each([
    ["https://index.docker.io/v1/", "docker.io"],
    ["https://index.docker.io/v1/", "registry-1.docker.io"],
    ["docker.io", "index.docker.io"],
    ["https://registry.example.com", "registry.example.com"],
    ["http://registry.example.com/v2/", "registry.example.com"],
    ["registry.example.com/team/app", "registry.example.com"],
    ["Registry.Example.com", "registry.example.com"],
    ["registry.example.com", "REGISTRY.example.COM"]
  ] as const)("takes the key %s for the registry %s", ([key, registry]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* get(registry), "me:secret")
      assert.strictEqual(yield* get("other.example.com"), null)
    }).pipe(
      withConfig({ auths: { "third.example.com": { username: "x" }, [key]: { auth: base64("me:secret") } } }),
      Effect.provide(NodeServices.layer)
    )
  )

  it.effect("prefers the bare key of a registry, then the first", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* get("a.example.com"), "bare:")
      assert.strictEqual(yield* get("docker.io"), "first:")
    }).pipe(
      withConfig({
        auths: {
          "https://a.example.com/v1/": { username: "path" },
          "a.example.com": { username: "bare" },
          "https://a.example.com/v2/": { username: "path" },
          "https://index.docker.io/v1/": { username: "first" },
          "https://index.docker.io/v1/access-token": { username: "second" }
        }
      }),
      Effect.provide(NodeServices.layer)
    )
  )

  it.effect("keeps secrets out of what is printed", () =>
    Effect.gen(function* () {
      const credentials = yield* Credentials.Credentials
      for (const registry of ["a.example.com", "b.example.com"]) {
        const credential = yield* credentials.get(Registry.make(registry))
        assert.notInclude(JSON.stringify(credential) + String(credential), "secret")
      }
    }).pipe(
      withConfig({
        auths: { "a.example.com": { auth: base64("me:secret") }, "b.example.com": { identitytoken: "secret" } }
      }),
      Effect.provide(NodeServices.layer)
    )
  )

  it.effect.each([
    ["no JSON", '{"auths": {"a": {"auth": "c2VjcmV0"', /config\.json: it is not a docker config\.json$/],
    ["another shape", { auths: { a: { auth: 42 } } }, /config\.json: it is not a docker config\.json$/],
    ["an auth that is not base64", { auths: { a: { auth: "s3cret!" } } }, /entry of a: `auth` is not the base64/],
    ["an auth without a colon", { auths: { a: { auth: "c2VjcmV0" } } }, /entry of a: `auth` is not the base64/]
  ] as const)("refuses %s, and does not repeat what is in it", ([, config, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(get("a").pipe(withConfig(config)))
      assert.instanceOf(error, Credentials.CredentialsError)
      assert.strictEqual(error.reason, "Malformed")
      assert.match(error.message, message)
      assert.notMatch(error.message, /c2VjcmV0|s3cret|42/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("fails for a named file that is absent or no file", () =>
    Effect.gen(function* () {
      const directory = yield* directoryWith()
      for (const path of [`${directory}/config.json`, directory]) {
        const error = yield* Effect.flip(Layer.build(Credentials.layerFile(path)))
        assert.strictEqual(error.reason, "Unreadable")
        assert.include(error.message, path)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("follows a file that changes while the node runs, 10 seconds late at most", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const path = yield* fileWith({ auths: { a: { username: "old" } } })
      const credentials = yield* Layer.build(Credentials.layerFile(path))
      const current = Effect.provide(get("a"), credentials)
      assert.strictEqual(yield* current, "old:")
      yield* files.writeFileString(path, JSON.stringify({ auths: { a: { username: "new" } } }))
      assert.strictEqual(yield* current, "old:")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* current, "new:")
      yield* files.writeFileString(path, "{")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Effect.flip(current)).reason, "Malformed")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("warns of registries that are left to a credential helper, and of no others", () =>
    Effect.gen(function* () {
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => void warnings.push(String(message)))
      yield* get("a").pipe(
        withConfig({
          auths: { "https://index.docker.io/v1/": {}, "inline.example.com": { username: "me" } },
          credHelpers: { "1234.dkr.ecr.example.com": "ecr-login", "inline.example.com": "pass" },
          credsStore: "desktop"
        }),
        Effect.provide(Logger.layer([logger]))
      )
      assert.strictEqual(warnings.length, 2)
      assert.match(warnings[0] ?? "", /https:\/\/index\.docker\.io\/v1\/ to the helper desktop/)
      assert.match(warnings[1] ?? "", /1234\.dkr\.ecr\.example\.com to the helper ecr-login/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  const environment = (env: Record<string, string>) =>
    Effect.provide(Layer.provide(Credentials.layer, ConfigProvider.layer(ConfigProvider.fromEnv({ env }))), {
      local: true
    })

  it.effect("finds docker's own file by the environment, and does without", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const configured = yield* directoryWith(JSON.stringify({ auths: { a: { username: "configured" } } }))
      const home = yield* directoryWith()
      yield* files.makeDirectory(path.join(home, ".docker"))
      yield* files.writeFileString(path.join(home, ".docker/config.json"), '{"auths":{"a":{"username":"home"}}}')
      const empty = yield* directoryWith()
      const whose = (env: Record<string, string>) => get("a").pipe(environment(env))

      assert.strictEqual(yield* whose({ DOCKER_CONFIG: configured, HOME: home }), "configured:")
      assert.strictEqual(yield* whose({ DOCKER_CONFIG: "", HOME: home }), "home:")
      assert.strictEqual(yield* whose({ USERPROFILE: home }), "home:")
      assert.strictEqual(yield* whose({ DOCKER_CONFIG: empty, HOME: home }), null)
      assert.strictEqual(yield* whose({ HOME: empty }), null)
      assert.strictEqual(yield* whose({}), null)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("fails if docker's own file is there and cannot be used", () =>
    Effect.gen(function* () {
      const directory = yield* directoryWith("{")
      const error = yield* Effect.flip(get("a").pipe(environment({ DOCKER_CONFIG: directory })))
      assert.include(error.message, `${directory}/config.json`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("knows nobody by its empty layer, and whom it is told by its memory layer", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Effect.provide(get("docker.io"), Credentials.layerNone), null)
      const password = Redacted.make("secret")
      const layer = Credentials.layerMemory({
        "https://index.docker.io/v1/": Credentials.Credential.Basic({ username: "me", password })
      })
      assert.strictEqual(yield* Effect.provide(get("docker.io"), layer), "me:secret")
    })
  )
})
