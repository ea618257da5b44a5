/**
 * Sends a body over Node's response, and knows when each piece has left the
 * process. An HTTP response that is handed to the platform is out of sight
 * before its last bytes are: a client that stops reading would cost nothing
 * that is counted.
 */

import type { ServerResponse } from "node:http"
import type { StoreError } from "@gantry/coord/Store"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Blob } from "../BlobStore.ts"

/** `Stalled`: nothing went out for too long. `Closed`: the client went away. */
export class SendError extends Schema.TaggedError<SendError>("@gantry/oci/SendError")("SendError", {
  reason: Schema.Literals(["Stalled", "Closed"]),
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

/** Waits until what `write` writes has been flushed. */
const flushed = (response: ServerResponse, write: (done: (error?: Error | null) => void) => void) =>
  Effect.callback<void, SendError>((resume) => {
    const settle = (error?: Error | null) => {
      response.off("close", closed)
      const detail = error?.message ?? ""
      resume(error ? Effect.fail(new SendError({ reason: "Closed", detail })) : Effect.void)
    }
    const closed = () => settle(new Error("the client closed the connection"))
    if (response.destroyed) return closed()
    response.once("close", closed)
    write(settle)
    return Effect.sync(() => response.off("close", closed))
  })

/** What to send. */
export interface Message {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Blob
}

/**
 * Sends the message to its end; a piece of it may take `stallTimeout` to go
 * out. After a failure the connection is gone, so that the client cannot take
 * a part for the whole.
 */
export const send = (
  response: ServerResponse,
  { body, headers, status }: Message,
  stallTimeout: Duration.Duration
): Effect.Effect<void, StoreError | SendError> => {
  const detail = `the client read nothing for ${Duration.format(stallTimeout)}`
  const inTime = (write: (done: (error?: Error | null) => void) => void) =>
    Effect.timeoutOrElse(flushed(response, write), {
      duration: stallTimeout,
      orElse: () => Effect.fail(new SendError({ reason: "Stalled", detail }))
    })

  return Effect.sync(() => response.writeHead(status, headers)).pipe(
    Effect.andThen(body.runForEach((piece) => inTime((done) => response.write(piece, done)))),
    Effect.andThen(inTime((done) => response.end(done))),
    Effect.onError(() => Effect.sync(() => response.destroy()))
  )
}
