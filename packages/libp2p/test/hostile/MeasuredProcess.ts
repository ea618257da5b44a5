/**
 * A process whose memory is measured, seen from the test that starts it.
 */
import * as ChildProcess from "node:child_process"
import { Effect } from "effect"

/** Memory of a process in bytes after a collection: resident, and what is in use of it. */
export interface Memory {
  readonly rss: number
  readonly live: number
}

/** Collects garbage in this process, and measures. */
export const measure: Effect.Effect<Memory> = Effect.gen(function* () {
  globalThis.gc?.()
  // What the first collection has finalized goes with the second.
  yield* Effect.sleep("50 millis")
  globalThis.gc?.()
  const { external, heapUsed, rss } = process.memoryUsage()
  return { rss, live: heapUsed + external }
})

/**
 * Starts a program of this folder, which runs until the scope closes. Gives the
 * first message that it sends, and what has it answer others.
 */
export const startMeasured = <Greeting, Order, Report>(program: string, argument?: unknown) =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(
          process.execPath,
          [
            "--expose-gc",
            "--conditions=@gantry/source",
            new URL(program, import.meta.url).pathname,
            JSON.stringify(argument ?? null)
          ],
          { stdio: ["ignore", "inherit", "inherit", "ipc"] }
        )
      ),
      (started) =>
        Effect.sync(() => {
          started.kill()
        })
    )
    const message = <A>() =>
      Effect.callback<A>((resume) => {
        child.once("message", (message) => resume(Effect.succeed(message as A)))
      })
    return {
      greeting: yield* message<Greeting>(),
      /** Gives the order, and what the process shows for it. */
      order: (order: Order) =>
        Effect.andThen(
          Effect.sync(() => child.send(order as object)),
          message<Report>()
        )
    }
  })
