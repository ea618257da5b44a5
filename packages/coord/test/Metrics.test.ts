import { assert, it } from "@effect/vitest"
import { Metrics } from "@gantry/coord"
import { Effect, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"

it.effect("counts under the names that dashboards for the Go agent expect", () =>
  Effect.gen(function* () {
    const metrics = yield* Metrics.Metrics
    yield* metrics.pullIntentServed
    yield* metrics.pullIntentStorageUnavailable
    yield* metrics.pleasePullServed
    yield* metrics.pleasePullStarted
    yield* metrics.pleasePullStarted
    yield* metrics.pleasePullDeclined
    yield* metrics.pleasePullMalformedDigest
    yield* metrics.streamError("read")
    yield* metrics.streamError("deadline")
    yield* metrics.unauthorizedPeer("unrecognized")
    yield* metrics.unauthorizedPeer("unevaluable")
    yield* metrics.foreignOutcomes(3)
    yield* metrics.hrwRankMismatch("layer")
    yield* metrics.inflightPulls(4)
    yield* metrics.negativeCacheEntries(5)
    yield* metrics.negativeCacheHit("not_found")
    yield* metrics.negativeCacheEnter("rate_limited")
    yield* metrics.originPull("manifest")
    yield* metrics.originPullSuccess("config")
    yield* metrics.originPullFailure("layer", "transient")
    yield* metrics.nodeFault("store")
    yield* metrics.nodeFault("access")
    const lines = (yield* PrometheusMetrics.format()).split("\n").filter((line) => line !== "" && !line.startsWith("#"))
    assert.deepStrictEqual(lines.sort(), [
      "gantry_coord_foreign_outcome_total 3",
      'gantry_coord_node_fault_total{fault="access"} 1',
      'gantry_coord_node_fault_total{fault="store"} 1',
      "gantry_coord_please_pull_malformed_digest_total 1",
      'gantry_coord_stream_error_reason_total{reason="deadline"} 1',
      'gantry_coord_stream_error_reason_total{reason="read"} 1',
      "p2p_coord_please_pull_declined_total 1",
      "p2p_coord_please_pull_served_total 1",
      "p2p_coord_please_pull_started_total 2",
      "p2p_coord_pull_intent_served_total 1",
      "p2p_coord_pull_intent_storage_unavailable_total 1",
      "p2p_coord_stream_error_total 2",
      'p2p_coord_unauthorized_peer_total{reason="unevaluable"} 1',
      'p2p_coord_unauthorized_peer_total{reason="unrecognized"} 1',
      'p2p_hrw_rank_mismatch_total{digest_kind="layer"} 1',
      "p2p_in_flight_pulls 4",
      'p2p_negative_cache_enter_total{class="rate_limited"} 1',
      "p2p_negative_cache_entries 5",
      'p2p_negative_cache_hit_total{class="not_found"} 1',
      'p2p_origin_pull_failure_total{kind="layer",class="transient"} 1',
      'p2p_origin_pull_success_total{kind="config"} 1',
      'p2p_origin_pull_total{kind="manifest"} 1'
    ])
  }).pipe(Effect.provide(Metrics.layer), Effect.provideService(Metric.MetricRegistry, new Map()))
)
