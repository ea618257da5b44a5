/**
 * Ranks among thousands of members. Hashing them all for a digest takes
 * milliseconds, going through their numbers microseconds: so each member is
 * hashed once for a digest, whatever happens to the membership meanwhile.
 */
import { type Digest, type NodeId, Rendezvous } from "@gantry/protocol"

/** How many digests are remembered: the layers of several images that roll out at once, at eight bytes a member. */
const digestsKept = 256

/** Nodes that are hashed for a digest in less time than a fiber takes to wait for its turn. */
const fewNodes = 256

/** Nodes that are hashed for a digest in one go, if there is no hurry: for less than a millisecond. */
const sliceNodes = 2_000

/** Ranks in one list of nodes, each known by its position there. */
export interface Ranks {
  /** Whether ranks for a digest cost next to nothing: the nodes were hashed for it, or are few. */
  readonly isReady: (digest: Digest) => boolean
  /** Hashes a slice of the nodes for a digest. */
  readonly prepare: (digest: Digest) => void
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
  /** Up to which position the nodes were hashed for a digest in slices, until all of them are. */
  readonly begun: Map<Digest, number>
}

const nothing = (): Hashed => ({ slots: new Map(), leading: new Map(), begun: new Map() })

/**
 * Looks up, or makes, what a map keeps for the digests asked about last. Where
 * one has to go, what was kept for it may be used again.
 */
const recall = <A>(map: Map<Digest, A>, digest: Digest, make: (known: A | undefined, spare: A | undefined) => A): A => {
  const known = map.get(digest)
  const oldest = known === undefined && map.size === digestsKept ? map.keys().next().value : undefined
  const spare = oldest === undefined ? undefined : map.get(oldest)
  map.delete(oldest ?? digest)
  const value = make(known, spare)
  map.set(digest, value)
  return value
}

export const make = (nodes: ReadonlyArray<NodeId>): Ranks => build(nodes, nothing())

const build = (nodes: ReadonlyArray<NodeId>, hashed: Hashed): Ranks => {
  for (const nodeId of nodes) {
    if (!hashed.slots.has(nodeId)) hashed.slots.set(nodeId, hashed.slots.size)
  }
  const slots = Uint32Array.from(nodes, (nodeId) => hashed.slots.get(nodeId) as number)
  /** The ranks that were asked for, by position. */
  const ranksOf = new Map<Digest, Map<number, number>>()

  /** Room for the leading bits of all nodes. */
  const roomFor = (known: Float64Array | undefined, spare: Float64Array | undefined): Float64Array => {
    if (known !== undefined && known.length >= hashed.slots.size) return known
    // New arrays of this size, one per digest, would have the garbage collector stop everything again and again.
    const isLarge = spare !== undefined && spare.length >= hashed.slots.size
    const leading = (isLarge ? spare : new Float64Array(hashed.slots.size)).fill(Number.NaN)
    if (known !== undefined) leading.set(known)
    return leading
  }

  /** The leading bits for a digest, with those of the nodes between two positions. */
  const hash = (digest: Digest, from: number, to: number): Float64Array => {
    const leading = recall(hashed.leading, digest, roomFor)
    for (let position = from; position < to; position++) {
      const slot = slots[position] as number
      if (Number.isNaN(leading[slot])) leading[slot] = Rendezvous.leadingBits(nodes[position] as NodeId, digest)
    }
    return leading
  }

  const leadingFor = (digest: Digest): Float64Array => {
    hashed.begun.delete(digest)
    return hash(digest, 0, nodes.length)
  }

  const scoreAt = (position: number, digest: Digest): Rendezvous.Scored => {
    const nodeId = nodes[position] as NodeId
    return { nodeId, score: Rendezvous.score(nodeId, digest) }
  }

  const isBetter = (a: number, b: number, leading: Float64Array, digest: Digest): boolean => {
    const lead = (leading[slots[a] as number] as number) - (leading[slots[b] as number] as number)
    return lead === 0 && a !== b ? Rendezvous.compare(scoreAt(a, digest), scoreAt(b, digest)) < 0 : lead > 0
  }

  return {
    isReady: (digest) => nodes.length <= fewNodes || (hashed.leading.has(digest) && !hashed.begun.has(digest)),
    prepare(digest) {
      const from = hashed.begun.get(digest) ?? 0
      const to = Math.min(from + sliceNodes, nodes.length)
      hash(digest, from, to)
      if (to < nodes.length) recall(hashed.begun, digest, () => to)
      else hashed.begun.delete(digest)
    },
    rank(position, digest) {
      const ranks = recall(ranksOf, digest, (known = new Map<number, number>()) => known)
      const known = ranks.get(position)
      if (known !== undefined) return known
      const leading = leadingFor(digest)
      let rank = 0
      for (let other = 0; other < nodes.length; other++) {
        if (isBetter(other, position, leading, digest)) rank++
      }
      ranks.set(position, rank)
      return rank
    },
    best(positions, digest, count) {
      const leading = leadingFor(digest)
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
      build(changed, hashed.slots.size <= 2 * changed.length ? hashed : nothing())
  }
}
