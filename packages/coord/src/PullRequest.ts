/**
 * What a pump is asked for.
 */
import type { ContentKind, OriginRef } from "@gantry/protocol"

/**
 * Why a pull from the origin is asked for, for the record (parts, asking for a
 * digest). `please_pull`: a peer asked. `designated`: this node ranks best.
 * `takeover`: a better rank is stale, failed, declined or out of reach.
 * `fallback`: the ranks are exhausted. `hedge`: a better rank takes long over a
 * small blob, and is not given up.
 */
export interface PullReason {
  readonly rule: "please_pull" | "designated" | "takeover" | "hedge" | "fallback"
  /** Peer id of the asking peer, or our own node id. */
  readonly requester: string
  /** Our own rank for the digest among all members; -1 if we are not one. */
  readonly rank: number
}

/** One digest to pull. */
export interface PullRequest {
  readonly ref: OriginRef
  readonly kind: ContentKind
  readonly reason: PullReason
}
