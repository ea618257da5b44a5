import { readFileSync } from "node:fs"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { CoordServer, Members } from "@gantry/coord"
import { Host } from "@gantry/libp2p"
import { type Member, NodeId } from "@gantry/protocol"
import { Fixtures } from "@gantry/testkit"
import { Context, Effect, FileSystem, Layer } from "effect"
import { askBest, node, Origin, tcp } from "./readme/Node.ts"

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8")

describe("The README", () => {
  for (const file of ["Node.ts", "Node.test.ts"]) {
    it(`shows ${file} as it runs here`, () => {
      const program = read(`./readme/${file}`)
      assert.isAtMost(program.trimEnd().split("\n").length, 60)
      assert.include(
        read("../../../README.md"),
        `<!-- packages/examples/test/readme/${file} -->\n\`\`\`ts\n${program}\`\`\``
      )
    })
  }

  it.effect("shows a node that serves and asks over TCP", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped()
      const start = (name: string, members: ReadonlyArray<Member>) =>
        Layer.build(
          Layer.fresh(
            node.pipe(
              Layer.provideMerge([
                Members.layerStatic(NodeId.make(name), members),
                Layer.succeed(Origin, ({ digest }) => Effect.succeed(digest)),
                tcp({ listen: "/ip4/127.0.0.1/tcp/0", identity: `${directory}/${name}` })
              ])
            )
          )
        )
      const puller = yield* start("puller", [])
      const member = yield* Effect.provide(Host.member({ nodeId: NodeId.make("puller") }), puller)
      const requester = yield* start("requester", [member])
      const digest = Fixtures.digestOf("a layer")
      const [outcome] = yield* Effect.provide(askBest(digest), requester)
      assert.strictEqual(outcome?.verdict._tag, "Started")
      const server = Context.get(puller, CoordServer.CoordServer)
      while (!(yield* server.localPullIntent(digest)).hasCached) yield* Effect.yieldNow
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
