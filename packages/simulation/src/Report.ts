/**
 * One simulation as a page: a lane per node, with requests, messages, pulls,
 * transfers and faults along the time.
 */
import type { PlannedFault } from "./Plan.ts"
import type { Result } from "./Simulation.ts"
import * as Summary from "./Summary.ts"
import * as Timeline from "./Timeline.ts"

const gutter = 90
const width = 1_280
const lane = 18
const top = 46

const escape = (text: string) => text.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`)

/** An element with a tooltip. */
const element = (name: string, attributes: Record<string, string | number>, title = "") => {
  const written = Object.entries(attributes).map(([key, value]) => `${key}="${escape(String(value))}"`)
  return `<${name} ${written.join(" ")}>${title === "" ? "" : `<title>${escape(title)}</title>`}</${name}>`
}

const text = (attributes: Record<string, string | number>, content: string) =>
  element("text", attributes).replace("></text>", `>${escape(content)}</text>`)

const faultText = (fault: PlannedFault): string => {
  const { _tag, at, until, ...rest } = fault
  const details = Object.entries(rest).map(([key, value]) => `${key} ${String(value)}`)
  return `${_tag}, ${at} to ${Number.isFinite(until) ? until : "the end"} ms: ${details.join("; ")}`
}

/** A step between ticks that leaves about a dozen of them. */
const tickMillis = (millis: number) => {
  const steps = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000]
  return steps.find((step) => millis / step <= 14) ?? 600_000
}

const draw = (result: Result): string => {
  const { events, plan, pulls } = result
  const end = Math.max(1_000, ...events.map(({ at }) => at))
  const x = (at: number) => Math.round(10 * (gutter + (Math.min(at, end) / end) * (width - gutter - 20))) / 10
  const y = (node: number) => top + node * lane + lane / 2
  const height = top + plan.nodes.length * lane + 10
  const shapes: Array<string> = []

  for (let at = 0; at <= end; at += tickMillis(end)) {
    shapes.push(element("line", { class: "tick", x1: x(at), x2: x(at), y1: top - 8, y2: height }))
    shapes.push(text({ class: "time", x: x(at), y: top - 14 }, `${at / 1_000} s`))
  }
  plan.nodes.forEach(({ zone }, node) => {
    shapes.push(element("line", { class: "lane", x1: gutter, x2: width - 20, y1: y(node), y2: y(node) }))
    shapes.push(
      text(
        { class: "name", x: gutter - 8, y: y(node) + 4 },
        `node-${node}${zone === undefined ? "" : ` ${zone.slice(5)}`}`
      )
    )
  })
  for (const fault of plan.faults) {
    if (fault.at > end) continue
    const span = { x: x(fault.at), width: Math.max(2, x(fault.until) - x(fault.at)) }
    const isLocal = "node" in fault
    const rows = fault._tag === "Partition" ? fault.group : isLocal ? [fault.node] : undefined
    const title = faultText(fault)
    if (rows === undefined)
      shapes.push(element("rect", { class: "network", ...span, y: top - 8, height: height - top }, title))
    for (const node of rows ?? []) {
      shapes.push(
        element("rect", { class: `fault ${fault._tag}`, ...span, y: y(node) - lane / 2, height: lane }, title)
      )
    }
  }
  for (const { at, kind, node, peer, text: title } of events) {
    if (node === undefined || peer === undefined || (kind !== "message" && kind !== "transfer")) continue
    const way = { x1: x(at), x2: x(at) + 5, y1: y(node), y2: y(peer) }
    shapes.push(element("line", { class: kind, ...way }, `${at} ms: node-${node} ${title}`))
  }
  for (const { at, besides, ended, node, rule, ...pull } of pulls) {
    const title = `node-${node} pulls from ${at} to ${ended ?? "the end"} ms: ${rule}, asked by node-${pull.requester}, rank ${pull.rank}`
    const span = { x: x(at), width: Math.max(3, x(ended ?? end) - x(at)) }
    const name = `pull ${besides > 0 ? "excess" : ""}`
    shapes.push(element("rect", { class: name, ...span, y: y(node) - 5, height: 10 }, title))
  }
  for (const { at, kind, node, text: title } of events) {
    if (node === undefined) continue
    const place = { cx: x(at), cy: y(node) }
    const tip = `${at} ms: node-${node} ${title}`
    if (kind === "request") shapes.push(element("circle", { class: "request", ...place, r: 3 }, tip))
    if (kind === "outcome") {
      const name = title.startsWith("has ") ? "has" : "fails"
      shapes.push(element("circle", { class: name, ...place, r: 4 }, tip))
    }
    if (kind === "violation") shapes.push(element("circle", { class: "violation", ...place, r: 7 }, tip))
  }
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Timeline">${shapes.join("\n")}</svg>`
}

