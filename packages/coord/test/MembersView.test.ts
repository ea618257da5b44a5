import * as Crypto from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { MembersView } from "@gantry/coord"
import { Digest, Member, NodeId, PeerId, Rendezvous } from "@gantry/protocol"
import { Option } from "effect"
import { vi } from "vitest"

vi.mock("node:crypto", { spy: true })

const digest = Digest.make(`sha256:${"e".repeat(64)}`)
const peerId = PeerId.make("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
const stranger = PeerId.make("QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC")
const member = (nodeId: string, fields: Partial<ConstructorParameters<typeof Member>[0]> = {}) =>
  new Member({
    nodeId: NodeId.make(nodeId),
    ...fields
  })
const names = ["node-a", "node-b", "node-c", "node-d"].map((name) => NodeId.make(name))

describe("MembersView", () => {
  it("ranks members as rendezvous hashing does, whatever the order they are listed in", () => {
    const view = MembersView.make(names.toReversed().map((name) => member(name)))
    assert.deepStrictEqual(view.best(digest, names.length), Rendezvous.rank(names, digest))
    assert.deepStrictEqual(view.best(digest, 2), Rendezvous.topK(names, digest, 2))
    for (const name of names) assert.strictEqual(view.rankOf(name, digest), Rendezvous.rankOf(names, name, digest))
  })

  it("gives a stranger rank -1", () => {
    assert.strictEqual(MembersView.make([member("node-a")]).rankOf(NodeId.make("node-z"), digest), -1)
    assert.strictEqual(MembersView.none.rankOf(NodeId.make("node-a"), digest), -1)
  })

  it("counts a node once, in its first place, as its first entry that has a peer id", () => {
    const [unpublished, first, second, other] = [
      member("node-a"),
      member("node-a", { peerId: Option.some(peerId) }),
      member("node-a", { peerId: Option.some(stranger) }),
      member("node-b")
    ]
    for (const [listed, expected] of [
      [[first, second, other], first],
      [[unpublished, other, second, first], second],
      [[first, unpublished, other], first],
      [[unpublished, other, unpublished], unpublished]
    ] as const) {
      const view = MembersView.make(listed)
      assert.deepStrictEqual(view.members, [expected, other])
      assert.deepStrictEqual(view.byNodeId(expected.nodeId), Option.some(expected))
      assert.strictEqual(view.rankOf(other.nodeId, digest), Rendezvous.rankOf(names.slice(0, 2), other.nodeId, digest))
    }
  })

  it("takes every peer id that any entry of a node publishes for a member's", () => {
    const [old, young] = [peerId, stranger].map((id) => member("node-a", { peerId: Option.some(id) }))
    const view = MembersView.make([old as Member, member("node-a"), young as Member])
    for (const [id, entry] of [
      [peerId, old],
      [stranger, young]
    ] as const) {
      assert.strictEqual(view.standingOf(id), "member")
      assert.deepStrictEqual(view.byPeerId(id), Option.some(entry as Member))
    }
    assert.deepStrictEqual(view.clashes, [])
  })

  it("tells which nodes share a peer id; it is the first one's", () => {
    const sharing = ["node-a", "node-b", "node-c"].map((name) => member(name, { peerId: Option.some(peerId) }))
    const view = MembersView.make([...sharing, ...sharing])
    assert.deepStrictEqual(view.byPeerId(peerId), Option.fromUndefinedOr(sharing[0]))
    assert.deepStrictEqual(
      view.clashes.map(({ nodeIds }) => [...nodeIds]),
      [sharing.map(({ nodeId }) => nodeId)]
    )
  })

  it("tells members, strangers and the unevaluable apart", () => {
    const published = MembersView.make([member("node-a", { peerId: Option.some(peerId) }), member("node-b")])
    assert.strictEqual(published.standingOf(peerId), "member")
    assert.strictEqual(published.standingOf(stranger), "unrecognized")
    assert.strictEqual(MembersView.make([member("node-a")]).standingOf(peerId), "unevaluable")
    assert.strictEqual(MembersView.make([]).standingOf(peerId), "unevaluable")
    assert.strictEqual(MembersView.none.standingOf(stranger), "member")
  })

  it("scopes candidates to a zone, and to all members without one or with none in it", () => {
    const view = MembersView.make([
      member("node-a", { zone: Option.some("east") }),
      member("node-b", { zone: Option.some("west") }),
      member("node-c", { zone: Option.some("east") }),
      member("node-d")
    ])
    assert.deepStrictEqual(
      view.inZone(Option.some("east")),
      ["node-a", "node-c"].map((name) => NodeId.make(name))
    )
    assert.deepStrictEqual(view.inZone(Option.some("north")), names)
    assert.deepStrictEqual(view.inZone(Option.none()), names)
    assert.deepStrictEqual(
      view.best(digest, 2, Option.some("east")),
      Rendezvous.rank(view.inZone(Option.some("east")), digest)
    )
    assert.deepStrictEqual(view.best(digest, 1, Option.some("west")), [NodeId.make("node-b")])
  })

  it("ranks rightly more digests than it remembers", () => {
    const view = MembersView.make(names.map((name) => member(name)))
    const digests = Array.from({ length: 300 }, (_, index) =>
      Digest.make(`sha256:${index.toString(16).padStart(64, "0")}`)
    )
    for (let time = 0; time < 2; time++) {
      for (const digest of digests) {
        assert.deepStrictEqual(view.best(digest, names.length), Rendezvous.rank(names, digest))
        for (const name of names) assert.strictEqual(view.rankOf(name, digest), Rendezvous.rankOf(names, name, digest))
      }
    }
  })

  it("ranks whoever is left, has joined or is back after a change, and so does the view before it", () => {
    const views = [MembersView.make(names.map((name) => member(name)))]
    const ranked = (view: MembersView.MembersView) => view.members.map(({ nodeId }) => view.rankOf(nodeId, digest))
    const expected = (view: MembersView.MembersView) => {
      const listed = view.members.map(({ nodeId }) => nodeId)
      return listed.map((nodeId) => Rendezvous.rankOf(listed, nodeId, digest))
    }
    for (const change of [
      ["node-b", "node-d"],
      ["node-x", "node-d", "node-y", "node-z", "node-b"],
      ["node-a", "node-b", "node-z"],
      ["node-new"],
      ["node-b", "node-a"]
    ]) {
      for (const view of views) assert.deepStrictEqual(ranked(view), expected(view))
      const latest = views.at(-1) as MembersView.MembersView
      views.push(latest.update(change.map((name) => member(name))))
    }
    for (const view of views) assert.deepStrictEqual(ranked(view), expected(view))
    assert.deepStrictEqual(
      views.map(({ version }) => version),
      [0, 1, 2, 3, 4, 5]
    )
  })

  it("ranks rightly what was prepared in part, and for other members", () => {
    const many = Array.from({ length: 5_000 }, (_, index) => NodeId.make(`node-${index}`))
    const [before, after] = [many.slice(0, 4_500), many.slice(500)]
    const view = MembersView.make(before.map((name) => member(name)))
    view.prepare(digest)
    assert.isFalse(view.isRanked(digest))
    const changed = view.update(after.map((name) => member(name)))
    assert.isFalse(changed.isRanked(digest))
    assert.deepStrictEqual(changed.best(digest, 10), Rendezvous.topK(after, digest, 10))
    assert.isTrue(changed.isRanked(digest))
    assert.deepStrictEqual(view.best(digest, 10), Rendezvous.topK(before, digest, 10))
  })

  it("hashes each member once for a digest, whatever changes", () => {
    const hash = vi.mocked(Crypto.hash).mockClear()
    const view = MembersView.make(names.map((name) => member(name)))
    for (const name of names) view.rankOf(name, digest)
    view.best(digest, 3)
    assert.strictEqual(hash.mock.calls.length, names.length)
    const changed = view.update([...names.slice(1), NodeId.make("node-x")].map((name) => member(name)))
    for (const name of names) changed.rankOf(name, digest)
    changed.update(names.map((name) => member(name))).best(digest, 1)
    assert.strictEqual(hash.mock.calls.length, names.length + 1)
  })
})
