import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Option } from "effect"
import { TestClock } from "effect/testing"
import { knowsDialTimeout, versionIn } from "../../src/doctor/checkRuntime.ts"
import type { Finding } from "../../src/doctor/Finding.ts"
import { cli } from "../cli.ts"
import { selfOf, serve, serveSelf } from "../members/support.ts"

/** A machine on which everything is well, until a test spoils it. */
const machine = Effect.fnUntraced(function* () {
  const fs = yield* FileSystem.FileSystem
  // Servers tell the real time.
  yield* TestClock.setTime(Date.now())
  const root = yield* fs.makeTempDirectoryScoped()
  const health = yield* serve((request, response) => response.writeHead(request.url === "/readyz" ? 200 : 404).end())
  const mirror = yield* serve((_, response) => response.end("{}"))
  const registry = yield* serve((request, response) =>
    request.headers.authorization === `Basic ${Buffer.from("me:s3cret").toString("base64")}`
      ? response.end("{}")
      : response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end()
  )
  const coordination = yield* serve(() => {})
  const peer = yield* serveSelf(() =>
    selfOf(2, { p2p_addrs: [`/ip4/127.0.0.1/tcp/${coordination.address.split(":")[1]}`] })
  )
  const settings: Record<string, unknown> = {
    data_dir: `${root}/data`,
    mirror_listen: mirror.address,
    metrics_listen: health.address,
    store_min_free: "1B",
    members_static: [{ transfer_addr: peer.address }],
    upstream_registries: [
      { name: registry.address, endpoint: `http://${registry.address}`, credentials_path: `${root}/docker.json` }
    ]
  }
  const credentials = (password: string) =>
    fs.writeFileString(
      `${root}/docker.json`,
      JSON.stringify({ auths: { [registry.address]: { username: "me", password } } })
    )
  const containerd = (version: string) =>
    fs.writeFileString(`${root}/containerd`, `#!/bin/sh\necho containerd example.com ${version} abc\n`, { mode: 0o755 })
  const configPath = (path: string) =>
    fs.writeFileString(
      `${root}/config.toml`,
      `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "${path}"\n`
    )
  const write = Effect.suspend(() => fs.writeFileString(`${root}/gantry.yaml`, JSON.stringify(settings)))
  const files = ["--config", `${root}/gantry.yaml`, "--containerd-config", `${root}/config.toml`]
  yield* credentials("s3cret")
  yield* containerd("v2.1.4")
  yield* configPath(`${root}/certs.d`)
  yield* write
  const configured = yield* cli("containerd", "configure", ...files)
  assert.strictEqual(configured.code, 0, configured.stderr)

  const examine = Effect.gen(function* () {
    yield* write
    const { code, stdout } = yield* cli("doctor", ...files, "--containerd", `${root}/containerd`, "--json")
    const report: { problems: number; findings: ReadonlyArray<Finding> } = JSON.parse(stdout)
    assert.strictEqual(code, report.problems > 0 ? 1 : 0)
    return report.findings
  })
  /** What is wrong, each with something to do about it. */
  const problems = Effect.map(examine, (findings) =>
    findings
      .filter(({ verdict }) => verdict === "problem" || verdict === "note")
      .map(({ about, detail, remedy, verdict }) => {
        assert.isString(remedy, `a remedy for ${detail}`)
        return `${verdict} ${about}: ${detail}`.replaceAll(root, "ROOT").replaceAll(/127\.0\.0\.1:\d+/g, "ADDRESS")
      })
  )
  return { root, settings, credentials, containerd, configPath, examine, problems, files }
})

