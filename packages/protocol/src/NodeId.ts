/**
 * The stable name of a node, by which rendezvous hashing ranks it.
 */
import * as Schema from "effect/Schema"

/**
 * A node id. It is hashed as UTF-8, so text that has no UTF-8 form (a lone
 * surrogate) is refused (protocol, section 8).
 */
export const NodeId = Schema.NonEmptyString.check(
  Schema.makeFilter((text: string) => text.isWellFormed(), { expected: "well-formed Unicode text" })
).pipe(Schema.brand("NodeId"))
export type NodeId = typeof NodeId.Type
