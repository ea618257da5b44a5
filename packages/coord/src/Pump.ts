/**
 * Starts pulls from the origin.
 */
import { ContentKind, type FailureClass, OriginRef, type Timestamp } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
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

/** What a pump did about one digest (protocol, section 4). */
export type PumpResult = Data.TaggedEnum<{
  Started: { readonly startedAt: Timestamp }
  AlreadyPulling: { readonly startedAt: Timestamp }
  RecentlyFailed: { readonly cooldownUntil: Timestamp; readonly failureClass: FailureClass }
  /** At the ceiling, or shutting down. */
  Declined: {}
  /** This node pulls nothing, by its composition. */
  NoPump: {}
}>
export const PumpResult = Data.taggedEnum<PumpResult>()

/** Decides about a pull at once, and runs it in the background. */
export class Pump extends Context.Service<
  Pump,
  {
    /**
     * Answers promptly: the reply to a peer waits for it. The pull itself outlives
     * the call. Interruption is safe at any point: either nothing began, or a pull
     * runs in the pump's own scope.
     */
    readonly pull: (request: PullRequest) => Effect.Effect<PumpResult>
  }
>()("@gantry/coord/Pump") {}

/** A node that pulls nothing from any origin. */
export const layerNone: Layer.Layer<Pump> = Layer.succeed(Pump, {
  pull: () => Effect.succeed(PumpResult.NoPump())
})
