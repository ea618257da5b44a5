/**
 * What became of an HTTP request that was not answered.
 */
import { describeCause } from "@gantry/protocol"

/** How deep causes lie in each other, and some more. */
const maxDepth = 8

/** What the network said, rather than what the layers above it made of it: `connect ECONNREFUSED 127.0.0.1:5000`. */
export const describeHttpError = (error: unknown): string => {
  let [innermost, depth] = [error, 0]
  while (innermost instanceof Error && innermost.cause instanceof Error && depth++ < maxDepth)
    innermost = innermost.cause
  // Of several addresses that were tried the first one stands for all.
  if (innermost instanceof AggregateError) innermost = innermost.errors[0] ?? innermost
  return describeCause(innermost)
}
