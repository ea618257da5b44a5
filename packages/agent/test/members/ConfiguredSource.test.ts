import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as ConfiguredSource from "../../src/members/ConfiguredSource.ts"
import { load, minimal } from "../config/support.ts"
import { selfOf } from "./support.ts"

describe("ConfiguredSource", () => {
  it.effect.each([
    ["members_file: /etc/gantry/members.yaml", "file /etc/gantry/members.yaml"],
    ["members_dns: agents.example.com", "dns agents.example.com"],
    ['members_static: [{transfer_addr: "10.0.0.1:5001"}]', "static"],
    ["members_dns: agents.example.com\nmembers_file: /members\nmembers_source: dns", "dns agents.example.com"],
    ["", "static"]
  ] as const)("takes for %j the source %s", ([text, name]) =>
    Effect.gen(function* () {
      const { settings } = yield* load(`${minimal}${text}\n`)
      assert.strictEqual(ConfiguredSource.make(settings, selfOf(1)).name, name)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
