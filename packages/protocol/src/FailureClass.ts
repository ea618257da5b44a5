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
