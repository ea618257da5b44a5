import * as Crypto from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { MembersView } from "@gantry/coord"
import { digestOf, memberOf, members } from "@gantry/testkit/Fixtures"
import { serverNode, startServer } from "@gantry/testkit/suites/CoordFixture"
import * as MemoryPeers from "@gantry/testkit/suites/MemoryPeers"
import { Effect, Fiber } from "effect"
import { vi } from "vitest"

vi.mock("node:crypto", { spy: true })

const everyone = [memberOf(0, { nodeId: serverNode }), ...members(5_000)]
const digests = Array.from({ length: 4 }, (_, index) => digestOf(`new ${index}`))

describe("A server among many members", () => {
  it.effect("hashes them for new digests in slices, and does other things in between", () =>
    Effect.gen(function* () {
      const { server } = yield* startServer({ view: Effect.succeed(MembersView.make(everyone)) })
      const hash = vi.mocked(Crypto.hash).mockClear()
      let turns = 0
      let longest = 0
      const watch = Effect.gen(function* () {
        while (true) {
          const before = hash.mock.calls.length
          yield* Effect.yieldNow
          longest = Math.max(longest, hash.mock.calls.length - before)
          turns++
        }
      })
      const watching = yield* Effect.forkChild(watch, { startImmediately: true })
      const intents = yield* Effect.forEach([...digests, ...digests], server.localPullIntent, {
        concurrency: "unbounded"
      })
      yield* Fiber.interrupt(watching)
      assert.strictEqual(hash.mock.calls.length, digests.length * everyone.length)
      assert.isAtLeast(turns, digests.length)
      assert.isAtMost(longest, 2_000)
      assert.deepStrictEqual(
        intents.map(({ hrwRank }) => hrwRank),
        [...digests, ...digests].map((digest) => MembersView.make(everyone).rankOf(serverNode, digest))
      )
    }).pipe(Effect.provide(MemoryPeers.layer))
  )
})
