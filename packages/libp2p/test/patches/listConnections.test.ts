import { assert, describe, it } from "@effect/vitest"
import type { Libp2p } from "@libp2p/interface"
import { Effect } from "effect"
import { vi } from "vitest"
import { listConnections } from "../../src/internal/patches/listConnections.ts"
import { startPlain } from "./unpatched.ts"

/** Connects three peers to a node; gives them, and how often the list of connections is copied to be made. */
const connectThree = Effect.fnUntraced(function* (node: Libp2p) {
  const peers = yield* Effect.all([startPlain(), startPlain(), startPlain()])
  const connections = yield* Effect.forEach(peers, (peer) => Effect.promise(() => node.dial(peer.getMultiaddrs())))
  const concat = vi.spyOn(Array.prototype, "concat")
  const listed = node.getConnections()
  const copies = concat.mock.calls.length
  concat.mockRestore()
  return { connections, copies, listed }
})

describe("listConnections", () => {
  it.effect("lists all connections, or those of a peer, without copying what it has", () =>
    Effect.gen(function* () {
      const node = yield* startPlain({ services: { listConnections } })
      const { connections, copies, listed } = yield* connectThree(node)
      assert.deepStrictEqual(
        listed.map(({ id }) => id),
        connections.map(({ id }) => id)
      )
      assert.strictEqual(copies, 0)
      const [first] = connections
      assert.deepStrictEqual(
        node.getConnections(first?.remotePeer).map(({ id }) => id),
        [first?.id]
      )
      assert.deepStrictEqual(node.getConnections(node.peerId), [])
    })
  )

  it.effect("is needed as long as the list is copied for each peer", () =>
    Effect.gen(function* () {
      const { copies } = yield* connectThree(yield* startPlain())
      assert.isAtLeast(copies, 3)
    })
  )
})
