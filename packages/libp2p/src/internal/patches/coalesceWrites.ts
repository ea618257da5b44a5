/**
 * Patch of @chainsafe/libp2p-yamux 8.0.1, src/muxer.ts, `sendFrame`, and
 * @libp2p/utils 7.4.1, src/abstract-stream-muxer.ts, `send`.
 *
 * Upstream hands each frame to the connection by itself, which encrypts it and
 * writes it to the socket: a request of three frames is three messages of
 * Noise and three system calls, which cost far more than what they say.
 *
 * Delete it once the muxer, or Noise below it, puts together what is sent in
 * one turn of the event loop.
 */
import type { MessageStream, StreamMuxerFactory } from "@libp2p/interface"

/** Makes the frames that a muxer sends in one turn of the event loop go out together, at its end or the muxer's. */
export const coalesceWrites = (muxers: StreamMuxerFactory): StreamMuxerFactory => ({
  protocol: muxers.protocol,
  createStreamMuxer(connection) {
    const flush = coalesce(connection)
    const muxer = muxers.createStreamMuxer(connection)
    const close = muxer.close.bind(muxer)
    const abort = muxer.abort.bind(muxer)
    // Its last words go out before the connection is closed.
    muxer.close = async (options) => {
      await close(options)
      flush()
    }
    muxer.abort = (cause) => {
      abort(cause)
      flush()
    }
    return muxer
  }
})

/** Has `send` put bytes together; gives what sends them. */
const coalesce = (connection: MessageStream): (() => void) => {
  const send = connection.send.bind(connection)
  let waiting: Array<Uint8Array> = []

  const flush = () => {
    if (waiting.length === 0) return
    const bytes = Buffer.concat(waiting)
    waiting = []
    if (connection.status !== "open") return
    try {
      send(bytes)
    } catch (cause) {
      connection.abort(cause as Error)
    }
  }

  connection.send = (bytes) => {
    // Throws the error that says so.
    if (connection.status !== "open") return send(bytes)
    if (waiting.length === 0) process.nextTick(flush)
    waiting.push(bytes.subarray())
    // Whether the connection took the turns before. What one turn may add is bounded by the windows of its streams.
    return !connection.writableNeedsDrain
  }
  return flush
}
