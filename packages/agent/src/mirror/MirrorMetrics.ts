/**
 * What the mirror counts.
 */
import type * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

const requests = counter("gantry_mirror_request_total", "Requests answered, by method, kind and status.")
const deadlines = counter("gantry_mirror_deadline_total", "Answers that were not ready in time.")
const served = counter("gantry_mirror_bytes_served_total", "Bytes sent to clients, by kind and source.")
const hits = counter("p2p_cache_hit_total", "Requests that the store answered.")
const misses = counter("p2p_cache_miss_total", "Requests for what was not in the store.")
const tags = counter("gantry_tag_answer_total", "Tags answered, by how.")

const count = (metric: Metric.Counter<number>, attributes: Record<string, string>, amount = 1) =>
  Metric.update(Metric.withAttributes(metric, attributes), amount)

/** A request was answered. */
export const request = (method: string, kind: string, code: number): Effect.Effect<void> =>
  count(requests, { method: method.toLowerCase(), kind, code: `${code}` })

/** Something took longer than a client waits. */
export const deadline = (what: string): Effect.Effect<void> => count(deadlines, { what })

/** Bytes went out. */
export const bytes = (kind: string, source: string, amount: number): Effect.Effect<void> =>
  count(served, { kind, source }, amount)

/** Something was asked for: it was here, or had to come. */
export const cache = (source: string): Effect.Effect<void> => Metric.update(source === "store" ? hits : misses, 1)

/** A tag was answered. */
export const tagAnswer = (how: string): Effect.Effect<void> => count(tags, { how })
