/**
 * Sends a message over Node's response, of HTTP/1.1 or HTTP/2, and knows when
 * each piece of it has left the process. An HTTP response that is handed to
 * the platform is out of sight before its last bytes are: a client that stops
 * reading would cost nothing that is counted.
 */

import type * as Http from "node:http"
import type * as Http2 from "node:http2"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** Nothing went out for too long. */
export class Stalled extends Schema.TaggedError<Stalled>("@gantry/oci/Stalled")("Stalled", {
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

/** The client went away. */
export class Closed extends Schema.TaggedError<Closed>("@gantry/oci/Closed")("Closed", {
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

export type SendError = Stalled | Closed

export type Response = Http.ServerResponse | Http2.Http2ServerResponse

/** A body that comes in pieces; its own failure breaks the message off. */
export interface Body<E> {
  readonly runForEach: (
    use: (piece: Uint8Array) => Effect.Effect<void, SendError>
  ) => Effect.Effect<void, E | SendError>
}

/** What to send. */
export interface Message<E = never> {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Without it the message ends with its headers. */
  readonly body?: Body<E> | undefined
}

type Write = (done: (error?: Error | null) => void) => void

/**
 * Waits until what is written has been flushed, which for HTTP/2 is no sooner
 * than the client's window allows.
 */
const flushed = (response: Response, write: Write) =>
  Effect.callback<void, Closed>((resume) => {
    const close = (error?: Error | null) =>
      resume(Effect.fail(new Closed({ detail: error?.message ?? "the client went away" })))
    const leave = () => close()
    // A response that is gone calls nobody back.
    if (response.destroyed) return leave()
    response.once("close", leave)
    write((error) => {
      response.off("close", leave)
      if (error) close(error)
      else resume(Effect.void)
    })
    return Effect.sync(() => void response.off("close", leave))
  })

/** Ends the stream of HTTP/2, or else the connection, so that the client cannot take a part for the whole. */
const abort = (response: Response) =>
  Effect.sync(() => {
    if ("stream" in response) response.stream.destroy(new Error("the response broke off"))
    else response.destroy()
  })

/** Sends the message to its end; a piece of it may take `stallTimeout` to go out. */
export const send = <E = never>(
  response: Response,
  { body, headers, status }: Message<E>,
  stallTimeout: Duration.Duration
): Effect.Effect<void, E | SendError> => {
  const detail = `the client read nothing for ${Duration.format(stallTimeout)}`
  const inTime = (write: Write) =>
    Effect.timeoutOrElse(flushed(response, write), {
      duration: stallTimeout,
      orElse: () => Effect.fail(new Stalled({ detail }))
    })
  // The methods of the two kinds of response are the same but for their types.
  const either = response as Http.ServerResponse
  const pieces = body?.runForEach((piece) => inTime((done) => either.write(piece, done))) ?? Effect.void

  return Effect.sync(() => either.writeHead(status, headers)).pipe(
    Effect.andThen(pieces),
    Effect.andThen(inTime((done) => either.end(done))),
    Effect.onError(() => abort(response))
  )
}
