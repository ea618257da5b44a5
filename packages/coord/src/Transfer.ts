/**
 * Brings blobs from peers that have them into this node's store.
 */
import { type ContentKind, Digest, describeCause, type Member, NodeId } from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** What one holder did instead of delivering. */
export const TransferAttempt = Schema.Struct({
  holder: NodeId,
  problem: Schema.Literals(["Absent", "Busy", "Unreachable", "Stalled", "WrongBytes", "Suspicious"]),
  detail: Schema.String
})
export type TransferAttempt = typeof TransferAttempt.Type

/** `NoHolder`: none of the holders delivered. `Store`: our own store could not take the bytes. */
export class TransferError extends Schema.TaggedError<TransferError>("@gantry/coord/TransferError")("TransferError", {
  reason: Schema.Literals(["NoHolder", "Store"]),
  digest: Digest,
  attempts: Schema.Array(TransferAttempt),
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    if (this.reason === "Store") {
      return `the store could not take ${this.digest}: ${describeCause(this.cause)}`
    }
    const tried = this.attempts.map(({ detail, holder, problem }) => `${holder}: ${problem} (${detail})`)
    return `no peer delivered ${this.digest}: ${tried.join("; ") || "none was asked"}`
  }
}

/** A blob to bring in. */
export interface TransferRequest {
  readonly digest: Digest
  readonly kind: ContentKind
  /** In bytes, where it is known; a holder that offers more is refused. */
  readonly size: Option.Option<number>
  /** The members said to have it, in the order to try them. */
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
