/**
 * Why nothing can be done about a blob before an instant. Who has the patience
 * waits until then; whoever has not fails with it.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { BlobRequest } from "../BlobRequest.ts"
import { ColdStartError, CoolingDown, Declined, type Refusal } from "../ColdStartError.ts"
import type { Statement } from "./PursuitState.ts"

export interface Setback {
  /** When all is to be looked at again, in milliseconds of the monotonic clock. */
  readonly retryAt: number
  /** The error of a call that fails at an instant of that clock. */
  readonly errorAt: (at: number) => ColdStartError
}

/** Pulls failed, and nodes that try again later said so. The last of them has the last word. */
export const coolingDown = (
  { kind, ref }: BlobRequest,
  statements: ReadonlyArray<Statement>,
  verdict: Statement,
  retryAt: Option.Option<number>,
  /** When to look again where nobody says when. */
  otherwise: number
): Setback => ({
  retryAt: Option.getOrElse(retryAt, () => otherwise),
  errorAt: (at) =>
    new ColdStartError({
      ref,
      kind,
      reason: new CoolingDown({
        failureClass: verdict.failureClass,
        witnesses: statements.map(({ failureClass, node }) => ({ node, failureClass })),
        retryAfter: Option.map(retryAt, (until) => Duration.millis(until - at))
      })
    })
})

/** Nobody takes the pull on at present. */
export const declined = ({ kind, ref }: BlobRequest, refusals: ReadonlyArray<Refusal>, retryAt: number): Setback => ({
  retryAt,
  errorAt: () => new ColdStartError({ ref, kind, reason: new Declined({ refusals }) })
})
