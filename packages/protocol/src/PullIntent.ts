/**
 * What a node knows about one digest: the answer to `pull_intent_query`.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { FailureClass } from "./FailureClass.ts"
import { Timestamp } from "./Timestamp.ts"

const Bytes = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

/** How far a running pull is (parts, Inflight). */
export const PullProgress = Schema.Struct({
  /** What has arrived, in bytes. */
  receivedBytes: Bytes,
  /** How many bytes there are in all, once it is known. */
  totalBytes: Schema.Option(Bytes)
})
export type PullProgress = typeof PullProgress.Type

/** A node's view of one digest (protocol, sections 2 and 4). */
export class PullIntent extends Schema.Class<PullIntent>("@gantry/protocol/PullIntent")({
  /** The node can hand out the whole blob. */
  hasCached: Schema.Boolean,
  /** The node is pulling it. */
  inFlight: Schema.Boolean,
  /** When that pull began, on the node's own clock. */
  startedAt: Schema.Option(Timestamp),
  /** How far that pull is; none from a node that does not tell, as Go's. */
  progress: Schema.Option(PullProgress).pipe(Schema.withConstructorDefault(Effect.succeedNone)),
  /** The node's own rank for the digest among all members, from 0; -1 if it is not one. */
  hrwRank: Schema.Int,
  /** A pull of it failed there, and its cooldown runs. */
  recentlyFailed: Schema.Boolean,
  /** The end of that cooldown, on the node's own clock. */
  cooldownUntil: Schema.Option(Timestamp),
  /** Why it failed; a hint, not a verdict. */
  failureClass: FailureClass
}) {}
