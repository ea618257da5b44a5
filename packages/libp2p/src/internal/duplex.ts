/**
 * A js-libp2p stream as a {@link DuplexStream}.
 */
import { type DuplexStream, StreamError } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import type { MessageStreamEvents, Stream } from "@libp2p/interface"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { lingerMillis } from "./limits.ts"

/** The same bytes without what Node.js adds to them: a `Buffer` behaves differently when it is sliced. */
const plain = ({ buffer, byteLength, byteOffset }: Uint8Array) => new Uint8Array(buffer, byteOffset, byteLength)

/** What streams belong to. */
export interface Surroundings {
  /** Where streams linger after their close. */
  readonly scope: Scope.Scope
  /** Streams that neither side has ended as a whole. */
  readonly live: Set<Stream>
}

/**
 * Takes over a stream and pauses it: beyond a window, its bytes stay with the
 * peer until they are read.
 */
export const makeDuplex = (stream: Stream, remotePeer: PeerId, { live, scope }: Surroundings): DuplexStream => {
  const received: Array<Uint8Array> = []
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

  if (stream.status === "open") live.add(stream)
  pause()
  stream.addEventListener("message", ({ data }) => received.push(plain(data.subarray())))
  stream.addEventListener("remoteCloseWrite", () => {
    remoteEnded = true
  })
  stream.addEventListener("close", ({ error }) => {
    live.delete(stream)
    lost = error
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

  /** Waits until a condition holds, looking after each of the events. */
  const until = (
    events: ReadonlyArray<keyof MessageStreamEvents>,
    isMet: () => boolean,
    hooks?: { readonly begin: () => void; readonly end: () => void }
  ): Effect.Effect<void> =>
    Effect.callback((resumeFiber) => {
      let isStopped = false
      const stop = () => {
        if (isStopped) return
        isStopped = true
        for (const event of events) stream.removeEventListener(event, look)
        hooks?.end()
      }
      // js-libp2p tells of an event in the middle of its work: the fiber goes on when it is through with that.
      const look = () => {
        if (!isMet()) return
        queueMicrotask(() => {
          stop()
          resumeFiber(Effect.void)
        })
      }
      for (const event of events) stream.addEventListener(event, look)
      hooks?.begin()
      look()
      return Effect.sync(stop)
    })

  const arrival = until(
    ["message", "remoteCloseWrite", "end", "close"],
    () => received.length > 0 || remoteEnded || ended !== undefined || stream.status !== "open",
    { begin: resume, end: pause }
  )

  const take: DuplexStream["read"] = Effect.suspend(() => {
    const failure = fault()
    if (failure !== undefined) return Effect.fail(failure)
    const chunk = received.shift()
    if (chunk !== undefined) return Effect.succeedSome(chunk)
    return remoteEnded ? Effect.succeedNone : read
  })

  const read: DuplexStream["read"] = Effect.suspend(() => (received.length > 0 ? take : Effect.andThen(arrival, take)))

  const isFlushed = () => stream.writeBufferLength === 0 && !stream.writableNeedsDrain
  const drained = until(["drain", "idle", "close"], () => isFlushed() || stream.status !== "open")
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

  const linger = until(["close"], () => stream.status !== "open").pipe(
    Effect.timeoutOrElse({ duration: lingerMillis, orElse: () => reset })
  )

  const close: DuplexStream["close"] = Effect.suspend(() => {
    if (isOver()) return Effect.void
    ended = "closed"
    received.length = 0
    live.delete(stream)
    // Both begin at once; they settle with the stream, whose end the fiber that lingers waits for.
    void Promise.allSettled([stream.closeRead(), stream.close()])
    if (remoteEnded && isFlushed()) return Effect.void
    return Effect.asVoid(Effect.forkIn(linger, scope, { startImmediately: true }))
  }).pipe(Effect.uninterruptible)

  return { remotePeer, read, write, closeWrite, close, reset }
}
