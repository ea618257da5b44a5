/**
 * Frames and envelopes under fuzzing.
 */
import { isDeepStrictEqual } from "node:util"
import * as V8 from "node:v8"
import * as Protocol from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { Input } from "./Input.ts"
import { check } from "./Violation.ts"

/** What is fuzzed: the functions of `@gantry/protocol`, or broken ones in a test. */
export interface Codec {
  readonly encodeFrame: typeof Protocol.encodeFrame
  readonly makeFrameReader: typeof Protocol.makeFrameReader
  readonly decodeMessage: typeof Protocol.decodeMessage
  readonly encodeMessage: typeof Protocol.encodeMessage
}

/** What a stream holds, before anybody acts on it. */
export type Reading =
  | { readonly _tag: "Message"; readonly message: Protocol.Message }
  | { readonly _tag: "Malformed" }
  | { readonly _tag: "NoFrame"; readonly reason: Protocol.FrameError["reason"]; readonly refused: boolean }

type Frame = { readonly body: Uint8Array } | { readonly error: Protocol.FrameError; readonly refused: boolean }

/** Bytes that a reader may hold whatever has come: some round numbers, and what the engine itself allocates. */
const allowanceBytes = 65_536

const readFrame = ({ makeFrameReader }: Codec, chunks: ReadonlyArray<Uint8Array>): Frame => {
  const reader = makeFrameReader()
  let received = 0
  for (const chunk of chunks) {
    received += chunk.length
    const before = V8.getHeapStatistics().external_memory
    const pushed = reader.push(chunk)
    const taken = V8.getHeapStatistics().external_memory - before
    check(
      taken <= 2 * received + allowanceBytes,
      "memory follows the bytes that have arrived",
      () => `${taken} bytes taken after ${received} bytes`
    )
    if (Result.isFailure(pushed)) return { error: pushed.failure, refused: true }
    if (Option.isSome(pushed.success)) return { body: pushed.success.value }
  }
  return { error: reader.end(), refused: false }
}

const show = (frame: Frame): string => ("body" in frame ? `a body of ${frame.body.length} bytes` : frame.error.message)

const isSame = (a: Frame, b: Frame): boolean =>
  "body" in a
    ? "body" in b && Buffer.compare(a.body, b.body) === 0
    : "error" in b && a.error.reason === b.error.reason && a.error.message === b.error.message

/**
 * Reads the stream in its chunks and as a whole, and what it reads writes and
 * reads again. Gives what there is to read.
 */
export const run = ({ chunks, stream }: Input, codec: Codec = Protocol): Reading => {
  const frame = readFrame(codec, chunks)
  const whole = readFrame(codec, [stream])
  check(isSame(frame, whole), "chunks make no difference", () => `${show(frame)}, but as a whole ${show(whole)}`)
  if ("error" in frame) {
    check(frame.error instanceof Protocol.FrameError, "a frame is read or refused", () => String(frame.error))
    return { _tag: "NoFrame", reason: frame.error.reason, refused: frame.refused }
  }
  const written = codec.encodeFrame(frame.body)
  check(
    Buffer.compare(written, stream.subarray(0, written.length)) === 0,
    "a frame that is read is the one that would be written",
    () => Buffer.from(written).toString("hex")
  )

  const decoded = codec.decodeMessage(frame.body)
  if (Result.isFailure(decoded)) {
    check(decoded.failure instanceof Protocol.MalformedEnvelope, "an envelope is read or malformed", () =>
      String(decoded.failure)
    )
    return { _tag: "Malformed" }
  }
  const message = decoded.success
  const again = codec.decodeMessage(codec.encodeMessage(message))
  check(
    Result.isSuccess(again) && isDeepStrictEqual(again.success, message),
    "what is read is written and read as the same",
    () => `${message._tag} became ${Result.isSuccess(again) ? again.success._tag : again.failure.message}`
  )
  return { _tag: "Message", message }
}
