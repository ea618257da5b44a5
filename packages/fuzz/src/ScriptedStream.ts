/**
 * A stream whose other end does what an input says.
 */
import { type DuplexStream, StreamError } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import type { Input, Situation } from "./Input.ts"

/** The stream, and what was done with it. */
export interface ScriptedStream extends DuplexStream {
  /** What was written and arrived. */
  readonly written: ReadonlyArray<Uint8Array>
  /** How often, and how, the stream was ended. */
  readonly endings: ReadonlyArray<"close" | "reset">
}

const failure = (reason: StreamError["reason"]) =>
  Effect.fail(new StreamError({ reason, cause: new Error("as the input says") }))

/** A stream that brings these chunks. */
export const make = (
  remotePeer: PeerId,
  chunks: Input["chunks"],
  { ending, writing }: Pick<Situation, "ending" | "writing">
): ScriptedStream => {
  const written: Array<Uint8Array> = []
  const endings: Array<"close" | "reset"> = []
  let next = 0
  const end = (how: "close" | "reset") =>
    Effect.sync(() => {
      endings.push(how)
    })

  const last = (): DuplexStream["read"] => {
    switch (ending) {
      case "ends":
        return Effect.succeedNone
      case "resets":
        return failure("Reset")
      case "falls silent":
        return Effect.never
    }
  }

  return {
    remotePeer,
    written,
    endings,
    read: Effect.suspend(() => {
      if (endings.length > 0) return failure("Closed")
      const chunk = chunks[next++]
      return chunk === undefined ? last() : Effect.succeedSome(chunk)
    }),
    write: (bytes) =>
      Effect.suspend(() => {
        if (endings.length > 0) return failure("Closed")
        if (writing === "fails") return failure("Reset")
        if (writing === "is stuck") return Effect.never
        written.push(bytes)
        return Effect.void
      }),
    closeWrite: Effect.void,
    close: end("close"),
    reset: end("reset")
  }
}
