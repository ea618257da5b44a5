import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { parse } from "yaml"
import { cli } from "../cli.ts"
import { minimal, writeConfig } from "./support.ts"

describe("gantry config", () => {
  it.effect("check says everything that is wrong, and exits with 2", () =>
    Effect.gen(function* () {
      const path = yield* writeConfig(`${minimal}mirror_header_deadline: 45s\nhrw_k: none\n`)
      const { code, stdout } = yield* cli("config", "check", "--config", path, "--tags-ttl", "soon")
      assert.strictEqual(code, 2)
      assert.deepStrictEqual(stdout.trimEnd().split("\n"), [
        `${path}:2 mirror_header_deadline: 45s, must be below 30s`,
        `${path}:3 hrw_k: none, must be a whole number from 1 to 32`,
        "--tags-ttl tags_ttl: soon, must be a duration such as 90s"
      ])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("check says the same as JSON, with lines", () =>
    Effect.gen(function* () {
      const path = yield* writeConfig(`${minimal}hrw_k: none\n`)
      const { code, stdout } = yield* cli("config", "check", "--config", path, "--json")
      assert.strictEqual(code, 2)
      assert.deepInclude(JSON.parse(stdout), {
        valid: false,
        problems: [{ where: `${path}:2`, line: 2, key: "hrw_k", problem: "none, must be a whole number from 1 to 32" }]
      })
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("check passes what has no effect with a warning", () =>
    Effect.gen(function* () {
      const path = yield* writeConfig(`${minimal}nf5_jitter_base: 3s\n`)
      const { code, stdout } = yield* cli("config", "check", "--config", path)
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(stdout.trimEnd().split("\n"), [
        `warning: ${path}:2 nf5_jitter_base: of another agent, without effect here`,
        `${path} is valid`
      ])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("print shows every setting and where it comes from, as a file that says the same", () =>
    Effect.gen(function* () {
      const path = yield* writeConfig(`${minimal}tags_ttl: 90s\nmembers_dns: agents.example.com\n`)
      const { code, stdout } = yield* cli("config", "print", "--config", path, "--log-level", "debug", "--no-prefetch")
      assert.strictEqual(code, 0)
      const from = (key: string) => new RegExp(`^${key}:.*# (.*)$`, "m").exec(stdout)?.[1]
      assert.deepStrictEqual(["tags_ttl", "log_level", "prefetch", "hrw_k"].map(from), [
        `${path}:2`,
        "--log-level",
        "--prefetch",
        "default"
      ])
      const again = yield* cli("config", "print", "--config", yield* writeConfig(stdout), "--json")
      const values = Object.entries<{ readonly value: unknown }>(JSON.parse(again.stdout))
      assert.deepStrictEqual(Object.fromEntries(values.map(([key, { value }]) => [key, value])), parse(stdout))
      assert.deepInclude(parse(stdout), { tags_ttl: "1m30s", log_level: "debug", prefetch: false, zone: null })
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("print says on standard error why there is nothing to print", () =>
    Effect.gen(function* () {
      const path = yield* writeConfig("hrw_k: none\n")
      const { code, stderr, stdout } = yield* cli("config", "print", "--config", path)
      assert.strictEqual(code, 2)
      assert.strictEqual(stdout, "")
      assert.include(stderr, `${path}:1 hrw_k: none`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("schema prints a JSON Schema", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* cli("config", "schema")
      assert.strictEqual(code, 0)
      assert.deepInclude(JSON.parse(stdout), {
        $schema: "https://json-schema.org/draft/2020-12/schema",
        type: "object"
      })
    })
  )

  it.effect("takes no flag for what is set in the file alone", () =>
    Effect.gen(function* () {
      const { code, stderr } = yield* cli("config", "check", "--image-allow", ".*")
      assert.notStrictEqual(code, 0)
      assert.include(stderr, "--image-allow")
    })
  )
})