const style = `
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1320px; padding: 0 1rem; color: #1d2733; background: #fff }
  h1 { font-size: 1.4rem } pre { font: 12px/1.45 ui-monospace, monospace; overflow: auto; max-height: 40rem; background: #f5f7f9; padding: 1rem }
  svg { width: 100%; height: auto; border: 1px solid #dde3e9 }
  text { font: 10px system-ui, sans-serif; fill: #566573 } .name { text-anchor: end } .time { text-anchor: middle }
  .lane { stroke: #e4e9ee } .tick { stroke: #eef1f4 }
  .fault { fill: #e67e22; opacity: .22 } .Crash, .Shutdown { fill: #555; opacity: .3 } .Partition { fill: #8e44ad }
  .Freeze { fill: #2e86c1 } .network { fill: #f5b041; opacity: .12 }
  .message { stroke: #7f8c8d; stroke-width: .7 } .transfer { stroke: #3498db; stroke-width: .8; opacity: .6 }
  .pull { fill: #16a085 } .excess { fill: #d35400; stroke: #a93226 }
  .request { fill: #fff; stroke: #34495e } .has { fill: #27ae60 } .fails { fill: #c0392b } .violation { fill: none; stroke: #ff0033; stroke-width: 2.5 }
  .legend span { margin-right: 1.2rem; white-space: nowrap } .legend i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; border-radius: 2px }
  .bad { color: #a93226; font-weight: 600 }
`

const legend = [
  ["#fff;border:1px solid #34495e", "asks"],
  ["#27ae60", "has it"],
  ["#c0392b", "fails"],
  ["#16a085", "pulls from the origin"],
  ["#d35400", "pulls besides another"],
  ["#7f8c8d", "please_pull"],
  ["#3498db", "transfer between nodes"],
  ["#e67e22;opacity:.4", "something is wrong"],
  ["#555;opacity:.4", "down"],
  ["#8e44ad;opacity:.4", "parted"],
  ["#2e86c1;opacity:.4", "frozen"]
].map(([colour, meaning]) => `<span><i style="background:${colour}"></i>${meaning}</span>`)

/** A page that needs nothing but itself. */
export const render = (result: Result): string => {
  const { plan, violations } = result
  const summary = Summary.make()
  Summary.add(summary, result)
  const { jitterMillis, latencyMillis } = plan
  const latency = jitterMillis === 0 ? `${latencyMillis}` : `${latencyMillis} to ${latencyMillis + jitterMillis}`
  const excuses = plan.hides.length === 0 ? "nothing hides a pull" : `pulls may be hidden by ${plan.hides.join(", ")}`
  const broken = violations.map(
    ({ at, detail, invariant }) => `<li class="bad">${at} ms: ${escape(invariant)}: ${escape(detail)}</li>`
  )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Seed ${plan.seed}</title><style>${style}</style></head><body>
<h1>Seed ${plan.seed}: ${plan.nodes.length} nodes, ${plan.requests.length} requests</h1>
<p>One way takes ${latency} ms; ${escape(excuses)}.</p>
${broken.length === 0 ? "<p>Every invariant held.</p>" : `<ul>${broken.join("")}</ul>`}
<p class="legend">${legend.join(" ")}</p>
${draw(result)}
<h2>Counts</h2><pre>${escape(Summary.format(summary))}</pre>
<details><summary>Timeline</summary><pre>${escape(Timeline.format(result.events))}</pre></details>
</body></html>
`
}
