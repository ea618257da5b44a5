/**
 * Brings blobs from peers that have them into this node's store.
 */
import { type ContentKind, Digest, describeCause, type Member, NodeId } from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const holder = { holder: NodeId }
const explained = { ...holder, detail: Schema.String }

/**
 * What one holder did instead of delivering. `Absent`: it does not have the
 * blob. `Busy`: it has it, and serves as many as it can; for how long, if it
 * says so. `Unavailable`: it was reached, and failed. `Unreachable`: it was not
 * reached. `NoAddress`: it publishes none that could be asked. `Stalled`: it broke off, or sent next to nothing. `WrongBytes`: what
 * it sent, or said of it, is something else. Not asked for a while to come:
 * `Barred`, because it could not be reached lately, and `Suspicious`, because it
 * sent wrong bytes lately.
 */
export const TransferAttempt = Schema.TaggedUnion({
  Absent: holder,
  Busy: { ...holder, retryAfter: Schema.Option(Schema.Duration) },
  Unavailable: explained,
  Unreachable: explained,
  NoAddress: explained,
  Stalled: explained,
  WrongBytes: explained,
  Barred: { ...holder, remaining: Schema.Duration },
  Suspicious: { ...holder, remaining: Schema.Duration }
})
export type TransferAttempt = typeof TransferAttempt.Type

const describeAttempt = (attempt: TransferAttempt): string =>
  `${attempt.holder}: ${attempt._tag}${"detail" in attempt ? ` (${attempt.detail})` : ""}`

/** None of the holders delivered; tells the last that each of them did. */
export class NoHolder extends Schema.TaggedError<NoHolder>("@gantry/coord/Transfer/NoHolder")("NoHolder", {
  attempts: Schema.Array(TransferAttempt)
}) {
  override get message(): string {
    return `no peer delivered: ${this.attempts.map(describeAttempt).join("; ") || "none was asked"}`
  }
}

/** Our own store could not take the bytes. */
export class StoreFailed extends Schema.TaggedError<StoreFailed>("@gantry/coord/Transfer/StoreFailed")("StoreFailed", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `the store could not take it: ${describeCause(this.cause)}`
  }
}

/** A blob that did not arrive. */
export class TransferError extends Schema.TaggedError<TransferError>("@gantry/coord/TransferError")("TransferError", {
  digest: Digest,
  reason: Schema.Union([NoHolder, StoreFailed])
}) {
  override get message(): string {
    return `${this.digest}: ${this.reason.message}`
  }
}

/** A blob to bring in. */
export interface TransferRequest {
  readonly digest: Digest
  readonly kind: ContentKind
  /** In bytes, where it is known; a holder that offers more is refused. */
  readonly size: Option.Option<number>
  /** The members said to have it, in the order to try them; those of this node's zone come first all the same. */
  readonly holders: ReadonlyArray<Member>
}

/** A blob that arrived. */
export interface TransferReport {
  readonly bytes: number
  /** The holder that delivered the last of it. */
  readonly holder: NodeId
}

/** Transfers between peers (parts, Peer transfer). */
export class Transfer extends Context.Service<
  Transfer,
  {
    /** Succeeds once the blob is verified and stored. Goes on with the next holder where one stops. */
    readonly fetch: (request: TransferRequest) => Effect.Effect<TransferReport, TransferError>
  }
>()("@gantry/coord/Transfer") {}
