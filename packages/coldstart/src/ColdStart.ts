/**
 * How a node that misses a digest obtains it.
 */
import { ContentKind, FailureClass, type NodeId, OriginRef } from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A digest that this node wants. */
export interface Wanted {
  readonly ref: OriginRef
  readonly kind: ContentKind
  /** In bytes, where a descriptor tells. */
  readonly size: Option.Option<number>
}

/** Where the bytes came from: they were here, a peer handed them over, or this node pulled them from the origin. */
export type Obtained =
  | { readonly _tag: "Local" }
  | { readonly _tag: "Peer"; readonly holder: NodeId; readonly bytes: number }
  | { readonly _tag: "Origin" }

/**
 * Why a digest was not obtained. `OriginFailed`: the puller reports a failure
 * that asking again would not change. `CoolingDown`: a transient failure whose
 * cooldown runs. `Exhausted`: every way was tried. `TimedOut`: the deadline
 * passed.
 */
export class ColdStartError extends Schema.TaggedError<ColdStartError>("@gantry/coldstart/ColdStartError")(
  "ColdStartError",
  {
    reason: Schema.Literals(["OriginFailed", "CoolingDown", "Exhausted", "TimedOut"]),
    ref: OriginRef,
    kind: ContentKind,
    failureClass: FailureClass,
    detail: Schema.String
  }
) {
  override get message(): string {
    return `cannot obtain ${this.ref} (${this.reason}, ${this.failureClass}): ${this.detail}`
  }
}

/** The requester's side of coordination (parts, asking for a digest). */
export class ColdStart extends Context.Service<
  ColdStart,
  {
    /** Succeeds once the digest is verified and in this node's store. Concurrent calls for one digest share the work. */
    readonly obtain: (wanted: Wanted) => Effect.Effect<Obtained, ColdStartError>
  }
>()("@gantry/coldstart/ColdStart") {}
