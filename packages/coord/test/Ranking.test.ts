import * as Crypto from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { MembersView } from "@gantry/coord"
import { digestOf, memberOf, members } from "@gantry/testkit/Fixtures"
import { serverNode, startServer } from "@gantry/testkit/suites/CoordFixture"
import * as MemoryPeers from "@gantry/testkit/suites/MemoryPeers"
import { Effect, Fiber } from "effect"
import { vi } from "vitest"

vi.mock("node:crypto", { spy: true })

const everyone = [memberOf(0, { nodeId: serverNode }), ...members(1_000)]
const digests = Array.from({ length: 8 }, (_, index) => digestOf(`new ${index}`))

describe("A server among many members", () => {
  it.effect("hashes them for one new digest after the other, and does other things in between", () =>
    Effect.gen(function* () {
      const { server } = yield* startServer({ view: Effect.succeed(MembersView.make(everyone)) })
      const hash = vi.mocked(Crypto.hash).mockClear()
      const asked = yield* Effect.forEach(digests, (digest) =>
        Effect.forkChild(server.localPullIntent(digest), { startImmediately: true })
      )
      assert.strictEqual(hash.mock.calls.length, everyone.length)
      yield* Effect.yieldNow
      assert.isBelow(hash.mock.calls.length, digests.length * everyone.length)
      const intents = yield* Fiber.joinAll(asked)
      assert.strictEqual(hash.mock.calls.length, digests.length * everyone.length)
      assert.deepStrictEqual(
        intents.map(({ hrwRank }) => hrwRank),
        digests.map((digest) => MembersView.make(everyone).rankOf(serverNode, digest))
      )
    }).pipe(Effect.provide(MemoryPeers.layer))
  )
})
