/**
 * What a demo run came to, and whether it is what Gantry promises.
 */
import { ContentKind, Digest, digestHex, NodeId } from "@gantry/protocol"
import * as Schema from "effect/Schema"

/** One digest of the image. */
export const DigestReport = Schema.Struct({
  digest: Digest,
  kind: ContentKind,
  /** In bytes. */
  size: Schema.Int,
  /** The node that ranks best for the digest. */
  puller: NodeId,
  /** How often it left the origin. */
  originPulls: Schema.Int,
  /** How often one node had it from another. */
  peerTransfers: Schema.Int
})
export type DigestReport = typeof DigestReport.Type

/** The outcome of a run; as JSON it is what `gantry demo --json` prints. */
export const Report = Schema.Struct({
  /** How many nodes took part, the killed one included. */
  nodes: Schema.Int,
  /** How many digests the image has. */
  digests: Schema.Int,
  originPulls: Schema.Struct({
    /** Of one digest. */
    max: Schema.Int,
    total: Schema.Int
  }),
  /** Blobs on the nodes' disks, over all nodes, whose bytes have their digest. */
  verified: Schema.Int,
  /** Blobs that a node lacks or has with other bytes. */
  failed: Schema.Int,
  bytesFromOrigin: Schema.Int,
  /** What as many pulls from the origin as there are nodes would have taken. */
  bytesDirect: Schema.Int,
  /** From the moment all nodes asked until the last one had everything. */
  secondsToLastNode: Schema.Finite,
  /** The node that was killed on purpose. */
  killed: Schema.NullOr(NodeId),
  /** What is not as it should be, for people; empty after a good run. */
  problems: Schema.Array(Schema.String),
  pulls: Schema.Array(DigestReport)
})
export type Report = typeof Report.Type

/** A digest that every node should have. */
export interface ExpectedBlob {
  readonly digest: Digest
  readonly kind: ContentKind
  readonly size: number
}

/** A blob on its way from the origin to a node, however many responses that took. */
export interface Pull {
  readonly digest: Digest
  /** Who pulled it. */
  readonly account: string
  readonly bytes: number
}

/** One node's part in a run. */
export interface NodeOutcome {
  readonly nodeId: NodeId
  /** Why it did not bring the image in; undefined if it did. */
  readonly failure: string | undefined
  /** The digests whose bytes, read from its disk, are right. */
  readonly verified: ReadonlySet<Digest>
  /** What is wrong with others that are there, and with its index. */
  readonly flaws: ReadonlyArray<string>
}

/** What is known after a run. */
export interface Findings {
  readonly blobs: ReadonlyArray<ExpectedBlob>
  /** Of every node that was not killed. */
  readonly nodes: ReadonlyArray<NodeOutcome>
  readonly killed: NodeId | undefined
  readonly designated: (digest: Digest) => NodeId
  readonly originPulls: ReadonlyArray<Pull>
  /** How often each digest went from one node to another. */
  readonly peerTransfers: ReadonlyMap<Digest, number>
  readonly secondsToLastNode: number
}

/** Draws the conclusions. */
export const make = (findings: Findings): Report => {
  const pulls = findings.blobs.map(({ digest, kind, size }) => ({
    digest,
    kind,
    size,
    puller: findings.designated(digest),
    originPulls: findings.originPulls.filter((pull) => pull.digest === digest).length,
    peerTransfers: findings.peerTransfers.get(digest) ?? 0
  }))
  const nodes = findings.nodes.length + (findings.killed === undefined ? 0 : 1)
  const verified = findings.nodes.map((node) => findings.blobs.filter(({ digest }) => node.verified.has(digest)).length)
  const total = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, number) => sum + number, 0)
  return {
    nodes,
    digests: findings.blobs.length,
    originPulls: {
      max: Math.max(0, ...pulls.map(({ originPulls }) => originPulls)),
      total: findings.originPulls.length
    },
    verified: total(verified),
    failed: findings.nodes.length * findings.blobs.length - total(verified),
    bytesFromOrigin: total(findings.originPulls.map(({ bytes }) => bytes)),
    bytesDirect: nodes * totalSize(findings.blobs),
    secondsToLastNode: findings.secondsToLastNode,
    killed: findings.killed ?? null,
    problems: [...problemsOfOrigin(findings), ...findings.nodes.flatMap((node) => problemsOfNode(findings, node))],
    pulls
  }
}

