/**
 * Frames: a length as an unsigned varint, then that many bytes (protocol,
 * section 1).
 */
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { maxMessageBytes, maxVarintBytes } from "./Constants.ts"

/**
 * A frame that cannot be read. `TooLarge`: the announced length is over 1 MiB.
 * `BadLength`: the varint is not minimal or has more than 9 bytes.
 * `Truncated`: the stream ended inside the frame. `Missing`: it ended before
 * the frame began.
 */
export class FrameError extends Schema.TaggedError<FrameError>("@gantry/protocol/FrameError")("FrameError", {
  reason: Schema.Literals(["TooLarge", "BadLength", "Truncated", "Missing"]),
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

/** The length prefix and the body in one piece, so that one write sends both. */
export const encodeFrame = (body: Uint8Array): Uint8Array => {
  const prefix: Array<number> = []
  let length = body.length
  while (length >= 0x80) {
    prefix.push((length & 0x7f) | 0x80)
    length >>>= 7
  }
  prefix.push(length)
  const frame = new Uint8Array(prefix.length + body.length)
  frame.set(prefix)
  frame.set(body, prefix.length)
  return frame
}

/** Takes the chunks of one stream until its first frame is whole. */
export interface FrameReader {
  /**
   * Takes the next chunk. Gives the body once it is whole and nothing before;
   * what follows the first frame is never looked at. The body may share memory
   * with the chunk.
   */
  readonly push: (chunk: Uint8Array) => Result.Result<Option.Option<Uint8Array>, FrameError>
  /** What the end of the stream means at this point. */
  readonly end: () => FrameError
}

/** A reader for one frame of at most 1 MiB. */
export const makeFrameReader = (): FrameReader => {
  let bodyLength = 0
  let lengthBytes = 0
  let lengthKnown = false
  let body = new Uint8Array(0)
  let received = 0

  const fail = (reason: FrameError["reason"], detail: string) => Result.fail(new FrameError({ reason, detail }))

  /** Reads the varint; gives the offset behind it within the chunk. */
  const readLength = (chunk: Uint8Array): Result.Result<number, FrameError> => {
    for (let offset = 0; offset < chunk.length; offset++) {
      const byte = chunk[offset] as number
      bodyLength += (byte & 0x7f) * 2 ** (7 * lengthBytes)
      lengthBytes++
      if (byte < 0x80) {
        if (byte === 0 && lengthBytes > 1) return fail("BadLength", "the frame's length is not minimally encoded")
        if (bodyLength > maxMessageBytes) {
          return fail("TooLarge", `a frame of ${bodyLength} bytes is over the limit of ${maxMessageBytes}`)
        }
        lengthKnown = true
        return Result.succeed(offset + 1)
      }
      if (lengthBytes === maxVarintBytes) {
        return fail("BadLength", `the frame's length has more than ${maxVarintBytes} bytes`)
      }
    }
    return Result.succeed(chunk.length)
  }

  /** Memory follows what has arrived, never what was announced: the buffer doubles up to the body's length. */
  const append = (bytes: Uint8Array) => {
    if (received + bytes.length > body.length) {
      const grown = new Uint8Array(Math.min(bodyLength, Math.max(2 * body.length, received + bytes.length)))
      grown.set(body.subarray(0, received))
      body = grown
    }
    body.set(bytes, received)
    received += bytes.length
  }

  return {
    push(chunk) {
      let rest = chunk
      if (!lengthKnown) {
        const offset = readLength(chunk)
        if (Result.isFailure(offset)) return Result.fail(offset.failure)
        if (!lengthKnown) return Result.succeed(Option.none())
        rest = chunk.subarray(offset.success)
      }
      const missing = rest.subarray(0, bodyLength - received)
      if (missing.length === bodyLength) return Result.succeed(Option.some(missing))
      append(missing)
      return Result.succeed(received < bodyLength ? Option.none() : Option.some(body))
    },
    end() {
      if (lengthKnown) {
        return new FrameError({
          reason: "Truncated",
          detail: `the stream ended after ${received} of ${bodyLength} bytes of the frame`
        })
      }
      return lengthBytes === 0
        ? new FrameError({ reason: "Missing", detail: "the stream ended before a frame" })
        : new FrameError({ reason: "Truncated", detail: "the stream ended inside the frame's length" })
    }
  }
}
