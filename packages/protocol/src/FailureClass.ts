/**
 * Why the origin did not deliver.
 */
import * as Schema from "effect/Schema"

/**
 * The names are those of the metric label `class`. `unspecified` is what an
 * unknown class of another implementation becomes.
 */
export const FailureClass = Schema.Literals(["auth", "not_found", "rate_limited", "transient", "unspecified"])
export type FailureClass = typeof FailureClass.Type

/** A verdict of the origin, which another node would hear as well; anything else may be a passing fault. */
export const isTrustedFailure = (failure: FailureClass): boolean =>
  failure === "auth" || failure === "not_found" || failure === "rate_limited"
