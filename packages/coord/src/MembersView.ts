/**
 * An immutable snapshot of the cluster's membership, with the indexes that a
 * request needs.
 */
import type { Digest, Member, NodeId, PeerId } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Ranks from "./internal/ranks.ts"

/** How a remote peer stands to the membership (protocol, section 6). */
export type Standing = "member" | "unrecognized" | "unevaluable"

/** Several nodes that publish one peer id: whoever asks for one may reach another. */
export interface Clash {
  readonly peerId: PeerId
  readonly nodeIds: ReadonlySet<NodeId>
}

/**
 * A view of the membership, built once per change. Who a peer is costs one
 * look-up; the first question about a digest's ranks hashes every member, and
 * the hashes are kept, also by the views that follow.
 */
export interface MembersView {
  /** Grows with every change. */
  readonly version: number
  /** False where no membership is wired: everyone is served, and nobody has a rank. */
  readonly wired: boolean
  /**
   * Each node once, in the order it was first listed. A node that is listed
   * several times, as during a rolling update, is the first entry that has a peer
   * id, or else its first.
   */
  readonly members: ReadonlyArray<Member>
  /** The member with this node id. */
  readonly byNodeId: (nodeId: NodeId) => Option.Option<Member>
  /** The first entry that publishes this peer id, which may be another one of its node than `byNodeId` gives. */
  readonly byPeerId: (peerId: PeerId) => Option.Option<Member>
  /** The nodes that share peer ids, which they should not. */
  readonly clashes: ReadonlyArray<Clash>
  /** Whether a peer may ask, by the ids that all entries of members publish. */
  readonly standingOf: (peerId: PeerId) => Standing
  /**
   * The best `count` candidates for a digest, best first; all if there are fewer.
   * Candidates are the members of the zone (see `inZone`), or all members.
   */
  readonly best: (digest: Digest, count: number, zone?: Option.Option<string>) => ReadonlyArray<NodeId>
  /**
   * Whether ranks for a digest cost next to nothing. The first question about one
   * among ten thousand members hashes them all, which takes milliseconds.
   */
  readonly isRanked: (digest: Digest) => boolean
  /** Hashes some of the members for a digest, for less than a millisecond; once it is ranked, all are. */
  readonly prepare: (digest: Digest) => void
  /** How many other members are better for the digest, from 0; -1 for a stranger. */
  readonly rankOf: (nodeId: NodeId, digest: Digest) => number
  /** The members of one zone; all of them without a zone or with none in it (protocol, section 8). */
  readonly inZone: (zone: Option.Option<string>) => ReadonlyArray<NodeId>
  /** The view after a change, one version on. */
  readonly update: (members: Iterable<Member>) => MembersView
}

/** A first view of these members. Those that follow come from its `update`, and keep what it has learned about ranks. */
export const make = (members: Iterable<Member>, version = 0): MembersView => build(members, version, true)

const build = (listed: Iterable<Member>, version: number, wired: boolean, former?: Ranks.Ranks): MembersView => {
  const nodes = new Map<NodeId, Member>()
  const peers = new Map<PeerId, Member>()
  const sharers = new Map<PeerId, Set<NodeId>>()
  for (const member of listed) {
    const { nodeId, peerId } = member
    const known = nodes.get(nodeId)
    if (known === undefined || (Option.isNone(known.peerId) && Option.isSome(peerId))) nodes.set(nodeId, member)
    if (Option.isNone(peerId)) continue
    const other = peers.get(peerId.value)
    if (other === undefined) peers.set(peerId.value, member)
    else if (other.nodeId !== nodeId) {
      const known = sharers.get(peerId.value)
      if (known === undefined) sharers.set(peerId.value, new Set([other.nodeId, nodeId]))
      else known.add(nodeId)
    }
  }
  const members = [...nodes.values()]
  const everyone = [...nodes.keys()]
  const positions = new Map(everyone.map((nodeId, position) => [nodeId, position]))
  const zones = new Map<string, Array<NodeId>>()
  for (const member of members) {
    if (Option.isSome(member.zone)) {
      const zone = zones.get(member.zone.value)
      if (zone === undefined) zones.set(member.zone.value, [member.nodeId])
      else zone.push(member.nodeId)
    }
  }
  const ranks = former?.update(everyone) ?? Ranks.make(everyone)
  const inZone: MembersView["inZone"] = (zone) => (Option.isSome(zone) ? zones.get(zone.value) : undefined) ?? everyone
  const positionOf = (nodeId: NodeId) => positions.get(nodeId) as number

  return {
    version,
    wired,
    members,
    byNodeId: (nodeId) => Option.fromUndefinedOr(nodes.get(nodeId)),
    byPeerId: (peerId) => Option.fromUndefinedOr(peers.get(peerId)),
    clashes: Array.from(sharers, ([peerId, nodeIds]) => ({ peerId, nodeIds })),
    standingOf(peerId) {
      if (!wired || peers.has(peerId)) return "member"
      return peers.size === 0 ? "unevaluable" : "unrecognized"
    },
    best: (digest, count, zone = Option.none()) =>
      ranks.best(inZone(zone).map(positionOf), digest, count).map((position) => everyone[position] as NodeId),
    isRanked: ranks.isReady,
    prepare: ranks.prepare,
    rankOf(nodeId, digest) {
      const position = positions.get(nodeId)
      return position === undefined ? -1 : ranks.rank(position, digest)
    },
    inZone,
    update: (changed) => build(changed, version + 1, true, ranks)
  }
}

/** The view of a node that has no membership wired. */
export const none: MembersView = build([], 0, false)
