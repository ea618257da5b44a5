import { assert, describe, it } from "@effect/vitest"
import { Digest, NodeId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Ledger from "../src/demo/Ledger.ts"
import type { NodeProgress } from "../src/demo/Progress.ts"

const digest = Digest.make(`sha256:${"a".repeat(64)}`)
const one = NodeId.make("node-1")
const two = NodeId.make("node-2")

const fixture = () => {
  const seen: Array<NodeProgress> = []
  const ledger = Ledger.make([one, two], (_, changed) => Effect.sync(() => seen.push(changed)))
  return { ledger, seen }
}

describe("Ledger", () => {
  it.effect("follows a node from its start to its end", () =>
    Effect.gen(function* () {
      const { ledger, seen } = fixture()
      yield* ledger.enter(one, "pulling")
      yield* ledger.take(one, { _tag: "Progress", bytes: 5, totalBytes: 10, digests: 1, totalDigests: 2 })
      yield* ledger.take(one, { _tag: "Pulled", digest, bytes: 10, stored: true })
      yield* ledger.take(one, { _tag: "Finished" })
      assert.deepStrictEqual(seen.at(-1), {
        nodeId: one,
        phase: "done",
        bytes: 5,
        totalBytes: 10,
        digests: 1,
        totalDigests: 2,
        fromOrigin: 1
      })
    })
  )

  it.effect("counts a pull that broke off, and not one that brought nothing", () =>
    Effect.gen(function* () {
      const { ledger } = fixture()
      yield* ledger.take(one, { _tag: "Pulled", digest, bytes: 0, stored: false })
      yield* ledger.take(one, { _tag: "Pulled", digest, bytes: 4, stored: false })
      yield* ledger.take(two, { _tag: "Pulled", digest, bytes: 10, stored: true })
      assert.deepStrictEqual(yield* ledger.pulls, [
        { digest, account: one, bytes: 4 },
        { digest, account: two, bytes: 10 }
      ])
    })
  )

  it.effect("counts what came from peers, and nothing else, as a transfer between nodes", () =>
    Effect.gen(function* () {
      const { ledger } = fixture()
      for (const from of ["Peer", "Origin", "Local", "Peer"] as const) {
        yield* ledger.take(one, { _tag: "Obtained", digest, from })
      }
      assert.deepStrictEqual(yield* ledger.peerTransfers, new Map([[digest, 2]]))
      assert.strictEqual(yield* ledger.events, 4)
    })
  )
})
