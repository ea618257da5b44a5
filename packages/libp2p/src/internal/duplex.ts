/**
 * A js-libp2p stream as a {@link DuplexStream}.
 */
import { type DuplexStream, StreamError } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import type { Stream } from "@libp2p/interface"
import * as Effect from "effect/Effect"
import type { Linger } from "./lingering.ts"

/** The same bytes without what Node.js adds to them: a `Buffer` behaves differently when it is sliced. */
const plain = ({ buffer, byteLength, byteOffset }: Uint8Array) => new Uint8Array(buffer, byteOffset, byteLength)

/**
 * Takes over a stream, of which some bytes may have been read, and pauses it:
 * beyond a window, its bytes stay with the peer until they are read.
 */
export const makeDuplex = (
  stream: Stream,
  remotePeer: PeerId,
  linger: Linger,
  first: Uint8Array = new Uint8Array()
): DuplexStream => {
  const received: Array<Uint8Array> = first.length > 0 ? [plain(first)] : []
  /** What we did to end the stream as a whole. */
  let ended: "closed" | "reset" | undefined
  let writeEnded = false
  // Once a stream is closed, it no longer tells whether the peer ended its side or the connection went away.
  let remoteEnded = stream.status === "open" && stream.remoteWriteStatus === "closed"
  let lost: unknown

  const pause = () => {
    if (stream.readStatus === "readable") stream.pause()
  }
  const resume = () => {
    try {
      if (stream.readStatus === "paused") stream.resume()
    } catch (cause) {
      // What has come is handed over before the peer is asked for more, which fails if the connection is gone.
      stream.log.trace("cannot ask for more: %s", cause)
    }
  }

  /** Reads that wait. */
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const look of waiting) look()
  }

  pause()
  stream.addEventListener("message", ({ data }) => {
    received.push(plain(data.subarray()))
    wake()
  })
  stream.addEventListener("remoteCloseWrite", () => {
    remoteEnded = true
    wake()
  })
  stream.addEventListener("end", wake)
  stream.addEventListener("close", ({ error }) => {
    lost = error
    wake()
  })

  /** Whether the stream can no longer be used: we have ended it, or it was cut off. */
  const isOver = () => ended !== undefined || (stream.status !== "open" && !(stream.status === "closed" && remoteEnded))

  const closed = (why: string) => new StreamError({ reason: "Closed", cause: new Error(why) })
  const fault = (): StreamError | undefined => {
    if (!isOver()) return undefined
    if (ended !== undefined) return closed(`${ended} on this side`)
    return new StreamError({ reason: "Reset", cause: lost ?? new Error("the connection was closed") })
  }
  const writeFault = () => fault() ?? (writeEnded ? closed("ended on this side") : undefined)

  const isReadable = () => received.length > 0 || remoteEnded || ended !== undefined || stream.status !== "open"

  const arrival = Effect.callback<void>((resumeFiber) => {
    const stop = () => {
      waiting.delete(look)
      if (waiting.size === 0) pause()
    }
    // js-libp2p tells of an event in the middle of its work: the fiber goes on when it is through with that.
    const look = () => {
      if (!isReadable()) return
      waiting.delete(look)
      queueMicrotask(() => {
        stop()
        resumeFiber(Effect.void)
      })
    }
    waiting.add(look)
    resume()
    if (waiting.has(look)) look()
    return Effect.sync(stop)
  })

  const take: DuplexStream["read"] = Effect.suspend(() => {
    const failure = fault()
    if (failure !== undefined) return Effect.fail(failure)
    const chunk = received.shift()
    if (chunk !== undefined) return Effect.succeedSome(chunk)
    return remoteEnded ? Effect.succeedNone : read
  })

  const read: DuplexStream["read"] = Effect.suspend(() => (received.length > 0 ? take : Effect.andThen(arrival, take)))

  const isFlushed = () => stream.writeBufferLength === 0 && !stream.writableNeedsDrain
  const drained = Effect.callback<void>((resumeFiber) => {
    const events = ["drain", "idle", "close"] as const
    const stop = () => {
      for (const event of events) stream.removeEventListener(event, look)
    }
    const look = () => {
      if (!isFlushed() && stream.status === "open") return
      stop()
      queueMicrotask(() => resumeFiber(Effect.void))
    }
    for (const event of events) stream.addEventListener(event, look)
    return Effect.sync(stop)
  })
  const flushed = Effect.suspend(() => (isFlushed() ? Effect.void : drained))

  const checked = (check: () => StreamError | undefined) =>
    Effect.suspend(() => {
      const failure = check()
      return failure === undefined ? Effect.void : Effect.fail(failure)
    })

  const refused = (cause: unknown) => fault() ?? new StreamError({ reason: "Reset", cause })

  const write: DuplexStream["write"] = (bytes) =>
    // What an interrupted write has left goes first, so that never more than one write waits in memory.
    flushed.pipe(
      Effect.andThen(checked(writeFault)),
      Effect.andThen(Effect.try({ try: () => stream.send(bytes), catch: refused })),
      Effect.andThen(flushed),
      Effect.andThen(checked(fault))
    )

  const closeWrite: DuplexStream["closeWrite"] = Effect.andThen(
    checked(fault),
    Effect.suspend(() => {
      writeEnded = true
      return Effect.tryPromise({ try: () => stream.close(), catch: refused })
    })
  )

  const reset: DuplexStream["reset"] = Effect.sync(() => {
    ended ??= "reset"
    stream.abort(new Error("reset on this side"))
  })

  const close: DuplexStream["close"] = Effect.suspend(() => {
    if (isOver()) return Effect.void
    ended = "closed"
    received.length = 0
    // Both begin at once; they settle with the stream, whose end is waited for below.
    void Promise.allSettled([stream.closeRead(), stream.close()])
    return remoteEnded && isFlushed() ? Effect.void : linger(stream)
  }).pipe(Effect.uninterruptible)

  return { remotePeer, read, write, closeWrite, close, reset }
}
