import { assert, describe, it } from "@effect/vitest"
import { NodeId } from "@gantry/protocol"
import { Fixtures } from "@gantry/testkit"
import { Option } from "effect"
import * as Listed from "../../src/members/Listed.ts"
import * as Roster from "../../src/members/Roster.ts"
import { selfOf } from "./support.ts"

const own: Roster.Own = { nodeId: NodeId.make("n1"), peerId: Fixtures.peerIdOf(1) }

/** The entry at `10.0.0.<host>:5001`, whose agent said that it is the node of a number, or something else. */
const candidate = (
  host: number,
  self?: number | ReturnType<typeof selfOf>,
  { failure, ...listed }: Partial<Listed.Listed> & { readonly failure?: string } = {}
): Roster.Candidate => ({
  listed: { ...Listed.at(`10.0.0.${host}:5001`), ...listed },
  self: Option.fromUndefinedOr(typeof self === "number" ? selfOf(self, { p2p_addrs: [] }) : self),
  failure: Option.fromUndefinedOr(failure)
})

const short = ({ complaints, members }: Roster.Roster) => ({
  members: members.map(
    ({ contentAddress, nodeId }) =>
      `${nodeId} ${Option.getOrElse(contentAddress, () => "").replace(/^10.0.0.|:5001$/g, "")}`
  ),
  complaints: complaints.map(
    ({ problem, transferAddress }) => `${transferAddress.replace(/^10.0.0.|:5001$/g, "")}: ${problem}`
  )
})

const rosterOf = (candidates: ReadonlyArray<Roster.Candidate>, former = Roster.empty) =>
  short(Roster.make(candidates, own, former))

describe("Roster", () => {
  it("holds everybody who said who they are, in the order of the list", () => {
    assert.deepStrictEqual(rosterOf([candidate(2, 2), candidate(1, 1), candidate(3, 3)]), {
      members: ["n2 2", "n1 1", "n3 3"],
      complaints: []
    })
  })

  it("leaves out who has not said anything, and says so", () => {
    assert.deepStrictEqual(rosterOf([candidate(2), candidate(3, undefined, { failure: "it answers 404" })]), {
      members: [],
      complaints: ["2: it has not been asked yet", "3: it answers 404"]
    })
  })

  it("keeps who has said who they are and does not answer any more", () => {
    assert.deepStrictEqual(rosterOf([candidate(2, 2, { failure: "no answer within 2s" })]), {
      members: ["n2 2"],
      complaints: ["2: no answer within 2s"]
    })
  })

  it("holds who is listed by name before anything is known of its agent", () => {
    assert.deepStrictEqual(rosterOf([candidate(2, undefined, { nodeId: Option.some(NodeId.make("n2")) })]), {
      members: ["n2 2"],
      complaints: []
    })
  })

  it("believes the list rather than the agent, and takes nothing else from an agent that contradicts it", () => {
    const candidates = [
      candidate(2, 3, { nodeId: Option.some(NodeId.make("n2")) }),
      candidate(4, 5, { nodeId: Option.some(NodeId.make("n4")), peerId: Option.some(Fixtures.peerIdOf(4)) })
    ]
    const roster = Roster.make(candidates, own, Roster.empty)
    assert.deepStrictEqual(short(roster), {
      members: ["n2 2", "n4 4"],
      complaints: ["2: it says that it is n3", "4: it says that it is n5"]
    })
    assert.deepStrictEqual(
      roster.members.map(({ peerId }) => peerId),
      [Option.none(), Option.some(Fixtures.peerIdOf(4))]
    )
  })

  it("lets nobody take the name or the peer id of this agent", () => {
    const sameName = selfOf(2, { node_id: own.nodeId })
    const samePeer = selfOf(3, { peer_id: own.peerId })
    assert.deepStrictEqual(rosterOf([candidate(2, sameName), candidate(3, samePeer), candidate(1, 1)]), {
      members: ["n1 1"],
      complaints: ["2: it has our name, n1", "3: it has our peer id"]
    })
  })

  it("lets nobody take the name of another for as long as that one is listed", () => {
    const former = Roster.make([candidate(2, 2)], own, Roster.empty)
    const liar = candidate(9, selfOf(9, { node_id: NodeId.make("n2") }))
    assert.deepStrictEqual(rosterOf([liar, candidate(2, 2)], former), {
      members: ["n2 2"],
      complaints: ["9: 10.0.0.2:5001 is n2 already"]
    })
    assert.deepStrictEqual(rosterOf([liar, candidate(2, 2, { failure: "no answer within 2s" })], former), {
      members: ["n2 2"],
      complaints: ["2: no answer within 2s", "9: 10.0.0.2:5001 is n2 already"]
    })
    assert.deepStrictEqual(rosterOf([liar], former).members, ["n2 9"])
  })

  it("gives a name to whom the list gives it, whoever had it", () => {
    const former = Roster.make([candidate(9, selfOf(9, { node_id: NodeId.make("n2") }))], own, Roster.empty)
    const listed = candidate(2, undefined, { nodeId: Option.some(NodeId.make("n2")) })
    const liar = candidate(9, selfOf(9, { node_id: NodeId.make("n2") }))
    assert.deepStrictEqual(rosterOf([liar, listed], former).members, ["n2 2"])
  })

  it("lets nobody take the peer id of another", () => {
    const twin = candidate(3, selfOf(3, { peer_id: Fixtures.peerIdOf(2) }))
    assert.deepStrictEqual(rosterOf([candidate(2, 2), twin]), {
      members: ["n2 2"],
      complaints: ["3: it has the peer id of n2"]
    })
  })

  it("takes one machine that is listed by two addresses once, without complaint", () => {
    assert.deepStrictEqual(rosterOf([candidate(2, 2), candidate(12, 2)]), { members: ["n2 2"], complaints: [] })
  })

  it("dials where the blobs are first, and never itself, another peer or another transport", () => {
    const self = selfOf(2, {
      p2p_addrs: [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/172.17.0.1/tcp/4001",
        "/ip4/10.0.0.2/udp/4001/quic-v1",
        `/ip4/10.0.0.2/tcp/4002/p2p/${Fixtures.peerIdOf(9)}`,
        `/ip4/10.0.0.2/tcp/4001/p2p/${Fixtures.peerIdOf(2)}`,
        "nonsense"
      ]
    })
    assert.deepStrictEqual(Roster.make([candidate(2, self)], own, Roster.empty).members[0]?.addresses, [
      `/ip4/10.0.0.2/tcp/4001/p2p/${Fixtures.peerIdOf(2)}`,
      "/ip4/172.17.0.1/tcp/4001"
    ])
  })

  it("dials loopback addresses of agents that are on loopback", () => {
    const listed = candidate(2, selfOf(2), { transferAddress: "127.0.0.1:5002" })
    assert.deepStrictEqual(Roster.make([listed], own, Roster.empty).members[0]?.addresses, ["/ip4/127.0.0.1/tcp/4002"])
  })
})