/** A digest leaves the origin once, and at most once more if the node that was pulling it was killed. */
const problemsOfOrigin = ({ blobs, killed, nodes, originPulls }: Findings): ReadonlyArray<string> =>
  blobs.flatMap(({ digest, kind }) => {
    const pullers = originPulls.filter((pull) => pull.digest === digest).map(({ account }) => account)
    const allowed = killed !== undefined && pullers.includes(killed) ? 2 : 1
    if (pullers.length > allowed) {
      return [`the ${kind} ${shortDigest(digest)} left the origin ${pullers.length} times, to ${pullers.join(", ")}`]
    }
    return pullers.length === 0 && nodes.some(({ verified }) => verified.has(digest))
      ? [`the ${kind} ${shortDigest(digest)} is there, and by the records never left the origin`]
      : []
  })

/** One line, however much is wrong with the node. */
const problemsOfNode = (
  { blobs }: Findings,
  { failure, flaws, nodeId, verified }: NodeOutcome
): ReadonlyArray<string> => {
  const missing = blobs.filter(({ digest }) => !verified.has(digest)).map(({ digest }) => shortDigest(digest))
  const problems = [
    ...(failure === undefined ? [] : [failure]),
    ...(missing.length === 0 ? [] : [`it lacks ${missing.join(", ")}`]),
    ...flaws
  ]
  return problems.length === 0 ? [] : [`${nodeId}: ${problems.join("; ")}`]
}

/** Of all blobs together, in bytes. */
export const totalSize = (blobs: ReadonlyArray<{ readonly size: number }>): number =>
  blobs.reduce((total, { size }) => total + size, 0)

/** The first twelve characters, as container tools show a digest. */
export const shortDigest = (digest: Digest): string => digestHex(digest).slice(0, 12)

/** Bytes for people, for example `72.5 MB`. */
export const formatBytes = (bytes: number): string => {
  if (bytes < 1000) return `${bytes} B`
  const units = ["kB", "MB", "GB", "TB"]
  const exponent = Math.min(Math.floor(Math.log10(bytes) / 3), units.length)
  return `${(bytes / 1000 ** exponent).toFixed(1)} ${units[exponent - 1]}`
}

/** The report for people: a table with a line per digest, and a summary. */
export const render = (report: Report): ReadonlyArray<string> => [
  ...table(
    ["digest", "kind", "size", "puller", "origin pulls", "peer transfers"],
    report.pulls.map(({ digest, kind, originPulls, peerTransfers, puller, size }) => [
      shortDigest(digest),
      kind,
      formatBytes(size),
      puller,
      String(originPulls),
      String(peerTransfers)
    ])
  ),
  "",
  ...summary(report)
]

const summary = (report: Report): ReadonlyArray<string> => {
  const { bytesDirect, bytesFromOrigin, digests, failed, killed, nodes, originPulls, secondsToLastNode, verified } =
    report
  const share = bytesFromOrigin === 0 ? "" : `, ${(bytesDirect / bytesFromOrigin).toFixed(1)} times as much`
  return [
    `${nodes} nodes${killed === null ? "" : ` (${killed} was killed)`}, ${digests} digests, ${originPulls.total} pulls from the origin, at most ${originPulls.max} of one digest`,
    `from the origin ${formatBytes(bytesFromOrigin)}; ${nodes} direct pulls would have taken ${formatBytes(bytesDirect)}${share}`,
    `the last node had everything after ${secondsToLastNode.toFixed(1)} s`,
    `${verified} blobs on disk have their digest${failed === 0 ? "" : `, ${failed} are missing or wrong`}`
  ]
}

/** Columns as wide as they need to be; those of numbers flush right. */
const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const flushRight = new Set([2, 4, 5])
  const line = (cells: ReadonlyArray<string>) =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0
        return flushRight.has(column) ? cell.padStart(width) : cell.padEnd(width)
      })
      .join("  ")
      .trimEnd()
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)]
}
