/**
 * One message in, one message out: what both ends of a coordination stream do.
 */
import {
  decodeMessage,
  encodeFrame,
  encodeMessage,
  type FrameError,
  type MalformedEnvelope,
  type Message,
  makeFrameReader
} from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { DuplexStream, StreamError } from "../StreamTransport.ts"

/** The body of the stream's first frame; what follows it is left unread. */
export const readFrame = Effect.fnUntraced(function* (
  stream: DuplexStream
): Effect.fn.Return<Uint8Array, FrameError | StreamError> {
  const reader = makeFrameReader()
  while (true) {
    const chunk = yield* stream.read
    if (Option.isNone(chunk)) return yield* reader.end()
    const body = yield* Effect.fromResult(reader.push(chunk.value))
    if (Option.isSome(body)) return body.value
  }
})

/** The meaning of a frame's body. */
export const decode = (body: Uint8Array): Effect.Effect<Message, MalformedEnvelope> =>
  Effect.fromResult(decodeMessage(body))

/** A message as it is sent: prefix and body, for one write. */
export const frameOf = (message: Message): Uint8Array => encodeFrame(encodeMessage(message))
