import { assert, describe, it } from "@effect/vitest"
import { Digest, NodeId, Rendezvous } from "@gantry/protocol"
import { Schema } from "effect"
import vectors from "./vectors/rendezvous.json" with { type: "json" }

const digest = Digest.make(`sha256:${"1".repeat(64)}`)
const nodes = Array.from({ length: 10 }, (_, index) => NodeId.make(`node-${index}`))
const cases = vectors.cases.map((vector) => ({
  title: `${vector.nodes.length} nodes, ${vector.nodes[0]} first, ${vector.digest.slice(0, 15)}`,
  digest: Digest.make(vector.digest),
  nodes: vector.nodes.map((node) => NodeId.make(node)),
  order: vector.order.map(({ node, score }) => ({ nodeId: NodeId.make(node), score }))
}))

describe("Rendezvous", () => {
  describe("agrees with the vectors", () => {
    it.each(cases)("on the score of each node: $title", ({ digest, order }) => {
      assert.deepStrictEqual(
        order.map(({ nodeId }) => ({ nodeId, score: Rendezvous.score(nodeId, digest) })),
        order
      )
    })

    it.each(cases)("on the order: $title", ({ digest, nodes, order }) => {
      const expected = order.map(({ nodeId }) => nodeId)
      assert.deepStrictEqual(Rendezvous.rank(nodes, digest), expected)
      assert.deepStrictEqual(Rendezvous.topK(nodes, digest, 3), expected.slice(0, 3))
      assert.deepStrictEqual(
        expected.map((nodeId) => Rendezvous.rankOf(nodes, nodeId, digest)),
        expected.map((_, position) => position)
      )
    })
  })

  describe("ties", () => {
    // As UTF-16 the second id is the larger one, as UTF-8 the first.
    const beyondBmp = NodeId.make("node-\u{1f600}")
    const withinBmp = NodeId.make("node-\uff5e")

    it("go to the larger node id by UTF-8 bytes", () => {
      const score = "00".repeat(32)
      assert.isTrue(beyondBmp < withinBmp)
      assert.isBelow(Rendezvous.compare({ nodeId: beyondBmp, score }, { nodeId: withinBmp, score }), 0)
      assert.isAbove(Rendezvous.compare({ nodeId: withinBmp, score }, { nodeId: beyondBmp, score }), 0)
      assert.strictEqual(Rendezvous.compare({ nodeId: withinBmp, score }, { nodeId: withinBmp, score }), 0)
    })

    it("go to the longer of two ids that begin alike", () => {
      const score = "00".repeat(32)
      const [short, long] = [NodeId.make("node-1"), NodeId.make("node-10")]
      assert.isBelow(Rendezvous.compare({ nodeId: long, score }, { nodeId: short, score }), 0)
    })

    it("do not arise where scores differ", () => {
      const better = { nodeId: NodeId.make("a"), score: `ff${"00".repeat(31)}` }
      const worse = { nodeId: NodeId.make("b"), score: `7f${"ff".repeat(31)}` }
      assert.isBelow(Rendezvous.compare(better, worse), 0)
    })
  })

  it("hashes node ids as UTF-8", () => {
    assert.strictEqual(
      Rendezvous.score(NodeId.make("節點"), digest),
      "9a21d6b6eb0d386c1c536bb0fbf0c2c5028303c2c1a49782d9efe214cecb0466"
    )
  })

  it("gives none for a count that is not positive, and all for one beyond the members", () => {
    assert.deepStrictEqual(
      [0, -1, -3].map((count) => Rendezvous.topK(nodes, digest, count)),
      [[], [], []]
    )
    assert.deepStrictEqual(Rendezvous.topK(nodes, digest, 11), Rendezvous.rank(nodes, digest))
    assert.deepStrictEqual(Rendezvous.topK([], digest, 3), [])
  })

  it("ranks a stranger at -1", () => {
    assert.strictEqual(Rendezvous.rankOf(nodes, NodeId.make("stranger"), digest), -1)
    assert.strictEqual(Rendezvous.rankOf([], NodeId.make("node-0"), digest), -1)
  })

  it("counts a node once, however often it is listed", () => {
    const listed = [...nodes, ...nodes, ...nodes.slice(0, 3)]
    const ranking = Rendezvous.rank(nodes, digest)
    assert.deepStrictEqual(Rendezvous.rank(listed, digest), ranking)
    assert.deepStrictEqual(Rendezvous.topK(listed, digest, 4), ranking.slice(0, 4))
    assert.deepStrictEqual(
      ranking.map((nodeId) => Rendezvous.rankOf(listed, nodeId, digest)),
      ranking.map((_, position) => position)
    )
  })

  const anyNodes = Schema.Array(NodeId)
  const anyCount = Schema.Int.check(Schema.isBetween({ minimum: -2, maximum: 12 }))

  it.prop("takes the best of the ranking, whatever the count", [anyNodes, anyCount], ([listed, count]) => {
    assert.deepStrictEqual(
      Rendezvous.topK(listed, digest, count),
      Rendezvous.rank(listed, digest).slice(0, Math.max(0, count))
    )
  })

  it.prop("does not depend on the order of the members", [anyNodes, anyCount], ([listed, count]) => {
    const reversed = listed.toReversed()
    assert.deepStrictEqual(Rendezvous.rank(reversed, digest), Rendezvous.rank(listed, digest))
    assert.deepStrictEqual(Rendezvous.topK(reversed, digest, count), Rendezvous.topK(listed, digest, count))
  })

  it.prop("puts each member at its position in the ranking", [anyNodes], ([listed]) => {
    const ranking = Rendezvous.rank(listed, digest)
    assert.deepStrictEqual(
      ranking.map((nodeId) => Rendezvous.rankOf(listed, nodeId, digest)),
      ranking.map((_, position) => position)
    )
  })
})
