/**
 * Keys that the Go agent has for parts of it that this one does without: its
 * DHT, its chairs, its direct fallback to the origin (NF5), its bootstrap. A
 * configuration that was written for it may keep them; they do nothing (agent,
 * section 2).
 */

const names: ReadonlySet<string> = new Set([
  "advertise_reconcile_interval",
  "bootstrap_routing_table_pct",
  "bootstrap_window",
  "dht_protocol_prefix",
  "libp2p_bootstrap_peers",
  "peer_max_attempts",
  "peer_rediscover_backoff",
  "peer_rediscover_budget",
  "rendezvous",
  "topk_expansion_factor_degraded"
])

const families = /^(?:dht|chair|nf5|bootstrap|rendezvous)_/

/** Whether a key is one of them. */
export const has = (key: string): boolean => names.has(key) || families.test(key)
