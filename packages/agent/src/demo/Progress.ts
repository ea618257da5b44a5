/**
 * How far the demo's nodes have come, as text.
 */
import type { NodeId } from "@gantry/protocol"
import * as Option from "effect/Option"
import { formatBytes } from "./Report.ts"

/** One node. */
export interface NodeProgress {
  readonly nodeId: NodeId
  readonly phase: "starting" | "ready" | "pulling" | "done" | "failed" | "killed"
  /** Bytes that have come in, of those that its manifest announces. */
  readonly bytes: number
  readonly totalBytes: number
  /** Digests that it has, of those that its manifest announces. */
  readonly digests: number
  readonly totalDigests: number
  /** How many of them it pulled from the origin itself. */
  readonly fromOrigin: number
}

/** All nodes, after some time. */
export interface Progress {
  readonly nodes: ReadonlyArray<NodeProgress>
  readonly elapsedMillis: number
}

/** A node that has been asked for. */
export const starting = (nodeId: NodeId): NodeProgress => ({
  nodeId,
  phase: "starting",
  bytes: 0,
  totalBytes: 0,
  digests: 0,
  totalDigests: 0,
  fromOrigin: 0
})

/** How text may look. */
export interface Style {
  readonly columns: number
  readonly rows: number
  readonly colours: boolean
}

const colourCodes = { green: 32, red: 31, yellow: 33 }

const paint = (style: Style, colour: keyof typeof colourCodes, text: string): string =>
  style.colours ? `\u001b[${colourCodes[colour]}m${text}\u001b[39m` : text

/** All nodes in one line, for a log. */
export const line = ({ elapsedMillis, nodes }: Progress): string => {
  const count = (phase: NodeProgress["phase"]) => nodes.filter((node) => node.phase === phase).length
  const sum = (field: "bytes" | "totalBytes") => nodes.reduce((total, node) => total + node[field], 0)
  const parts = [`${count("done")} of ${nodes.length} nodes have everything`]
  if (count("starting") > 0) parts.push(`${count("starting")} are starting`)
  if (count("failed") > 0) parts.push(`${count("failed")} failed`)
  if (count("killed") > 0) parts.push(`${count("killed")} was killed`)
  if (sum("totalBytes") > 0) parts.push(`${formatBytes(sum("bytes"))} of ${formatBytes(sum("totalBytes"))} are there`)
  return `${seconds(elapsedMillis)}  ${parts.join(", ")}`
}

/** What a node came to, for a log; none while it is on its way. */
export const news = (node: NodeProgress, elapsedMillis: number): Option.Option<string> => {
  const origin = node.fromOrigin === 0 ? "" : `, ${node.fromOrigin} of them from the origin`
  const what: Partial<Record<NodeProgress["phase"], string>> = {
    done: `has all ${node.totalDigests} digests${origin}`,
    failed: "failed",
    killed: "was killed"
  }
  return Option.map(
    Option.fromUndefinedOr(what[node.phase]),
    (text) => `${seconds(elapsedMillis)}  ${node.nodeId} ${text}`
  )
}

const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`.padStart(7)

/** A line per node, as many as fit; those that are still at work come first where not all do. */
export const lines = (progress: Progress, style: Style): ReadonlyArray<string> => {
  const room = Math.max(1, style.rows - 3)
  const { nodes } = progress
  const shown = nodes.length <= room ? nodes : [...nodes].sort((a, b) => urgency(a) - urgency(b)).slice(0, room - 1)
  const nameWidth = Math.max(...nodes.map(({ nodeId }) => nodeId.length))
  const hidden = nodes.length - shown.length
  return [
    clip(line(progress), style.columns),
    ...shown.map((node) => nodeLine(node, nameWidth, style)),
    ...(hidden > 0 ? [clip(`  and ${hidden} more`, style.columns)] : [])
  ]
}

const urgency = ({ phase }: NodeProgress): number =>
  ["failed", "pulling", "starting", "killed", "ready", "done"].indexOf(phase)

const barWidth = 20

const nodeLine = (node: NodeProgress, nameWidth: number, style: Style): string => {
  const name = `  ${node.nodeId.padEnd(nameWidth)}  `
  switch (node.phase) {
    case "starting":
    case "ready":
      return clip(`${name}${node.phase}`, style.columns)
    case "failed":
    case "killed":
      return paint(style, node.phase === "failed" ? "red" : "yellow", clip(`${name}${node.phase}`, style.columns))
    case "pulling":
    case "done": {
      const share = node.totalBytes === 0 ? 0 : Math.min(1, node.bytes / node.totalBytes)
      const filled = Math.floor(share * barWidth)
      const bar = "█".repeat(filled) + "░".repeat(barWidth - filled)
      const digests = `${node.digests}/${node.totalDigests}`.padStart(5)
      const origin = node.fromOrigin === 0 ? "" : `, ${node.fromOrigin} from the origin`
      const text = `${name}${bar} ${formatBytes(node.bytes).padStart(8)}  ${digests} digests${origin}`
      return node.phase === "done" ? paint(style, "green", clip(text, style.columns)) : clip(text, style.columns)
    }
  }
}

/** A line that wraps would push the ones above out of reach of the next redraw. */
const clip = (text: string, columns: number): string => (text.length < columns ? text : text.slice(0, columns - 1))
