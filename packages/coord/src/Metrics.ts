/**
 * What coordination counts.
 */
import type { ContentKind, FailureClass } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"

/** Why an inbound stream ended without a normal reply. */
export type StreamErrorReason =
  | "stream_limit"
  | "peer_stream_limit"
  | "read"
  | "decode"
  | "deadline"
  | "request"
  | "write"
  | "defect"
  | "shutdown"

/**
 * One effect per event of the protocol's section 5, which says what fires when.
 * Events fire once per stream or once per digest, never both for one cause.
 */
export class Metrics extends Context.Service<
  Metrics,
  {
    /** A query was answered on the wire. */
    readonly pullIntentServed: Effect.Effect<void>
    /** A query, wire or local, was answered without the store, which could not be reached. */
    readonly pullIntentStorageUnavailable: Effect.Effect<void>
    /** A batch was answered on the wire. */
    readonly pleasePullServed: Effect.Effect<void>
    /** A digest's pull began. */
    readonly pleasePullStarted: Effect.Effect<void>
    /** A digest was declined. */
    readonly pleasePullDeclined: Effect.Effect<void>
    /** A malformed digest was left out of an answered batch. */
    readonly pleasePullMalformedDigest: Effect.Effect<void>
    /** An inbound stream ended without a normal reply. */
    readonly streamError: (reason: StreamErrorReason) => Effect.Effect<void>
    /** A stranger asked. */
    readonly unauthorizedPeer: (reason: "unrecognized" | "unevaluable") => Effect.Effect<void>
    /** A reply held outcomes for digests that were not asked for. */
    readonly foreignOutcomes: (count: number) => Effect.Effect<void>
    /** A responder's rank for itself differs from ours for it. */
    readonly hrwRankMismatch: (kind: ContentKind) => Effect.Effect<void>
    /** How many pulls run now. */
    readonly inflightPulls: (count: number) => Effect.Effect<void>
    /** How many origin references the negative cache remembers now. */
    readonly negativeCacheEntries: (count: number) => Effect.Effect<void>
    /** A pull was not begun because its reference failed recently. */
    readonly negativeCacheHit: (failure: FailureClass) => Effect.Effect<void>
    /** A failure was recorded. */
    readonly negativeCacheEnter: (failure: FailureClass) => Effect.Effect<void>
    /** A pull from the origin began. */
    readonly originPull: (kind: ContentKind) => Effect.Effect<void>
    /** A pull from the origin was stored. */
    readonly originPullSuccess: (kind: ContentKind) => Effect.Effect<void>
    /** A pull from the origin failed. */
    readonly originPullFailure: (kind: ContentKind, failure: FailureClass) => Effect.Effect<void>
    /** A pull failed by this node's own fault; counted as a failure of unspecified class too. */
    readonly nodeFault: (fault: "store" | "access") => Effect.Effect<void>
  }
>()("@gantry/coord/Metrics") {}

/** Counts nothing. */
export const layerNoop: Layer.Layer<Metrics> = Layer.succeed(Metrics, {
  pullIntentServed: Effect.void,
  pullIntentStorageUnavailable: Effect.void,
  pleasePullServed: Effect.void,
  pleasePullStarted: Effect.void,
  pleasePullDeclined: Effect.void,
  pleasePullMalformedDigest: Effect.void,
  streamError: () => Effect.void,
  unauthorizedPeer: () => Effect.void,
  foreignOutcomes: () => Effect.void,
  hrwRankMismatch: () => Effect.void,
  inflightPulls: () => Effect.void,
  negativeCacheEntries: () => Effect.void,
  negativeCacheHit: () => Effect.void,
  negativeCacheEnter: () => Effect.void,
  originPull: () => Effect.void,
  originPullSuccess: () => Effect.void,
  originPullFailure: () => Effect.void,
  nodeFault: () => Effect.void
})

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const gauge = (name: string, description: string) => Metric.gauge(name, { description })

