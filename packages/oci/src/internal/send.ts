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

type Write = (done: (error?: Error | null) => void) => void

/** Waits until what is written has been flushed. When the client goes away the platform interrupts this. */
const flushed = (write: Write) =>
  Effect.callback<void, SendError>((resume) =>
    write((error) =>
      resume(error ? Effect.fail(new SendError({ reason: "Closed", detail: error.message })) : Effect.void)
    )
  )

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
  const inTime = (write: Write) =>
    Effect.timeoutOrElse(flushed(write), {
      duration: stallTimeout,
      orElse: () => Effect.fail(new SendError({ reason: "Stalled", detail }))
    })

  return Effect.sync(() => response.writeHead(status, headers)).pipe(
    Effect.andThen(body.runForEach((piece) => inTime((done) => response.write(piece, done)))),
    Effect.andThen(inTime((done) => response.end(done))),
    Effect.onError(() => Effect.sync(() => response.destroy()))
  )
}
