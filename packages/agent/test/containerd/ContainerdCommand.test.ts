import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, FileSystem } from "effect"
import { TestClock } from "effect/testing"
import { parse } from "smol-toml"
import { cli } from "../cli.ts"
import { eventually, serve } from "../members/support.ts"

/** An agent that is ready, or not; by its addresses in a configuration. */
const agent = Effect.fnUntraced(function* (status: () => number) {
  const health = yield* serve((request, response) =>
    response.writeHead(request.url === "/readyz" ? status() : 404).end()
  )
  const mirror = yield* serve((request, response) => response.writeHead(request.url === "/v2/" ? 200 : 404).end("{}"))
  return { mirror: mirror.address, health: health.address }
})

/** A machine with containerd, whose agent mirrors Docker Hub and another registry. */
const machine = Effect.fnUntraced(function* (
  options: { readonly status?: () => number; readonly config?: string } = {}
) {
  const fs = yield* FileSystem.FileSystem
  const root = yield* fs.makeTempDirectoryScoped()
  const { health, mirror } = yield* agent(options.status ?? (() => 200))
  const certs = `${root}/certs.d`
  yield* fs.writeFileString(
    `${root}/gantry.yaml`,
    [
      `mirror_listen: ${mirror}`,
      `metrics_listen: ${health}`,
      "wildcard_registries: true",
      "upstream_registries:",
      "  - {name: docker.io, endpoint: https://registry-1.docker.io}",
      "  - {name: 'registry.example.com:5000', endpoint: 'https://registry.example.com:5000'}"
    ].join("\n")
  )
  const config =
    options.config ?? `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "${certs}"\n`
  yield* fs.writeFileString(`${root}/config.toml`, config)
  const files = ["--containerd-config", `${root}/config.toml`]
  return {
    root,
    certs,
    url: `http://${mirror}`,
    config,
    read: (path: string) => fs.readFileString(`${root}/${path}`),
    configure: (...args: ReadonlyArray<string>) =>
      cli(
        "containerd",
        "configure",
        "--config",
        `${root}/gantry.yaml`,
        ...files,
        ...(args.includes("--wait") ? args : [...args, "--wait", "0"])
      ),
    restore: (...args: ReadonlyArray<string>) => cli("containerd", "restore", ...files, ...args)
  }
})

/** Everything below a directory, and what is in it. */
const snapshot = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const entries = (yield* fs.readDirectory(directory, { recursive: true })).toSorted()
  return yield* Effect.forEach(entries, (entry) =>
    Effect.map(Effect.option(fs.readFileString(`${directory}/${entry}`)), (text) => [entry, text] as const)
  )
})