const pullIntentServed = counter("p2p_coord_pull_intent_served_total", "Pull intent queries answered.")
const pullIntentStorageUnavailable = counter(
  "p2p_coord_pull_intent_storage_unavailable_total",
  "Pull intent queries answered while the store could not be reached."
)
const pleasePullServed = counter("p2p_coord_please_pull_served_total", "please_pull requests answered.")
const pleasePullStarted = counter("p2p_coord_please_pull_started_total", "Digests whose pull began.")
const pleasePullDeclined = counter(
  "p2p_coord_please_pull_declined_total",
  "Digests declined at the ceiling or while shutting down."
)
const pleasePullMalformedDigest = counter(
  "gantry_coord_please_pull_malformed_digest_total",
  "Malformed digests left out of an answered please_pull."
)
const streamError = counter("p2p_coord_stream_error_total", "Inbound streams that ended without a normal reply.")
const streamErrorReason = counter(
  "gantry_coord_stream_error_reason_total",
  "Inbound streams that ended without a normal reply, by reason."
)
const unauthorizedPeer = counter("p2p_coord_unauthorized_peer_total", "Requests of peers that are not members.")
const foreignOutcomes = counter(
  "gantry_coord_foreign_outcome_total",
  "Outcomes in replies for digests that were not asked for."
)
const hrwRankMismatch = counter(
  "p2p_hrw_rank_mismatch_total",
  "Responders whose rank for themselves differs from ours."
)
const inflightPulls = gauge("p2p_in_flight_pulls", "Pulls from the origin that run now.")
const negativeCacheEntries = gauge("p2p_negative_cache_entries", "Origin references whose failures are remembered.")
const negativeCacheHit = counter("p2p_negative_cache_hit_total", "Pulls not begun because of a recent failure.")
const negativeCacheEnter = counter("p2p_negative_cache_enter_total", "Failures recorded.")
const originPull = counter("p2p_origin_pull_total", "Pulls from the origin begun.")
const originPullSuccess = counter("p2p_origin_pull_success_total", "Pulls from the origin stored.")
const originPullFailure = counter("p2p_origin_pull_failure_total", "Pulls from the origin failed.")

const nodeFault = counter(
  "gantry_coord_node_fault_total",
  "Pulls from the origin that failed by this node's own fault."
)

const increment = (metric: Metric.Counter<number>) => Metric.update(metric, 1)
const incrementWith = (metric: Metric.Counter<number>, attributes: Record<string, string>) =>
  Metric.update(Metric.withAttributes(metric, attributes), 1)

/** Counts in Effect's metric registry, under the names that dashboards for the Go agent expect. */
export const layer: Layer.Layer<Metrics> = Layer.succeed(Metrics, {
  pullIntentServed: increment(pullIntentServed),
  pullIntentStorageUnavailable: increment(pullIntentStorageUnavailable),
  pleasePullServed: increment(pleasePullServed),
  pleasePullStarted: increment(pleasePullStarted),
  pleasePullDeclined: increment(pleasePullDeclined),
  pleasePullMalformedDigest: increment(pleasePullMalformedDigest),
  streamError: (reason) => Effect.andThen(increment(streamError), incrementWith(streamErrorReason, { reason })),
  unauthorizedPeer: (reason) => incrementWith(unauthorizedPeer, { reason }),
  foreignOutcomes: (count) => Metric.update(foreignOutcomes, count),
  hrwRankMismatch: (kind) => incrementWith(hrwRankMismatch, { digest_kind: kind }),
  inflightPulls: (count) => Metric.update(inflightPulls, count),
  negativeCacheEntries: (count) => Metric.update(negativeCacheEntries, count),
  negativeCacheHit: (failure) => incrementWith(negativeCacheHit, { class: failure }),
  negativeCacheEnter: (failure) => incrementWith(negativeCacheEnter, { class: failure }),
  originPull: (kind) => incrementWith(originPull, { kind }),
  originPullSuccess: (kind) => incrementWith(originPullSuccess, { kind }),
  originPullFailure: (kind, failure) => incrementWith(originPullFailure, { kind, class: failure }),
  nodeFault: (fault) => incrementWith(nodeFault, { fault })
})
