/**
 * Ranks among thousands of members. Hashing them all for a digest takes
 * milliseconds, going through their numbers microseconds: so each member is
 * hashed once for a digest, whatever happens to the membership meanwhile.
 */
import { type Digest, type NodeId, Rendezvous } from "@gantry/protocol"

/** How many digests are remembered: the layers of several images that roll out at once, at eight bytes a member. */
const digestsKept = 256

/** Members that are hashed for a digest in less time than a fiber takes to wait for its turn. */
const fewNodes = 256

/** Ranks in one list of nodes, each known by its position there. */
export interface Ranks {
  /** Whether ranks for a digest cost next to nothing: the nodes were hashed for it, or are few. */
  readonly isReady: (digest: Digest) => boolean
  /** How many nodes are better than the one at `position`. */
  readonly rank: (position: number, digest: Digest) => number
  /** The best `count` of the nodes at `positions`, best first. */
  readonly best: (positions: Iterable<number>, digest: Digest, count: number) => ReadonlyArray<number>
  /** The ranks in a changed list. */
  readonly update: (nodes: ReadonlyArray<NodeId>) => Ranks
}

/** What has been hashed, for the lists of one membership as it changes. */
interface Hashed {
  /** Where a node's numbers are. */
  readonly slots: Map<NodeId, number>
  /** The leading bits of every score, by slot; NaN where nobody asked. */
  readonly leading: Map<Digest, Float64Array>
}

/** What one list knows about a digest. */
interface Scored {
  readonly leading: Float64Array
  /** By position, those that were asked for. */
  readonly ranks: Map<number, number>
}

/** Looks up, or makes, what a map keeps for the digests asked about last. */
const recall = <A>(map: Map<Digest, A>, digest: Digest, make: (known: A | undefined) => A): A => {
  const value = make(map.get(digest))
  map.delete(digest)
  map.set(digest, value)
  if (map.size > digestsKept) map.delete(map.keys().next().value as Digest)
  return value
}

export const make = (nodes: ReadonlyArray<NodeId>): Ranks => build(nodes, { slots: new Map(), leading: new Map() })

const build = (nodes: ReadonlyArray<NodeId>, hashed: Hashed): Ranks => {
  for (const nodeId of nodes) {
    if (!hashed.slots.has(nodeId)) hashed.slots.set(nodeId, hashed.slots.size)
  }
  const slots = Uint32Array.from(nodes, (nodeId) => hashed.slots.get(nodeId) as number)
  const scored = new Map<Digest, Scored>()

  const leadingFor = (digest: Digest): Float64Array =>
    recall(hashed.leading, digest, (known) => {
      const leading =
        known !== undefined && known.length >= hashed.slots.size
          ? known
          : new Float64Array(hashed.slots.size).fill(Number.NaN)
      if (known !== undefined && leading !== known) leading.set(known)
      slots.forEach((slot, position) => {
        if (Number.isNaN(leading[slot])) leading[slot] = Rendezvous.leadingBits(nodes[position] as NodeId, digest)
      })
      return leading
    })

  const scoredFor = (digest: Digest): Scored =>
    recall(scored, digest, (known) => known ?? { leading: leadingFor(digest), ranks: new Map() })

  const scoreAt = (position: number, digest: Digest): Rendezvous.Scored => {
    const nodeId = nodes[position] as NodeId
    return { nodeId, score: Rendezvous.score(nodeId, digest) }
  }

  const isBetter = (a: number, b: number, leading: Float64Array, digest: Digest): boolean => {
    const lead = (leading[slots[a] as number] as number) - (leading[slots[b] as number] as number)
    return lead === 0 && a !== b ? Rendezvous.compare(scoreAt(a, digest), scoreAt(b, digest)) < 0 : lead > 0
  }

  return {
    isReady: (digest) => nodes.length <= fewNodes || hashed.leading.has(digest),
    rank(position, digest) {
      const { leading, ranks } = scoredFor(digest)
      const known = ranks.get(position)
      if (known !== undefined) return known
      let rank = 0
      for (let other = 0; other < nodes.length; other++) {
        if (isBetter(other, position, leading, digest)) rank++
      }
      ranks.set(position, rank)
      return rank
    },
    best(positions, digest, count) {
      const { leading } = scoredFor(digest)
      const best: Array<number> = []
      for (const position of positions) {
        const last = best[count - 1]
        if (last !== undefined && isBetter(last, position, leading, digest)) continue
        const at = best.findIndex((other) => isBetter(position, other, leading, digest))
        best.splice(at < 0 ? best.length : at, 0, position)
        if (best.length > count) best.pop()
      }
      return best
    },
    update: (changed) =>
      // Those who left keep their slots, in case they come back, up to as many as there are members.
      build(changed, hashed.slots.size <= 2 * changed.length ? hashed : { slots: new Map(), leading: new Map() })
  }
}
