/**
 * What a Go peer learns of a node of ours that it has never dialed (protocol,
 * section 9).
 */
import { assert, describe } from "@effect/vitest"
import { protocolId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import { ask, nothing, query, startOurServer, test } from "./calls.ts"
import { closeConnection, isBuilt, reset } from "./ForeignPeer.ts"
import * as OurPeers from "./OurPeers.ts"

describe.skipIf(!isBuilt("go"))("A Go peer that we dialed", () => {
  test(
    "asks us over a connection of its own, once ours has ended",
    Effect.gen(function* () {
      const { foreign: go, peer } = yield* startOurServer("go")
      const { peerId } = peer.address
      // All that the peer is told of us here is our name.
      const us = { ...peer, address: { peerId, addresses: [`/p2p/${peerId}`] } }
      yield* peer.transport.open(go.address, protocolId)
      yield* Effect.flatMap(go.accept, (stream) => stream.run(reset))

      const over = yield* go.open(us.address, { lazy: false })
      assert.deepStrictEqual(yield* over.run(closeConnection(0)), [nothing])
      yield* OurPeers.eventually(() => peer.libp2p.getConnections().length === 0)

      const reply = yield* ask(go, us, query)
      assert.deepInclude(reply, { message: { pullIntentResponse: { hrwRank: -1 } } })
      assert.deepStrictEqual(
        peer.libp2p.getConnections().map(({ direction }) => direction),
        ["inbound"]
      )
    })
  )
})
