import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Registry, Repository } from "@gantry/protocol"
import { ConfigProvider, Effect, Fiber, FileSystem, Layer, Logger, Option, Path, Redacted } from "effect"
import { TestClock } from "effect/testing"
import * as Credentials from "../src/Credentials.ts"

/** The credential for a registry, its secrets in the open. */
const get = Effect.fnUntraced(function* (registry: string, repository = "team/app") {
  const credentials = yield* Credentials.Credentials
  return Option.getOrNull(
    Option.map(yield* credentials.get(Registry.make(registry), Repository.make(repository)), (credential) =>
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
  <A, E, R>(effect: Effect.Effect<A, E, R>, options?: Credentials.Options) =>
    Effect.flatMap(fileWith(config), (path) => Effect.provide(effect, Credentials.layerFile(path, options)))

/** What is logged. */
const listen = () => {
  const warnings: Array<string> = []
  return { warnings, logger: Logger.make(({ message }) => void warnings.push(String(message))) }
}

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
    ["nothing for an empty auth", { auth: "" }, null],
    ["nothing for null", null, null],
    ["a base64 without its padding", { auth: base64("me:secret!").replace(/=+$/, "") }, "me:secret!"],
    ["a base64 broken into lines", { auth: ` ${base64("me:se:cret").replace(/(.{5})/g, "$1\n")}\r\n` }, "me:se:cret"],
    [
      "a base64 of the other alphabet",
      { auth: base64("me:<<???>>").replaceAll("+", "-").replaceAll("/", "_") },
      "me:<<???>>"
    ],
    ["a base64 of what echo prints", { auth: base64("me:secret\n") }, "me:secret"],
    ["a base64 that docker has padded", { auth: base64("me:secret\0\0") }, "me:secret"],
    ["a name and a password beside a broken auth", { auth: "s3cret!", username: "me", password: "x" }, "me:x"],
    ["an identity token beside a broken auth", { auth: 42, identitytoken: "refresh" }, "token refresh"],
    ["a name beside a password of another type", { username: "me", password: 42 }, "me:"]
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
    ["registry.example.com/team/", "registry.example.com"],
    ["https://registry.example.com/v1/team", "registry.example.com"],
    ["*.example.com", "registry.example.com"],
    ["reg*.example.*", "registry.example.com"],
    ["Registry.Example.com", "registry.example.com"],
    ["registry.example.com", "REGISTRY.example.COM"]
  ] as const)("takes the key %s for the registry %s", ([key, registry]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* get(registry), "me:secret")
      assert.strictEqual(yield* get("registry.example.org.test"), null)
      assert.strictEqual(yield* get("sub.registry.example.com"), null)
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

  it.effect("takes the key with the longest path that a repository is under, and none that it is not under", () =>
    Effect.gen(function* () {
      const host = "registry.example.com"
      for (const [repository, expected] of [
        ["team/app", "app:"],
        ["team/app/sub", "app:"],
        ["team/apple", "team:"],
        ["team", "team:"],
        ["teams/app", "host:"],
        ["library/nginx", "host:"]
      ] as const) {
        assert.strictEqual(yield* get(host, repository), expected)
      }
      assert.strictEqual(yield* get("only.example.com", "team/app"), "only:")
      assert.strictEqual(yield* get("only.example.com", "other/app"), "any:")
      assert.strictEqual(yield* get("only.example.org", "other/app"), null)
    }).pipe(
      withConfig({
        auths: {
          "*.example.com": { username: "any" },
          "registry.example.com/team/app": { username: "app" },
          "registry.example.com": { username: "host" },
          "registry.example.com/team": { username: "team" },
          "only.example.com/team": { username: "only" },
          "only.example.org/team": { username: "only" }
        }
      }),
      Effect.provide(NodeServices.layer)
    )
  )

  it.effect("keeps secrets out of what is printed", () =>
    Effect.gen(function* () {
      const credentials = yield* Credentials.Credentials
      for (const registry of ["a.example.com", "b.example.com"]) {
        const credential = yield* credentials.get(Registry.make(registry), Repository.make("team/app"))
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
    ["another document", "[1]", /config\.json: it is not a docker config\.json$/],
    ["an auth of another type", { auths: { a: { auth: 42 } } }, /entry of a: `auth` is not the base64/],
    ["an auth that is not base64", { auths: { a: { auth: "s3cret!" } } }, /entry of a: `auth` is not the base64/],
    ["an auth without a colon", { auths: { a: { auth: "c2VjcmV0" } } }, /entry of a: `auth` is not the base64/],
    ["an entry of another type", { auths: { a: "c2VjcmV0" } }, /entry of a: it is no object/]
  ] as const)("refuses %s, and does not repeat what is in it", ([, config, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(get("a").pipe(withConfig(config)))
      assert.instanceOf(error, Credentials.CredentialsError)
      assert.strictEqual(error.reason._tag, "Malformed")
      assert.match(error.message, message)
      assert.notMatch(error.message, /c2VjcmV0|s3cret|42/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect.each([
    ["no bytes", ""],
    ["blanks", " \n"],
    ["nothing in it", "{}"],
    ["nulls", '{"auths":null,"credHelpers":null,"credsStore":null}'],
    ["things of other types in it", '{"auths":[],"credHelpers":"x","credsStore":{}}']
  ] as const)("knows nobody by a file of %s", ([, config]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* get("a"), null)
    }).pipe(withConfig(config), Effect.provide(NodeServices.layer))
  )

  it.effect("reads a file that begins with a mark of its byte order", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* get("a"), "me:")
    }).pipe(withConfig('\uFEFF{"auths":{"a":{"username":"me"}}}'), Effect.provide(NodeServices.layer))
  )

  it.effect("passes over what is wrong with other registries, and says so once", () =>
    Effect.gen(function* () {
      const { logger, warnings } = listen()
      const config = {
        auths: { a: { auth: "s3cret!" }, b: { username: "me" }, "b/team": "x" },
        credHelpers: { c: 42 }
      }
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* get("b", "other/app"), "me:")
        yield* TestClock.adjust("1 minutes")
        assert.strictEqual(yield* get("c"), null)
        assert.include((yield* Effect.flip(get("b"))).message, "the entry of b: it is no object")
      }).pipe(withConfig(config), Effect.provide(Logger.layer([logger])))
      assert.strictEqual(warnings.length, 2)
      assert.match(warnings[0] ?? "", /the entry of a is passed over/)
      assert.match(warnings[1] ?? "", /the entry of b\/team is passed over/)
      assert.notInclude(warnings.join(), "s3cret")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("fails for a named file that is absent or no file", () =>
    Effect.gen(function* () {
      const directory = yield* directoryWith()
      for (const path of [`${directory}/config.json`, directory]) {
        const error = yield* Effect.flip(Layer.build(Credentials.layerFile(path)))
        assert.instanceOf(error, Credentials.CredentialsError)
        assert.strictEqual(error.reason._tag, "Unreadable")
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
      assert.strictEqual((yield* Effect.flip(current)).reason._tag, "Malformed")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("warns of registries that are left to a credential helper, and of no others", () =>
    Effect.gen(function* () {
      const { logger, warnings } = listen()
      yield* get("a").pipe(
        withConfig({
          auths: { "https://index.docker.io/v1/": {}, "inline.example.com": { username: "me" } },
          credHelpers: { "1234.dkr.ecr.example.com": "ecr-login", "inline.example.com": "pass" },
          credsStore: "desktop"
        }),
        Effect.provide(Logger.layer([logger]))
      )
      assert.strictEqual(warnings.length, 2)
      assert.match(warnings[0] ?? "", /docker\.io to the helper desktop/)
      assert.match(warnings[1] ?? "", /1234\.dkr\.ecr\.example\.com to the helper ecr-login/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  const environment = (env: Record<string, string>) =>
    Effect.provide(Layer.provide(Credentials.layer(), ConfigProvider.layer(ConfigProvider.fromEnv({ env }))), {
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

describe("a credential helper", () => {
  /** Puts a helper on the path of this process that runs the given lines of a shell. */
  const helper = Effect.fnUntraced(function* (lines: string) {
    const files = yield* FileSystem.FileSystem
    const directory = yield* files.makeTempDirectoryScoped()
    const asked = `${directory}/asked`
    const name = `test-${directory.replace(/.*[^A-Za-z0-9]/, "").toLowerCase()}`
    yield* files.writeFileString(
      `${directory}/docker-credential-${name}`,
      `#!/bin/sh\nserver=$(cat)\necho "$1 $server" >>${asked}\n${lines}\n`,
      { mode: 0o755 }
    )
    const before = process.env.PATH
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        process.env.PATH = `${directory}:${before}`
      }),
      () =>
        Effect.sync(() => {
          process.env.PATH = before
        })
    )
    const questions = Effect.map(
      Effect.orElseSucceed(files.readFileString(asked), () => ""),
      (text) => text.split("\n").filter((line) => line !== "")
    )
    return { name, questions }
  })

  const answer = (username: string) => `echo '{"ServerURL":"x","Username":"${username}","Secret":"secret"}'`

  it.effect("that is named for a registry is asked for it, before the file, and at most once a minute", () =>
    Effect.gen(function* () {
      const { name, questions } = yield* helper(answer("me"))
      const config = { auths: { "a.example.com": { username: "file" } }, credHelpers: { "a.example.com": name } }
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* get("a.example.com"), "me:secret")
        assert.strictEqual(yield* get("a.example.com"), "me:secret")
        assert.strictEqual(yield* get("b.example.com"), null)
        assert.deepStrictEqual(yield* questions, ["get a.example.com"])
        yield* TestClock.adjust("1 minutes")
        yield* get("a.example.com")
        assert.strictEqual((yield* questions).length, 2)
      }).pipe((effect) => withConfig(config)(effect, { helpers: [name] }))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("that keeps all credentials is asked for what the file does not have", () =>
    Effect.gen(function* () {
      const { name, questions } = yield* helper(answer("me"))
      const config = { auths: { "a.example.com": { username: "file" }, "b.example.com": {} }, credsStore: name }
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* get("a.example.com"), "file:")
        assert.strictEqual(yield* get("b.example.com"), "me:secret")
        assert.strictEqual(yield* get("docker.io"), "me:secret")
      }).pipe((effect) => withConfig(config)(effect, { helpers: "any" }))
      assert.deepStrictEqual(yield* questions, ["get b.example.com", "get https://index.docker.io/v1/"])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("may keep a token", () =>
    Effect.gen(function* () {
      const { name } = yield* helper(answer("<token>"))
      assert.strictEqual(
        yield* withConfig({ credsStore: name })(get("a.example.com"), { helpers: [name] }),
        "token secret"
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("that has nothing leaves the registry to the file", () =>
    Effect.gen(function* () {
      const { name } = yield* helper('echo "credentials not found in native keychain"; exit 1')
      const config = {
        auths: { "a.example.com": { username: "file" } },
        credHelpers: { "a.example.com": name, "b.example.com": name }
      }
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* get("a.example.com"), "file:")
        assert.strictEqual(yield* get("b.example.com"), null)
      }).pipe((effect) => withConfig(config)(effect, { helpers: [name] }))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("that nobody allowed is not run, and warned of", () =>
    Effect.gen(function* () {
      const { logger, warnings } = listen()
      const { name, questions } = yield* helper(answer("me"))
      const config = { credHelpers: { "a.example.com": name } }
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* get("a.example.com"), null)
      }).pipe((effect) => withConfig(config)(effect, { helpers: ["other"] }), Effect.provide(Logger.layer([logger])))
      assert.deepStrictEqual(yield* questions, [])
      assert.match(warnings.join(), /a\.example\.com to the helper test-.*, which is not run/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect.each([
    ["fails", "echo secret; exit 3", "it ended with 3 for a.example.com"],
    ["says something else", "echo secret", "it answered nothing that is readable for a.example.com"],
    ["says too much", "exec yes secret", "it says more than 65536 bytes"]
  ] as const)("that %s is this registry's failure, and what it said is not repeated", ([, lines, detail]) =>
    Effect.gen(function* () {
      const { name } = yield* helper(lines)
      const config = { auths: { "b.example.com": { username: "file" } }, credHelpers: { "a.example.com": name } }
      yield* Effect.gen(function* () {
        const error = yield* Effect.flip(get("a.example.com"))
        assert.strictEqual(error.reason._tag, "HelperFailed")
        assert.include(error.message, `docker-credential-${name}: ${detail}`)
        assert.notInclude(error.message, "secret")
        assert.strictEqual(yield* get("b.example.com"), "file:")
      }).pipe((effect) => withConfig(config)(effect, { helpers: [name] }))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect.each([
    ["is not installed", "gantry-absent", "it does not start"],
    ["has the name of a file elsewhere", "../../bin/sh", "it has a name that no program has"]
  ] as const)("that %s is this registry's failure", ([, name, detail]) =>
    Effect.gen(function* () {
      const config = { credHelpers: { "a.example.com": name } }
      const error = yield* Effect.flip(withConfig(config)(get("a.example.com"), { helpers: "any" }))
      assert.include(String(error), detail)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("that does not answer is ended after 10 seconds", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const pipe = `${yield* files.makeTempDirectoryScoped()}/pipe`
      const { name, questions } = yield* helper(`mkfifo ${pipe}; read line <${pipe}`)
      const config = { credHelpers: { "a.example.com": name } }
      yield* Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.flip(get("a.example.com")), { startImmediately: true })
        while ((yield* questions).length === 0) yield* Effect.promise(() => new Promise(setImmediate))
        yield* TestClock.adjust("9999 millis")
        assert.strictEqual(fiber.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 millis")
        yield* TestClock.adjust("1 seconds")
        assert.include((yield* Fiber.join(fiber)).message, "it did not answer within 10s")
      }).pipe((effect) => withConfig(config)(effect, { helpers: [name] }))
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
