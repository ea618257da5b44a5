import { assert, it } from "@effect/vitest"
import { CoordServer, Members, StreamTransport } from "@gantry/coord"
import { Member, NodeId } from "@gantry/protocol"
import { Fixtures, MemoryNetwork } from "@gantry/testkit"
import { Context, Effect, Layer, Option } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { askBest, node, Origin } from "./readme/Node.ts"

const digest = Fixtures.digestOf("a layer")
const peerId = Fixtures.peerIdOf(1)
const puller = new Member({
  nodeId: NodeId.make("puller"),
  peerId: Option.some(peerId),
  addresses: [],
  contentAddress: Option.none(),
  zone: Option.none()
})

it.effect("a member that joins later is asked, and the metrics of it go to Prometheus", () =>
  Effect.gen(function* () {
    const network = yield* MemoryNetwork.MemoryNetwork
    const join = <M>(peer: typeof peerId, members: Layer.Layer<Members.Members | M>) =>
      Layer.build(
        Layer.fresh(
          node.pipe(
            Layer.provideMerge([
              members,
              Layer.succeed(Origin, ({ digest }) => Effect.succeed(digest)),
              Layer.effect(StreamTransport.StreamTransport, network.join(peer))
            ])
          )
        )
      )
    const server = Context.get(
      yield* join(peerId, Members.layerStatic(puller.nodeId, [puller])),
      CoordServer.CoordServer
    )
    const requester = yield* join(Fixtures.peerIdOf(2), Members.layerDynamic(NodeId.make("requester")))

    yield* Context.get(requester, Members.Membership).set([puller])
    const [outcome] = yield* Effect.provide(askBest(digest), requester)
    assert.strictEqual(outcome?.verdict._tag, "Started")
    while (!(yield* server.localPullIntent(digest)).hasCached) yield* Effect.yieldNow

    assert.match(yield* PrometheusMetrics.format(), /^p2p_coord_please_pull_started_total\S* 1$/m)
  }).pipe(Effect.provide(MemoryNetwork.layer))
)
