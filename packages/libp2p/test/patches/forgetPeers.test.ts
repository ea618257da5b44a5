import { assert, describe, it } from "@effect/vitest"
import type { Libp2p, PeerId, PeerStore } from "@libp2p/interface"
import { Effect } from "effect"
import { forgetPeers } from "../../src/internal/patches/forgetPeers.ts"
import { startPlain } from "./unpatched.ts"

const protocol = "/gantry/test/1.0.0"

/** Has a client open a stream. */
const openStream = (client: Libp2p) =>
  Effect.gen(function* () {
    const server = yield* startPlain()
    yield* Effect.promise(() => server.handle(protocol, () => {}))
    yield* Effect.promise(async () => (await client.dial(server.getMultiaddrs())).newStream(protocol))
    return server.peerId
  })

describe("forgetPeers", () => {
  it.effect("keeps nothing of a peer, and knows the protocols of this node", () =>
    Effect.gen(function* () {
      const node = yield* startPlain({ services: { forgetPeers } })
      yield* Effect.promise(() => node.handle(protocol, () => {}))
      const peerId = yield* openStream(node)
      const get = (id: PeerId) => Effect.tryPromise(() => node.peerStore.get(id))
      assert.include((yield* get(node.peerId)).protocols, protocol)
      assert.strictEqual((yield* Effect.result(get(peerId)))._tag, "Failure")
    })
  )

  it.effect("is needed as long as each stream goes through the store of peers", () =>
    Effect.gen(function* () {
      let merges = 0
      const count = ({ peerStore }: { readonly peerStore: PeerStore }) => {
        const merge = peerStore.merge.bind(peerStore)
        peerStore.merge = (id, data, options) => {
          if (data.protocols?.includes(protocol) === true) merges++
          return merge(id, data, options)
        }
        return {}
      }
      yield* openStream(yield* startPlain({ services: { count } }))
      assert.strictEqual(merges, 1)
    })
  )
})
