/**
 * A measured client, seen from the test that starts it.
 */
import * as ChildProcess from "node:child_process"
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import { Effect } from "effect"

/** How often to ask, and whether to wait for the answers before the report. */
export interface Order {
  readonly asks: number
  readonly atOnce: number
  readonly waits: boolean
}

/** Resident memory in bytes after a collection, open streams, and how calls failed. */
export interface Report {
  readonly rss: number
  readonly streams: number
  readonly reasons: Readonly<Record<string, number>>
}

/** Starts a client of the peer, which runs until the scope closes. */
export const startClientProcess = (address: PeerAddress) =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(
          process.execPath,
          [
            "--expose-gc",
            "--conditions=@gantry/source",
            new URL("MeasuredClient.ts", import.meta.url).pathname,
            JSON.stringify(address)
          ],
          { stdio: ["ignore", "inherit", "inherit", "ipc"] }
        )
      ),
      (started) =>
        Effect.sync(() => {
          started.kill()
        })
    )
    const report = Effect.callback<Report>((resume) => {
      child.once("message", (message) => resume(Effect.succeed(message as Report)))
    })
    yield* report
    return {
      /** Gives the order, and what the client shows for it. */
      order: (order: Order) =>
        Effect.andThen(
          Effect.sync(() => child.send(order)),
          report
        )
    }
  })
