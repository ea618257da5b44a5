/**
 * Whether somebody listens at an address.
 */
import { createConnection } from "node:net"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** How long a connection may take. */
export const patience = Duration.seconds(1)

/** Connects to an address and hangs up; fails with why it cannot. */
export const connect = (host: string, port: number): Effect.Effect<void, string> =>
  Effect.callback<void, string>((resume) => {
    const socket = createConnection({ host, port })
    socket.once("connect", () => resume(Effect.void))
    socket.once("error", (error: NodeJS.ErrnoException) => resume(Effect.fail(error.code ?? error.message)))
    return Effect.sync(() => socket.destroy())
  }).pipe(
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.fail(`no connection within ${Duration.format(patience)}`)
    })
  )
