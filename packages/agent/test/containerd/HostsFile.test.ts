import { assert, describe, it } from "@effect/vitest"
import { Option, Result } from "effect"
import { parse } from "smol-toml"
import * as HostsFile from "../../src/containerd/HostsFile.ts"
import * as MarkedBlock from "../../src/containerd/MarkedBlock.ts"
import * as RuntimeConfig from "../../src/containerd/RuntimeConfig.ts"

const url = "http://127.0.0.1:5000"

const mirror: HostsFile.Mirror = {
  url,
  server: Option.some("https://registry-1.docker.io"),
  certificates: { ca: [], client: [] },
  hasDirectory: true
}

const configured = (text: string | undefined, more: Partial<HostsFile.Mirror> = {}) =>
  HostsFile.configure(Option.fromUndefinedOr(text), { ...mirror, ...more })

const restored = (text: string) => Option.getOrThrow(MarkedBlock.remove(text))

describe("MarkedBlock", () => {
  const block = { lines: ["ours = 1", "", "[ours.too]"], made: [] }

  it("goes into any text at any place, and out again byte for byte", () => {
    const lines = ["", "a = 1", "# >> gantry", "#- b", "[table]", "  c = 2 # <<< gantry?"]
    const texts = lines.flatMap((first) =>
      lines.flatMap((second) =>
        ["\n", "\r\n"].flatMap((end) => [`${first}${end}${second}${end}`, `${first}${end}${second}`, first])
      )
    )
    for (const text of new Set(texts)) {
      const places = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1), text.length]
      for (const [index, from] of places.entries()) {
        for (const to of places.slice(index, index + 2)) {
          const changed = MarkedBlock.insert(text, from, to, block)
          assert.include(changed, "\nours = 1\n")
          assert.strictEqual(restored(changed).text, text, JSON.stringify([text, from, to]))
        }
      }
    }
  })

  it("keeps what others change around it", () => {
    const changed = MarkedBlock.insert("a = 1\nb = 2\n", 6, 6, block)
    assert.strictEqual(restored(`# new\n${changed}c = 3\n`).text, "# new\na = 1\nb = 2\nc = 3\n")
  })

  it("is not found in a text that has only one of its ends", () => {
    const changed = MarkedBlock.insert("a = 1\n", 0, 0, block)
    assert.isTrue(Option.isNone(MarkedBlock.remove(changed.replace("# <<< gantry\n", ""))))
    assert.isTrue(Option.isNone(MarkedBlock.remove(changed.replace(/# >>> .*\n/, ""))))
  })
})

describe("HostsFile", () => {
  it("is made with the mirror before the registry, and a short time to reach it", () => {
    const text = Result.getOrThrow(configured(undefined))
    assert.deepEqual(parse(text), {
      server: "https://registry-1.docker.io",
      host: { [url]: { capabilities: ["pull", "resolve"], dial_timeout: "200ms" } }
    })
    assert.deepStrictEqual(restored(text), { text: "", made: ["file"] })
  })

  it("has no server where it is for all registries", () => {
    const text = Result.getOrThrow(configured(undefined, { server: Option.none(), hasDirectory: false }))
    assert.notProperty(parse(text), "server")
    assert.deepStrictEqual(restored(text).made, ["file", "directory"])
  })

  it("names the certificates that containerd would not find any more by itself", () => {
    const certificates = { ca: ["/c/ca.crt"], client: [["/c/a.cert", "/c/a.key"], ["/c/b.cert"]] as const }
    for (const original of [undefined, "", "# nothing\n"]) {
      const text = Result.getOrThrow(configured(original, { certificates }))
      assert.deepInclude(parse(text), { ca: ["/c/ca.crt"], client: [["/c/a.cert", "/c/a.key"], "/c/b.cert"] })
    }
  })

  const others = {
    "a host behind":
      'server = "https://registry-1.docker.io"\n\n# corporate\n[host."https://mirror.example.com"]\n  capabilities = ["pull"]\n  ca = "corp.pem"\n',
    "keys after an array on several lines":
      'capabilities = [\n  "pull",\n  "resolve"\n]\nskip_verify = true\n[host."https://a.example.com"]\n[host."https://a.example.com".header]\nx = ["y"]\n',
    "a text that looks like a table": 'server = """https://a.example.com\n[host."https://b.example.com"]\n"""\n',
    "keys of the registry alone": 'server = "https://a.example.com"\nca = "/etc/ca.pem"',
    "a table of no host": '[other]\na = 1\n[host."https://a.example.com"]\n',
    "Windows line ends": 'server = "https://a.example.com"\r\n[host."https://b.example.com"]\r\n'
  }
  for (const [name, original] of Object.entries(others)) {
    it(`keeps ${name}, and is restored byte for byte`, () => {
      const text = Result.getOrThrow(configured(original))
      const { host, ...rest } = parse(text) as { host: Record<string, unknown> }
      const { host: formerHosts = {}, ...former } = parse(original) as { host?: Record<string, unknown> }
      assert.deepStrictEqual(Object.keys(host), [url, ...Object.keys(formerHosts)])
      assert.deepEqual(rest, former)
      assert.strictEqual(restored(text).text, original)
      assert.deepStrictEqual(configured(text), Result.succeed(text), "a second time")
    })
  }

  it("follows the address of the mirror", () => {
    const original = others["a host behind"]
    const moved = configured(Result.getOrThrow(configured(original)), { url: "http://127.0.0.1:6000" })
    assert.notInclude(Result.getOrThrow(moved), url)
    assert.strictEqual(restored(Result.getOrThrow(moved)).text, original)
    const made = configured(Result.getOrThrow(configured(undefined)), { url: "http://127.0.0.1:6000" })
    assert.deepStrictEqual(restored(Result.getOrThrow(made)), { text: "", made: ["file"] })
  })

  it("stays its own with what others add to it", () => {
    const added = `${Result.getOrThrow(configured(undefined))}[host."https://a.example.com"]\n`
    assert.deepStrictEqual(configured(added), Result.succeed(added))
    assert.deepStrictEqual(restored(added), { text: '[host."https://a.example.com"]\n', made: ["file"] })
  })

  it("leaves the registry where others say that it is", () => {
    const moved = Result.getOrThrow(configured(undefined)).replace(/server = .*\n\n/, "")
    const text = Result.getOrThrow(configured(`server = "https://other.example.com"\n${moved}`))
    assert.strictEqual(parse(text).server, "https://other.example.com")
  })

  it.each([
    ["is no TOML", "server = ", /./],
    ["has the mirror already", `[host."${url}"]\n`, /of its own/],
    ["has a host that would come first", 'host."https://a.example.com".capabilities = ["pull"]\n', /no room/],
    ["has its hosts in one line", 'host = {"https://a.example.com" = {}}\n', /no room/]
  ] as const)("is left alone when it %s", (_, original, reason) => {
    const result = configured(original)
    assert.isTrue(Result.isFailure(result))
    assert.match(Result.isFailure(result) ? result.failure : "", reason)
  })

  it("is known for ours by its mark and its mirror", () => {
    const text = Result.getOrThrow(configured(undefined))
    assert.isTrue(HostsFile.isConfigured(text, url))
    assert.isFalse(HostsFile.isConfigured(text, "http://127.0.0.1:6000"))
    assert.isFalse(HostsFile.isConfigured(`[host."${url}"]\n`, url))
  })
})

describe("containerd's config_path", () => {
  const set = (text: string | undefined) =>
    RuntimeConfig.setConfigPath(Option.fromUndefinedOr(text), "/etc/containerd/certs.d")
  const pathIn = (text: string) => {
    const { plugins } = parse(text) as { plugins: Record<string, { registry?: { config_path?: string } }> }
    return Object.values(plugins).map(({ registry }) => registry?.config_path)
  }
  const cri = '[plugins."io.containerd.grpc.v1.cri"'
  const originals = {
    "Debian's configuration": `version = 2\n\n[plugins]\n  ${cri}]\n    ${cri}.cni]\n      bin_dir = "/usr/lib/cni"\n`,
    "an empty path": `version = 2\n${cri}.registry]\n  config_path = ""\n  [plugins."io.containerd.grpc.v1.cri".registry.headers]\n`,
    "a list": `version = 2\n${cri}.registry]\n  config_path = "/etc/containerd/certs.d:/etc/docker/certs.d" # both`,
    "version 3": "version = 3\n[plugins.'io.containerd.cri.v1.images']\n  snapshotter = 'overlayfs'\n",
    "a registry without a path": `version = 2\n${cri}.registry]\n${cri}.registry.headers]\nx = ["y"]\n`,
    "another plugin's path": `version = 2\n[plugins."io.containerd.transfer.v1.local"]\n  config_path = ""\n`,
    "the first version": '[plugins.cri]\n  stream_server_port = "0"\n',
    nothing: "",
    comments: "# nothing yet"
  }
  for (const [name, original] of Object.entries(originals)) {
    it(`is set in ${name}, and restored byte for byte`, () => {
      const text = Result.getOrThrow(set(original))
      assert.include(pathIn(text), "/etc/containerd/certs.d")
      assert.strictEqual(restored(text).text, original)
      assert.deepStrictEqual(set(text), Result.succeed(text), "a second time")
    })
  }

  it("is set in a configuration of its own where there is none", () => {
    const text = Result.getOrThrow(set(undefined))
    assert.deepEqual(parse(text).version, 2)
    assert.deepStrictEqual(restored(text), { text: "", made: ["file"] })
  })

  it.each([
    ["mirrors of the old form", `version = 2\n${cri}.registry.mirrors."docker.io"]\nendpoint = ["https://x"]\n`],
    ["certificates of the old form", `version = 2\n${cri}.registry.configs."docker.io".tls]\nca_file = "/ca"\n`]
  ])("is not set beside %s, which containerd refuses", (_, original) => {
    assert.isTrue(Result.isFailure(set(original)))
  })
})
