/**
 * The second call of the protocol: asking a node to pull digests from the
 * origin.
 */
import * as Schema from "effect/Schema"
import { ContentKind } from "./ContentKind.ts"
import { Digest } from "./Digest.ts"
import { FailureClass } from "./FailureClass.ts"
import { Registry, Repository } from "./OriginRef.ts"
import { Timestamp } from "./Timestamp.ts"

/** Digests of one kind, of one repository (protocol, section 4). */
export class PleasePullRequest extends Schema.Class<PleasePullRequest>("@gantry/protocol/PleasePullRequest")({
  registry: Registry,
  repository: Repository,
  kind: ContentKind,
  digests: Schema.Array(Digest)
}) {}

/** The pull began with this request. */
export class Started extends Schema.TaggedClass<Started>("@gantry/protocol/Started")("Started", {
  startedAt: Schema.Option(Timestamp)
}) {}

/** The pull runs already, or the node has the bytes. */
export class AlreadyPulling extends Schema.TaggedClass<AlreadyPulling>("@gantry/protocol/AlreadyPulling")(
  "AlreadyPulling",
  { startedAt: Schema.Option(Timestamp) }
) {}

/** The node does not try again before its cooldown ends. */
export class RecentlyFailed extends Schema.TaggedClass<RecentlyFailed>("@gantry/protocol/RecentlyFailed")(
  "RecentlyFailed",
  { cooldownUntil: Schema.Option(Timestamp), failureClass: FailureClass }
) {}

/** The node did not take the digest on: it declined, has no pump, or ran out of time. */
export class Unspecified extends Schema.TaggedClass<Unspecified>("@gantry/protocol/Unspecified")("Unspecified", {}) {}

/** What became of one requested digest. */
export const Verdict = Schema.Union([Started, AlreadyPulling, RecentlyFailed, Unspecified])
export type Verdict = typeof Verdict.Type

/** The verdict on one digest of a request. */
export class PleasePullOutcome extends Schema.Class<PleasePullOutcome>("@gantry/protocol/PleasePullOutcome")({
  digest: Digest,
  verdict: Verdict
}) {}
