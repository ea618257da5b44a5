/**
 * What a thrown value says, whatever it is.
 */
import { format } from "effect/Formatter"

/** The message of an error, or any other value as text; never throws. */
export const describeCause = (cause: unknown): string => (cause instanceof Error ? cause.message : format(cause))
