import { assert, it } from "@effect/vitest"
import { CoordServer, Members, StreamTransport } from "@gantry/coord"
import { Member, NodeId } from "@gantry/protocol"
import { Fixtures, MemoryNetwork } from "@gantry/testkit"
import { Context, Effect, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import { askBest, node, Origin } from "./Node.ts"

const digest = Fixtures.digestOf("a layer")
const peerId = Fixtures.peerIdOf(1)
const puller = new Member({ nodeId: NodeId.make("puller"), peerId: Option.some(peerId) })

/** The node of the program, on a network in memory, with an origin that takes three seconds. */
const join = Effect.fnUntraced(function* (peer: typeof peerId, self: string) {
  const network = yield* MemoryNetwork.MemoryNetwork
  const members = Members.layerStatic(NodeId.make(self), [puller])
  const origin = Layer.succeed(Origin, ({ digest }) => Effect.delay(Effect.succeed(digest), "3 seconds"))
  const transport = Layer.effect(StreamTransport.StreamTransport, network.join(peer))
  return yield* Layer.build(Layer.fresh(node.pipe(Layer.provideMerge([members, origin, transport]))))
})

it.effect("has the layer once the pull is over", () =>
  Effect.gen(function* () {
    const server = Context.get(yield* join(peerId, "puller"), CoordServer.CoordServer)
    const requester = yield* join(Fixtures.peerIdOf(2), "requester")

    const [outcome] = yield* Effect.provide(askBest(digest), requester)
    assert.strictEqual(outcome?.verdict._tag, "Started")

    yield* TestClock.adjust("2999 millis")
    assert.isTrue((yield* server.localPullIntent(digest)).inFlight)
    yield* TestClock.adjust("1 millis")
    assert.isTrue((yield* server.localPullIntent(digest)).hasCached)
  }).pipe(Effect.provide(MemoryNetwork.layer))
)
