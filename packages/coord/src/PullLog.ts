/**
 * The record of pulls from the origin.
 */
import type { ContentKind, FailureClass, OriginRef, Timestamp } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Take from "effect/Take"
import type { PullReason } from "./PullRequest.ts"

/** How a pull ended. */
export type PullOutcome = Data.TaggedEnum<{
  Stored: {}
  Failed: { readonly failureClass: FailureClass; readonly detail: string }
  /** This node could not, whatever the registry has: its store takes no bytes, or it has no way to the registry. */
  Unable: { readonly fault: "store" | "access"; readonly detail: string }
  /** This node shut down before the origin had delivered. */
  Interrupted: {}
}>
export const PullOutcome = Data.taggedEnum<PullOutcome>()

/** One pull from the origin, and why there was one (parts, asking for a digest). */
export interface PullRecord {
  readonly ref: OriginRef
  readonly kind: ContentKind
  readonly reason: PullReason
  readonly startedAt: Timestamp
  readonly outcome: PullOutcome
  /** What came from the origin, in bytes; more than the blob has if some came twice. */
  readonly bytes: number
}

/** The record of pulls from the origin, each as it ends. */
export class PullLog extends Context.Service<
  PullLog,
  {
    /** From now on, until the pump's scope closes. A reader that falls 1,024 behind loses the oldest. */
    readonly pulls: Stream.Stream<PullRecord>
  }
>()("@gantry/coord/PullLog") {}

const capacity = 1024

/** A log, and how it is written. The end of the scope ends its readers. */
export const make: Effect.Effect<
  { readonly log: PullLog["Service"]; readonly append: (record: PullRecord) => Effect.Effect<void> },
  never,
  Scope.Scope
> = Effect.gen(function* () {
  const records = yield* Effect.acquireRelease(PubSub.sliding<Take.Take<PullRecord>>(capacity), (records) =>
    PubSub.end(records, Exit.void)
  )
  return {
    log: PullLog.of({ pulls: Stream.fromPubSubTake(records) }),
    append: (record) => Effect.asVoid(PubSub.publish(records, [record]))
  }
})
