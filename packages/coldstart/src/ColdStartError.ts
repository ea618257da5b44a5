/**
 * Why a digest was not obtained.
 */
import { ContentKind, describeCause, FailureClass, NodeId, OriginRef } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** How the pull of one node failed, as the node says. */
export const Witness = Schema.Struct({ node: NodeId, failureClass: FailureClass })
export type Witness = typeof Witness.Type

/** Why a node does not pull. */
export const Refusal = Schema.Struct({ node: NodeId, why: Schema.String })
export type Refusal = typeof Refusal.Type

const testimony = (witnesses: ReadonlyArray<Witness>) =>
  witnesses.map(({ failureClass, node }) => `${node} says ${failureClass}`).join(", ")

const advice = { auth: "check the credentials for it", not_found: "check its name" }

/** The registry refuses it, which asking again would not change. The last witness's word is the verdict. */
export class OriginFailed extends Schema.TaggedError<OriginFailed>("@gantry/coldstart/OriginFailed")("OriginFailed", {
  failureClass: Schema.Literals(["auth", "not_found"]),
  witnesses: Schema.Array(Witness)
}) {
  override get message(): string {
    return `the registry refuses it (${testimony(this.witnesses)}); ${advice[this.failureClass]}`
  }
}

/** A failure that may pass. The last witness's word is the verdict. */
export class CoolingDown extends Schema.TaggedError<CoolingDown>("@gantry/coldstart/CoolingDown")("CoolingDown", {
  failureClass: FailureClass,
  witnesses: Schema.Array(Witness),
  /** How long from now until nodes try again; none where none of them says so. */
  retryAfter: Schema.Option(Schema.Duration)
}) {
  override get message(): string {
    const again = Option.match(this.retryAfter, {
      onNone: () => "nobody says when it will be tried again",
      onSome: (left) => `it may succeed in ${Duration.format(left)}`
    })
    return `the registry fails for now (${testimony(this.witnesses)}); ${again}`
  }
}

/** Nobody takes the pull on at present, this node neither. */
export class Declined extends Schema.TaggedError<Declined>("@gantry/coldstart/Declined")("Declined", {
  refusals: Schema.Array(Refusal)
}) {
  override get message(): string {
    const nodes = this.refusals.map(({ node, why }) => `${node} (${why})`).join(", ")
    return `nobody pulls it now: ${nodes}; their pumps are at their limits, shut down, or have no room to store it`
  }
}

/** Every way was tried: also our own pulls ended without the bytes, and without a reason. */
export class Exhausted extends Schema.TaggedError<Exhausted>("@gantry/coldstart/Exhausted")("Exhausted", {
  /** Pulls of this node itself. */
  pulls: Schema.Int
}) {
  override get message(): string {
    return `every way was tried; ${this.pulls} pulls of this node itself ended without the bytes; see its log`
  }
}

/** A peer hands the bytes out, and this node's own store does not take them. */
export class StoreFailed extends Schema.TaggedError<StoreFailed>("@gantry/coldstart/StoreFailed")("StoreFailed", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `this node's own store cannot take it: ${describeCause(this.cause)}`
  }
}

/** The call's time was up. */
export class TimedOut extends Schema.TaggedError<TimedOut>("@gantry/coldstart/TimedOut")("TimedOut", {
  deadline: Schema.Duration,
  /** What the call was doing at last. */
  doing: Schema.String
}) {
  override get message(): string {
    return `${Duration.format(this.deadline)} passed, at last ${this.doing}`
  }
}

/** Every way in which a call fails, for `Effect.catchReason`. */
export const Reason = Schema.Union([OriginFailed, CoolingDown, Declined, Exhausted, StoreFailed, TimedOut])
export type Reason = typeof Reason.Type

/** A digest that was not obtained. */
export class ColdStartError extends Schema.TaggedError<ColdStartError>("@gantry/coldstart/ColdStartError")(
  "ColdStartError",
  { ref: OriginRef, kind: ContentKind, reason: Reason }
) {
  override get message(): string {
    return `cannot obtain the ${this.kind} ${this.ref} (${this.reason._tag}): ${this.reason.message}`
  }
}
