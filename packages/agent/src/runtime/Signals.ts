/**
 * Signals that this process receives and that do not end it.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
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

const endings = ["SIGINT", "SIGTERM"] as const

/**
 * Ends this process at once when a second signal to end comes: the first one has
 * begun to drain. By a signal that nothing can delay: `process.exit` waits for
 * threads that may wait themselves.
 */
export const endAtSecond: Effect.Effect<void, never, Scope.Scope> = Effect.asVoid(
  Effect.acquireRelease(
    Effect.sync(() => {
      let received = 0
      const count = () => {
        received++
        if (received > 1) process.kill(process.pid, "SIGKILL")
      }
      for (const signal of endings) process.on(signal, count)
      return count
    }),
    (count) =>
      Effect.sync(() => {
        for (const signal of endings) process.off(signal, count)
      })
  )
)

/** Has this process exit with 0 though a signal ended it: that is how a service is stopped. */
export const isAsked: Effect.Effect<void> = Effect.sync(() => {
  process.exitCode = 0
})
