/**
 * What many simulations came to.
 */
import type { Result } from "./Simulation.ts"

/** Counts over all seeds. */
export interface Summary {
  seeds: number
  nodes: number
  streams: number
  millis: number
  readonly outcomes: Map<string, number>
  /** Pulls from the origin, by the rule they were asked for by. */
  readonly pulls: Map<string, number>
  /** Pulls while another node of the same view was pulling the same, by the rule. */
  readonly excess: Map<string, number>
  /** How many of them came about where something may hide a pull, by what that is; several things may. */
  readonly hidden: Map<string, number>
  readonly violations: Map<string, number>
  readonly failed: Array<number>
}

export const make = (): Summary => ({
  seeds: 0,
  nodes: 0,
  streams: 0,
  millis: 0,
  outcomes: new Map(),
  pulls: new Map(),
  excess: new Map(),
  hidden: new Map(),
  violations: new Map(),
  failed: []
})

const count = (counts: Map<string, number>, name: string, amount = 1) =>
  counts.set(name, (counts.get(name) ?? 0) + amount)

export const add = (summary: Summary, result: Result): void => {
  const { plan } = result
  summary.seeds++
  summary.nodes += plan.nodes.length
  summary.streams += result.streams
  summary.millis += result.millis
  for (const [outcome, amount] of result.outcomes) count(summary.outcomes, outcome, amount)
  for (const { besides, rank, rule } of result.pulls) {
    const place = rule !== "please_pull" ? rule : rank === 0 ? "please_pull to the best" : "please_pull to another"
    count(summary.pulls, place)
    if (besides === 0) continue
    count(summary.excess, place)
    for (const hide of plan.hides.length > 0 ? plan.hides : ["no excuse"]) count(summary.hidden, hide)
  }
  for (const { invariant } of result.violations) count(summary.violations, invariant)
  if (result.violations.length > 0) summary.failed.push(plan.seed)
}

const total = (counts: ReadonlyMap<string, number>) => [...counts.values()].reduce((sum, amount) => sum + amount, 0)

const lines = (title: string, counts: ReadonlyMap<string, number>): ReadonlyArray<string> => [
  `${title.padEnd(24)} ${total(counts)}`,
  ...[...counts].toSorted(([, a], [, b]) => b - a).map(([name, amount]) => `  ${name.padEnd(22)} ${amount}`)
]

/** The counts as text; the last line says how many seeds passed. */
export const format = (summary: Summary): string => {
  const { failed, seeds } = summary
  return [
    `${"seeds".padEnd(24)} ${seeds}`,
    `${"nodes".padEnd(24)} ${summary.nodes}`,
    `${"streams".padEnd(24)} ${summary.streams}`,
    `${"simulated time".padEnd(24)} ${Math.round(summary.millis / 1000)} s`,
    ...lines("requests", summary.outcomes),
    ...lines("origin pulls", summary.pulls),
    ...lines("excess pulls", summary.excess),
    ...lines("", summary.hidden)
      .slice(1)
      .map((line) => `  amid ${line.trimStart()}`),
    ...lines("failures", summary.violations),
    `${seeds - failed.length} passed, ${failed.length} failed`
  ].join("\n")
}
