/**
 * Rendezvous hashing (highest random weight): every node ranks the members for
 * a digest by itself, and nodes with the same membership agree (protocol,
 * section 8).
 */
import * as Crypto from "node:crypto"
import type { Digest } from "./Digest.ts"
import type { NodeId } from "./NodeId.ts"

/** A node and its score for one digest. */
export interface Scored {
  readonly nodeId: NodeId
  /** 64 lower-case hexadecimal characters; as text they compare as the 32 bytes do. */
  readonly score: string
}

/** SHA-256 over the UTF-8 bytes of the node id followed by those of the digest. */
export const score = (nodeId: NodeId, digest: Digest): string => Crypto.hash("sha256", nodeId + digest, "hex")

/**
 * The first 48 bits of a score as a number: for whoever keeps scores of
 * thousands of nodes. The larger number has the better score; of equal ones
 * only {@link compare} knows.
 */
export const leadingBits = (nodeId: NodeId, digest: Digest): number => {
  const bytes = Crypto.hash("sha256", nodeId + digest, "binary")
  let bits = 0
  for (let index = 0; index < 6; index++) bits = bits * 0x100 + bytes.charCodeAt(index)
  return bits
}

/**
 * Orders scored nodes best first. Equal scores go to the larger node id by
 * UTF-8 bytes; JavaScript's own comparison goes by UTF-16 units and differs for
 * some ids.
 */
export const compare = (a: Scored, b: Scored): number => {
  if (a.score !== b.score) return a.score > b.score ? -1 : 1
  return Buffer.compare(Buffer.from(b.nodeId), Buffer.from(a.nodeId))
}

const scoreAll = (nodes: Iterable<NodeId>, digest: Digest): Array<Scored> =>
  Array.from(new Set(nodes), (nodeId) => ({ nodeId, score: score(nodeId, digest) }))

/** All nodes, best first; each counts once, however often it is listed. */
export const rank = (nodes: Iterable<NodeId>, digest: Digest): ReadonlyArray<NodeId> =>
  scoreAll(nodes, digest)
    .sort(compare)
    .map((scored) => scored.nodeId)

/** The best `count` nodes, best first; all if there are fewer, none if `count` is not positive. */
export const topK = (nodes: Iterable<NodeId>, digest: Digest, count: number): ReadonlyArray<NodeId> => {
  const best: Array<Scored> = []
  if (count <= 0) return []
  for (const scored of scoreAll(nodes, digest)) {
    const last = best[best.length - 1]
    if (best.length >= count && last !== undefined && compare(last, scored) <= 0) continue
    const at = best.findIndex((other) => compare(scored, other) < 0)
    best.splice(at < 0 ? best.length : at, 0, scored)
    if (best.length > count) best.pop()
  }
  return best.map((scored) => scored.nodeId)
}

/** How many other nodes are better than `self`, from 0; -1 if `self` is not among them. */
export const rankOf = (nodes: Iterable<NodeId>, self: NodeId, digest: Digest): number => {
  const own: Scored = { nodeId: self, score: score(self, digest) }
  let listed = false
  let better = 0
  for (const scored of scoreAll(nodes, digest)) {
    if (scored.nodeId === self) listed = true
    else if (compare(scored, own) < 0) better++
  }
  return listed ? better : -1
}
