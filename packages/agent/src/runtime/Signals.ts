/**
 * Signals that this process receives and that do not end it.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"

/** An element for each SIGHUP while somebody listens. A flood of them counts as two. */
export const hangups: Stream.Stream<void> = Stream.callback(
  (queue) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const offer = () => void Queue.offerUnsafe(queue, undefined)
        process.on("SIGHUP", offer)
        return offer
      }),
      (offer) => Effect.sync(() => process.off("SIGHUP", offer))
    ),
  { bufferSize: 1, strategy: "dropping" }
)