describe("gantry containerd", () => {
  it.effect("writes a hosts file for each registry and one for all others, once, and takes them away again", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { certs, configure, restore, root, url } = yield* machine()
      yield* fs.makeDirectory(`${certs}/quay.io`, { recursive: true })
      const before = yield* snapshot(root)

      const first = yield* configure()
      assert.strictEqual(first.code, 0, first.stderr)
      assert.deepStrictEqual(first.stdout.trimEnd().split("\n"), [
        `written ${certs}/docker.io/hosts.toml`,
        `written ${certs}/registry.example.com:5000/hosts.toml`,
        `written ${certs}/_default/hosts.toml`
      ])
      const hosts = parse(yield* fs.readFileString(`${certs}/docker.io/hosts.toml`))
      assert.deepEqual(hosts, {
        server: "https://registry-1.docker.io",
        host: { [url]: { capabilities: ["pull", "resolve"], dial_timeout: "200ms" } }
      })
      assert.notProperty(parse(yield* fs.readFileString(`${certs}/_default/hosts.toml`)), "server")
      const { mode } = yield* fs.stat(`${certs}/docker.io/hosts.toml`)
      assert.strictEqual(mode & 0o777, 0o644)

      assert.match((yield* configure()).stdout, /^(unchanged .*\n){3}$/)
      const undone = yield* restore("--json")
      assert.strictEqual(undone.code, 0)
      assert.deepStrictEqual(yield* snapshot(root), before)
      assert.include((yield* restore()).stdout, "nothing of Gantry")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("keeps what others have in their files, links and modes, and gives it back", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { certs, configure, restore, root, url } = yield* machine()
      const foreign =
        '# ours since 2019\nserver = "https://registry-1.docker.io"\n[host."https://proxy.example.com"]\n  client = "a.pem"'
      yield* fs.makeDirectory(`${certs}/docker.io`, { recursive: true })
      yield* fs.writeFileString(`${root}/managed.toml`, foreign, { mode: 0o600 })
      yield* fs.symlink("../../managed.toml", `${certs}/docker.io/hosts.toml`)
      yield* fs.makeDirectory(`${certs}/registry.example.com_5000_`)
      yield* fs.writeFileString(`${certs}/registry.example.com_5000_/corp.crt`, "")

      assert.strictEqual((yield* configure()).code, 0)
      const text = yield* fs.readFileString(`${root}/managed.toml`)
      assert.deepStrictEqual(Object.keys(parse(text).host as object), [url, "https://proxy.example.com"])
      assert.strictEqual(yield* fs.readLink(`${certs}/docker.io/hosts.toml`), "../../managed.toml")
      const { mode } = yield* fs.stat(`${root}/managed.toml`)
      assert.strictEqual(mode & 0o777, 0o600)
      assert.deepInclude(parse(yield* fs.readFileString(`${certs}/registry.example.com_5000_/hosts.toml`)), {
        ca: [`${certs}/registry.example.com_5000_/corp.crt`]
      })

      yield* restore()
      assert.strictEqual(yield* fs.readFileString(`${root}/managed.toml`), foreign)
      assert.deepStrictEqual(yield* fs.readDirectory(`${certs}/registry.example.com_5000_`), ["corp.crt"])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("writes nothing while the agent is not ready, unless it is told to", () =>
    Effect.gen(function* () {
      const { configure, root } = yield* machine({ status: () => 503 })
      const before = yield* snapshot(root)
      const refused = yield* configure()
      assert.strictEqual(refused.code, 1)
      assert.include(refused.stderr, "/readyz answers 503")
      assert.include(refused.stderr, "--unready")
      assert.deepStrictEqual(yield* snapshot(root), before)
      assert.strictEqual((yield* configure("--unready")).code, 0)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("waits for the agent to be ready, as long as it is told to", () =>
    Effect.gen(function* () {
      let status = 503
      const { configure } = yield* machine({ status: () => status })
      const waiting = yield* Effect.forkScoped(configure("--wait", "1m"))
      yield* TestClock.adjust("30 seconds")
      assert.isUndefined(waiting.pollUnsafe())
      status = 200
      yield* eventually(Effect.sync(() => waiting.pollUnsafe() !== undefined))
      assert.strictEqual((yield* Fiber.join(waiting)).code, 0)

      status = 503
      const late = yield* Effect.forkScoped(configure("--wait", "5s"))
      yield* eventually(Effect.sync(() => late.pollUnsafe() !== undefined))
      assert.strictEqual((yield* Fiber.join(late)).code, 1)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("leaves a file alone that it does not understand, writes the others, and fails", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { certs, configure } = yield* machine()
      yield* fs.makeDirectory(`${certs}/docker.io`, { recursive: true })
      yield* fs.writeFileString(`${certs}/docker.io/hosts.toml`, "server = ")
      const { code, stdout } = yield* configure()
      assert.strictEqual(code, 1)
      assert.include(stdout, `refused ${certs}/docker.io/hosts.toml: `)
      assert.include(stdout, `written ${certs}/_default/hosts.toml`)
      assert.strictEqual(yield* fs.readFileString(`${certs}/docker.io/hosts.toml`), "server = ")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("tells what to write where containerd looks for no hosts files, and writes it when told to", () =>
    Effect.gen(function* () {
      const { config, configure, read, restore, root } = yield* machine({ config: "version = 2\n" })
      const own = ["--config-path", `${root}/certs.d`]
      const told = yield* configure(...own)
      assert.strictEqual(told.code, 1)
      assert.include(told.stderr, "config_path is not set")
      assert.include(told.stderr, `config_path = "${root}/certs.d"`)
      assert.strictEqual(yield* read("config.toml"), config)

      const written = yield* configure(...own, "--write-config")
      assert.strictEqual(written.code, 0, written.stderr)
      assert.include(written.stderr, "restart containerd")
      assert.include(yield* read("config.toml"), `config_path = "${root}/certs.d"`)
      assert.match((yield* configure("--write-config")).stdout, /^(unchanged .*\n){3}$/)

      yield* restore()
      assert.strictEqual(yield* read("config.toml"), config)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("names a list of directories, which containerd 2.1 and later cannot read", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { configure, read, restore, root } = yield* machine({
        config: 'imports = ["conf.d/*.toml"]\nversion = 3\n'
      })
      yield* fs.makeDirectory(`${root}/conf.d`)
      const imported = `version = 3\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "${root}/certs.d:/etc/docker/certs.d"\n`
      yield* fs.writeFileString(`${root}/conf.d/registry.toml`, imported)
      const { code, stderr, stdout } = yield* configure()
      assert.strictEqual(code, 1)
      assert.include(stdout, `written ${root}/certs.d/docker.io/hosts.toml`)
      assert.include(stderr, `config_path in ${root}/conf.d/registry.toml is a list`)

      assert.strictEqual((yield* configure("--write-config")).code, 0)
      assert.include(yield* read("conf.d/registry.toml"), `\nconfig_path = "${root}/certs.d"\n`)
      yield* restore()
      assert.strictEqual(yield* read("conf.d/registry.toml"), imported)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
