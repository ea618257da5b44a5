import { hostname } from "node:os"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Schema } from "effect"
import { Host } from "effect/net"
import { jsonSchema } from "../../src/config/ConfigCommand.ts"
import * as Configuration from "../../src/config/Configuration.ts"
import { formatOrigin, formatProblem } from "../../src/config/Problem.ts"
import { factsOf, keys, Settings } from "../../src/config/Settings.ts"
import * as Units from "../../src/config/Units.ts"
import { load, minimal, sourcesOf, writeConfig } from "./support.ts"

const messageOf = Effect.fnUntraced(function* (...[text, more]: Parameters<typeof load>) {
  return (yield* Effect.flip(load(text, more))).message
})

describe("Configuration", () => {
  it.effect("takes defaults, the file over them, the environment over the file, and flags over all", () =>
    Effect.gen(function* () {
      const path = yield* writeConfig(`${minimal}tags_ttl: 1s\nhrw_k: 4\nprefetch: false\n`)
      const { originOf, settings } = yield* Configuration.load(
        sourcesOf(path, { environment: { GANTRY_TAGS_TTL: "2s", GANTRY_HRW_K: "5" }, flags: { tags_ttl: "3s" } })
      )
      assert.deepStrictEqual(Duration.toSeconds(settings.tags_ttl), 3)
      assert.deepStrictEqual(settings.hrw_k, 5)
      assert.isFalse(settings.prefetch)
      assert.isTrue(Option.isNone(settings.limit_up))
      assert.deepStrictEqual(
        (["tags_ttl", "hrw_k", "prefetch", "limit_up"] as const).map((key) => formatOrigin(originOf(key))),
        ["--tags-ttl", "GANTRY_HRW_K", `${path}:4`, "default"]
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("has the defaults of the page", () =>
    Effect.gen(function* () {
      const { settings } = yield* load(minimal)
      const written: Record<string, unknown> = yield* Schema.encodeEffect(Settings)(settings)
      assert.strictEqual(settings.node_name, hostname())
      assert.strictEqual(Host.formatHostPort(settings.mirror_listen), "127.0.0.1:5000")
      for (const key of keys) {
        const { byDefault } = factsOf(key)
        if (key === "upstream_registries" || key === "node_name" || byDefault === undefined) continue
        assert.deepStrictEqual(written[key], byDefault, key)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("reads JSON as well, and a key without a value as one that is not there", () =>
    Effect.gen(function* () {
      const { settings } = yield* load('{"wildcard_registries": true, "zone": null, "tags_ttl": "5s"}')
      assert.isTrue(settings.wildcard_registries)
      assert.isTrue(Option.isNone(settings.zone))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("says where in the environment and the flags something is wrong", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* messageOf(`${minimal}hrw_k: 99\n`, {
          environment: { GANTRY_LOG_LEVEL: "loud", GANTRY_TAGS_TLL: "5s", GANTRY_IMAGE_ALLOW: ".*" },
          flags: { tags_ttl: "soon" }
        }).pipe(Effect.map((message) => message.replace(/^.*config.yaml/, "config.yaml"))),
        [
          "config.yaml:2 hrw_k: 99, must be a whole number from 1 to 32",
          "GANTRY_TAGS_TLL tags_tll: unknown key, did you mean tags_ttl?",
          "GANTRY_IMAGE_ALLOW image_allow: a list, must be set in the file",
          "--tags-ttl tags_ttl: soon, must be a duration such as 90s",
          "GANTRY_LOG_LEVEL log_level: loud, must be one of debug, info, warn, error"
        ].join("\n")
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("asks for no registry where the file cannot be taken apart", () =>
    Effect.gen(function* () {
      const message = yield* messageOf("upstream_registries: {", { environment: { GANTRY_HRW_K: "0" } })
      assert.notInclude(message, "must name a registry")
      assert.include(message, "GANTRY_HRW_K hrw_k: 0")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("leaves alone what Kubernetes sets for a service of its name, and empty variables", () =>
    Effect.gen(function* () {
      const environment = {
        GANTRY_SERVICE_HOST: "10.96.0.7",
        GANTRY_SERVICE_PORT: "5000",
        GANTRY_SERVICE_PORT_MIRROR: "5000",
        GANTRY_PORT: "tcp://10.96.0.7:5000",
        GANTRY_PORT_5000_TCP: "tcp://10.96.0.7:5000",
        GANTRY_PORT_5000_TCP_ADDR: "10.96.0.7",
        GANTRY_METRICS_SERVICE_HOST: "10.96.0.8",
        GANTRY_ZONE: ""
      }
      const { settings } = yield* load(minimal, { environment })
      assert.isTrue(Option.isNone(settings.zone))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("warns once of all keys that mean something to the Go agent alone", () =>
    Effect.gen(function* () {
      const text = `${minimal}nf5_jitter_base: 3s\nchair_count: 5\nrendezvous: {slot_count: 64}\n`
      const { warnings } = yield* load(text, { environment: { GANTRY_DHT_PROTOCOL_PREFIX: "/x" } })
      assert.deepStrictEqual(
        warnings.map((warning) => formatProblem(warning).replace(/^.*config.yaml/, "config.yaml")),
        [
          "config.yaml:2 nf5_jitter_base, chair_count, rendezvous, dht_protocol_prefix: of another agent, without effect here"
        ]
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("fails for a file that was asked for and is not there", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Configuration.load(sourcesOf("/nowhere/config.yaml")))
      assert.include(error.message, "/nowhere/config.yaml")
      assert.lengthOf(error.problems, 1)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("Units", () => {
  it.effect.each([
    ["90s", 90_000],
    ["1m30s", 90_000],
    ["1.5h", 5_400_000],
    ["500ms", 500],
    ["2d", 172_800_000],
    [0, 0],
    ["0", 0]
  ] as const)("reads the duration %s", ([text, millis]) =>
    Effect.gen(function* () {
      const time = yield* Schema.decodeEffect(Units.Time)(text)
      assert.strictEqual(Duration.toMillis(time), millis)
      const again = yield* Schema.decodeEffect(Units.Time)(Units.formatTime(time))
      assert.strictEqual(Duration.toMillis(again), millis)
    })
  )

  it.effect.each([
    ["200MB/s", Option.some(200_000_000)],
    ["1MiB/s", Option.some(1_048_576)],
    [0, Option.none()]
  ] as const)("reads the rate %s and writes it again", ([text, rate]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Schema.decodeEffect(Units.Rate)(text), rate)
      assert.strictEqual(yield* Schema.encodeEffect(Units.Rate)(rate), text)
    })
  )

  it.effect.each([
    ["20%", { _tag: "Share", fraction: 0.2 }],
    ["7%", { _tag: "Share", fraction: 0.07 }],
    ["64GiB", { _tag: "Bytes", bytes: 64 * 1024 ** 3 }],
    [0, { _tag: "Unlimited" }]
  ] as const)("reads the space %s and writes it again", ([text, space]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Schema.decodeEffect(Units.SpaceLimit)(text), space)
      assert.strictEqual(yield* Schema.encodeEffect(Units.SpaceLimit)(space), text)
    })
  )
})

describe("the JSON Schema", () => {
  const schema = jsonSchema() as {
    readonly additionalProperties: boolean
    readonly required?: unknown
    readonly properties: Readonly<Record<string, { readonly description?: string; readonly default?: unknown }>>
  }

  it("names every key with its reason and its default, and no other", () => {
    assert.deepStrictEqual(Object.keys(schema.properties), [...keys])
    assert.isFalse(schema.additionalProperties)
    assert.isUndefined(schema.required)
    for (const key of keys) {
      const { byDefault, reason } = factsOf(key)
      assert.notStrictEqual(reason, "", key)
      assert.include(schema.properties[key]?.description ?? "", reason)
      assert.deepStrictEqual(schema.properties[key]?.default, byDefault, key)
    }
  })

  it("lets editors check what quantities look like", () => {
    assert.include(JSON.stringify(schema.properties.tags_ttl), "(ms|s|m|h|d)")
    assert.include(JSON.stringify(schema.properties.data_dir), '"pattern"')
    assert.include(JSON.stringify(schema.properties.hrw_k), '"maximum":32')
    assert.include(JSON.stringify(schema.properties.log_level), '"enum":["debug","info","warn","error"]')
  })
})
