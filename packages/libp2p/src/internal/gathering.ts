/**
 * Fewer, larger writes: what a connection sends in one turn of the event loop
 * goes out together.
 */
import type { MessageStream, StreamMuxerFactory } from "@libp2p/interface"

/**
 * Makes a muxer's frames wait for the end of the turn in which they are sent,
 * or of the muxer. Each of them would be encrypted and handed to the kernel by
 * itself, which costs far more than what it says.
 */
export const gatherFrames = (muxers: StreamMuxerFactory): StreamMuxerFactory => ({
  protocol: muxers.protocol,
  createStreamMuxer(connection) {
    const flush = gather(connection)
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
const gather = (connection: MessageStream): (() => void) => {
  const send = connection.send.bind(connection)
  let gathered: Array<Uint8Array> = []

  const flush = () => {
    if (gathered.length === 0) return
    const bytes = Buffer.concat(gathered)
    gathered = []
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
    if (gathered.length === 0) process.nextTick(flush)
    gathered.push(bytes.subarray())
    // Whether the connection took the turns before. What one turn may add is bounded by the windows of its streams.
    return !connection.writableNeedsDrain
  }
  return flush
}