describe("gantry doctor", () => {
  it.effect("finds nothing wrong where nothing is, and tells what it looked at", () =>
    Effect.gen(function* () {
      const { examine, files, root } = yield* machine()
      const findings = yield* examine
      assert.deepStrictEqual(new Set(findings.map(({ verdict }) => verdict)), new Set(["ok"]), JSON.stringify(findings))
      assert.deepStrictEqual(
        [...new Set(findings.map(({ about }) => about))],
        [
          "configuration",
          "containerd config",
          "hosts files",
          "containerd version",
          "mirror",
          "disk",
          "peers",
          "registries",
          "clock"
        ]
      )
      const { code, stdout } = yield* cli("doctor", ...files, "--containerd", `${root}/containerd`)
      assert.strictEqual(code, 0)
      assert.match(stdout, /^ok {6} configuration: .* is valid$/m)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a mirror that does not listen", () =>
    Effect.gen(function* () {
      const { problems, settings } = yield* machine()
      const gone = yield* Effect.scoped(serve(() => {}))
      settings.metrics_listen = gone.address
      assert.deepStrictEqual(yield* problems, [
        "problem mirror: the agent is not ready: http://ADDRESS/readyz cannot be reached: connect ECONNREFUSED ADDRESS"
      ])
      settings.mirror_listen = gone.address
      assert.include(
        (yield* problems).join("\n"),
        "problem mirror: the mirror is not there: http://ADDRESS/v2/ cannot be reached"
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a hosts file that is missing, and one that is not ours", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { problems, root, settings } = yield* machine()
      const [{ name }] = settings.upstream_registries as [{ name: string }]
      const file = `${root}/certs.d/${name}/hosts.toml`
      yield* fs.writeFileString(file, 'server = "https://example.com"\n')
      assert.deepStrictEqual(yield* problems, [
        "problem hosts files: ROOT/certs.d/ADDRESS/hosts.toml does not name http://ADDRESS: ADDRESS is not pulled through the mirror"
      ])
      yield* fs.remove(file)
      assert.deepStrictEqual(yield* problems, [
        "problem hosts files: ROOT/certs.d/ADDRESS/hosts.toml is missing: ADDRESS is not pulled through the mirror"
      ])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a config_path that is a list, and one that is not set", () =>
    Effect.gen(function* () {
      const { configPath, problems, root } = yield* machine()
      yield* configPath(`${root}/certs.d:/etc/docker/certs.d`)
      assert.deepStrictEqual(yield* problems, [
        "problem containerd config: config_path in ROOT/config.toml is a list, ROOT/certs.d:/etc/docker/certs.d: containerd 2.1 and later take it for one directory and use no mirror"
      ])
      yield* configPath("")
      assert.include((yield* problems)[0], "config_path is not set in ROOT/config.toml")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a containerd that cannot be told how long to dial, and one that pulls nothing for Kubernetes", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { containerd, problems, root } = yield* machine()
      yield* containerd("1.6.20")
      const text = yield* fs.readFileString(`${root}/config.toml`)
      yield* fs.writeFileString(`${root}/config.toml`, `disabled_plugins = ["cri"]\n${text}`)
      assert.deepStrictEqual(yield* problems, [
        "problem containerd config: the CRI plugin is disabled in ROOT/config.toml",
        "note containerd version: containerd 1.6.20 knows no dial_timeout: a mirror that cannot be reached may hold up a pull by 30s"
      ])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds peers out of reach, by what of them is", () =>
    Effect.gen(function* () {
      const { problems, settings } = yield* machine()
      const gone = yield* Effect.scoped(serve(() => {}))
      const uncoordinated = yield* serveSelf(() =>
        selfOf(3, { p2p_addrs: [`/ip4/127.0.0.1/tcp/${gone.address.split(":")[1]}`] })
      )
      const stranger = yield* serveSelf(() => undefined)
      settings.members_static = [gone, uncoordinated, stranger].map(({ address }) => ({ transfer_addr: address }))
      assert.deepStrictEqual(
        (yield* problems).map((line) => line.replace(/tcp\/\d+/, "tcp/PORT")),
        [
          "problem peers: ADDRESS: ECONNREFUSED",
          "problem peers: /ip4/127.0.0.1/tcp/PORT: ECONNREFUSED",
          "problem peers: ADDRESS does not say who it is: it answers 404"
        ]
      )
      settings.members_static = []
      assert.deepStrictEqual(yield* problems, ["note peers: no source of members is set: this agent has no peers"])
      settings.members_file = "/nowhere/members.yaml"
      assert.include((yield* problems).join(), "file /nowhere/members.yaml does not list the members")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a full disk", () =>
    Effect.gen(function* () {
      const { problems, settings } = yield* machine()
      settings.store_min_free = "100%"
      const [problem = ""] = yield* problems
      assert.match(
        problem,
        /^problem disk: [\d.]+% of the file system of ROOT\/data is free, and the store leaves 100% \(store_min_free\) free/
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds credentials that are wrong, missing, or no credentials", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { credentials, problems, root } = yield* machine()
      yield* credentials("wrong")
      assert.deepStrictEqual(yield* problems, ["problem registries: http://ADDRESS answers 401"])
      yield* fs.writeFileString(`${root}/docker.json`, "{}")
      assert.deepStrictEqual(yield* problems, [
        "problem registries: http://ADDRESS asks for credentials, and there are none"
      ])
      yield* fs.writeFileString(`${root}/docker.json`, "s3cret")
      const [malformed = ""] = yield* problems
      assert.include(malformed, "ROOT/docker.json")
      assert.notInclude(malformed, "s3cret")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a certificate that it cannot read", () =>
    Effect.gen(function* () {
      const { problems, root, settings } = yield* machine()
      const [upstream] = settings.upstream_registries as [object]
      settings.upstream_registries = [{ ...upstream, ca_path: `${root}/ca.pem` }]
      assert.include((yield* problems).join(), "ROOT/ca.pem")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a clock that is wrong", () =>
    Effect.gen(function* () {
      const { problems } = yield* machine()
      yield* TestClock.setTime(Date.now() + 3_600_000)
      const [problem = ""] = yield* problems
      assert.match(problem, /^problem clock: the clock is (3599|3600|3601)s ahead of that of ADDRESS$/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a configuration that is invalid, and looks no further", () =>
    Effect.gen(function* () {
      const { problems, settings } = yield* machine()
      settings.hrw_k = 0
      assert.deepStrictEqual(yield* problems, [
        "problem configuration: ROOT/gantry.yaml:1 hrw_k: 0, must be a whole number from 1 to 32"
      ])
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("the version of containerd", () => {
  it.each([
    ["containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1", false],
    ["containerd containerd.io v2.0.9 abc", false],
    ["containerd containerd.io v2.0.10 abc", true],
    ["containerd github.com/containerd/containerd/v2 2.1.0 ", true],
    ["containerd containerd.io v3.0.0 abc", true]
  ])("of %j says whether it knows dial_timeout: %s", (text, expected) => {
    assert.deepStrictEqual(Option.map(versionIn(text), knowsDialTimeout), Option.some(expected))
  })
})
