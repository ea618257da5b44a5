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
 * How far a stream has come. `Open`: of use, by the sides that have not ended.
 * `Left`: we have ended it as a whole. `Lost`: the peer or the connection has.
 */
type State =
  | { readonly _tag: "Open"; readonly weEnded: boolean; readonly theyEnded: boolean }
  | { readonly _tag: "Left"; readonly by: "closed" | "reset" }
  | { readonly _tag: "Lost"; readonly cause: unknown }

/** What there is to know of a stream that was in other hands before. */
export interface Taken {
  /** Bytes that were read from it. */
  readonly received?: Uint8Array
  /** Our side was ended. */
  readonly weEnded?: boolean
}

/**
 * Takes over a stream, and pauses it: beyond a window, its bytes stay with the
 * peer until they are read.
 */
export const makeDuplex = (
  stream: Stream,
  remotePeer: PeerId,
  linger: Linger,
  { received: first = new Uint8Array(), weEnded = false }: Taken = {}
): DuplexStream => {
  const received: Array<Uint8Array> = first.length > 0 ? [plain(first)] : []
  // Once a stream is closed, it no longer tells whether the peer ended its side or the connection went away.
  let state: State =
    stream.status === "open"
      ? { _tag: "Open", weEnded, theyEnded: stream.remoteWriteStatus === "closed" }
      : { _tag: "Lost", cause: new Error("the connection was closed") }

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
    if (state._tag === "Open") state = { ...state, theyEnded: true }
    wake()
  })
  stream.addEventListener("close", ({ error }) => {
    const isInPeace = stream.status === "closed" && state._tag === "Open" && state.theyEnded
    if (state._tag === "Open" && !isInPeace) {
      state = { _tag: "Lost", cause: error ?? new Error("the connection was closed") }
    }
    wake()
  })

  const closed = (why: string) => new StreamError({ reason: "Closed", cause: new Error(why) })
  const fault = (): StreamError | undefined => {
    switch (state._tag) {
      case "Open":
        return undefined
      case "Left":
        return closed(`${state.by} on this side`)
      case "Lost":
        return new StreamError({ reason: "Reset", cause: state.cause })
    }
  }
  const writeFault = () => (state._tag === "Open" && state.weEnded ? closed("ended on this side") : fault())

  const isAtEnd = () => state._tag !== "Open" || state.theyEnded

  const arrival = Effect.callback<void>((resumeFiber) => {
    const stop = () => {
      waiting.delete(look)
      if (waiting.size === 0) pause()
    }
    // js-libp2p tells of an event in the middle of its work: the fiber goes on when it is through with that.
    const look = () => {
      if (received.length === 0 && !isAtEnd()) return
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
    return isAtEnd() ? Effect.succeedNone : read
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
      if (state._tag === "Open") state = { ...state, weEnded: true }
      return Effect.tryPromise({ try: () => stream.close(), catch: refused })
    })
  )

  const reset: DuplexStream["reset"] = Effect.sync(() => {
    if (state._tag === "Open") state = { _tag: "Left", by: "reset" }
    stream.abort(new Error("reset on this side"))
  })

  const close: DuplexStream["close"] = Effect.suspend(() => {
    if (state._tag !== "Open") return Effect.void
    const { theyEnded } = state
    state = { _tag: "Left", by: "closed" }
    received.length = 0
    // Both begin at once; they settle with the stream, whose end is waited for below.
    void Promise.allSettled([stream.closeRead(), stream.close()])
    return theyEnded && isFlushed() ? Effect.void : linger(stream)
  }).pipe(Effect.uninterruptible)

  return { remotePeer, read, write, closeWrite, close, reset }
}
