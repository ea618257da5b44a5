/**
 * The second call of the protocol: asking a node to pull digests from the
 * origin.
 */
import * as Data from "effect/Data"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ContentKind } from "./ContentKind.ts"
import { Digest } from "./Digest.ts"
import type { FailureClass } from "./FailureClass.ts"
import { Registry, Repository } from "./OriginRef.ts"
import type { Timestamp } from "./Timestamp.ts"

/** Digests of one kind, of one repository (protocol, section 4). */
export class PleasePullRequest extends Schema.Class<PleasePullRequest>("@gantry/protocol/PleasePullRequest")({
  registry: Registry,
  repository: Repository,
  kind: ContentKind,
  digests: Schema.Array(Digest)
}) {}

/*
 * What follows is said of digests by the hundred, and made of what was checked
 * where it arrived: its constructors check nothing.
 */

/** The pull began with this request. */
export class Started extends Data.TaggedClass("Started")<{
  readonly startedAt: Option.Option<Timestamp>
}> {}

/** The pull runs already, or the node has the bytes. */
export class AlreadyPulling extends Data.TaggedClass("AlreadyPulling")<{
  readonly startedAt: Option.Option<Timestamp>
}> {}

/** The node does not try again before its cooldown ends. */
export class RecentlyFailed extends Data.TaggedClass("RecentlyFailed")<{
  readonly cooldownUntil: Option.Option<Timestamp>
  readonly failureClass: FailureClass
}> {}

/** The node did not take the digest on: it declined, has no pump, or ran out of time. */
export class Unspecified extends Data.TaggedClass("Unspecified")<{}> {}

/** What became of one requested digest. */
export type Verdict = Started | AlreadyPulling | RecentlyFailed | Unspecified

/** The verdict on one digest of a request. */
export class PleasePullOutcome extends Data.Class<{
  readonly digest: Digest
  readonly verdict: Verdict
}> {}
