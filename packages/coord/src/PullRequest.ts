/**
 * What a pump is asked for.
 */
import { ContentKind, OriginRef } from "@gantry/protocol"
import * as Schema from "effect/Schema"

/**
 * Why a pull from the origin is asked for, for the record (parts, asking for a
 * digest). `please_pull`: a peer asked. `designated`: this node ranks best.
 * `takeover`: a better rank is stale, declined or out of reach. `fallback`: the
 * ranks are exhausted. `hedge`: a better rank takes long over a small blob, and
 * is not given up.
 */
export class PullReason extends Schema.Class<PullReason>("@gantry/coord/PullReason")({
  rule: Schema.Literals(["please_pull", "designated", "takeover", "hedge", "fallback"]),
  /** Peer id of the asking peer, or our own node id. */
  requester: Schema.String,
  /** Our own rank for the digest among all members; -1 if we are not one. */
  rank: Schema.Int
}) {}

/** One digest to pull. */
export class PullRequest extends Schema.Class<PullRequest>("@gantry/coord/PullRequest")({
  ref: OriginRef,
  kind: ContentKind,
  reason: PullReason
}) {}
