/**
 * Patch of libp2p 3.3.11, src/connection.ts, `newStream`.
 *
 * `NewStreamOptions.negotiateFully` (@libp2p/interface 3.3.0,
 * src/connection.ts:90) promises that a stream is handed out before its
 * protocol was selected. Nothing reads it: every new stream first waits for a
 * round trip to the peer.
 *
 * Delete it once `newStream` heeds `negotiateFully: false` and sends the name
 * of the protocol with the first bytes; then {@link file://../selection.ts} can
 * go too.
 */
import type { StreamMuxerFactory } from "@libp2p/interface"

/**
 * Makes a muxer heed `negotiateFully: false`: such a stream is handed out at
 * once, and whoever asked for it proposes the protocol.
 */
export const deferSelection = (muxers: StreamMuxerFactory): StreamMuxerFactory => ({
  protocol: muxers.protocol,
  createStreamMuxer(connection) {
    const muxer = muxers.createStreamMuxer(connection)
    const createStream = muxer.createStream.bind(muxer)
    muxer.createStream = async (options?: { readonly protocol?: string; readonly negotiateFully?: boolean }) => {
      const stream = await createStream(options)
      // A connection selects the protocol of a stream that has none.
      if (options?.negotiateFully === false && options.protocol !== undefined) stream.protocol = options.protocol
      return stream
    }
    return muxer
  }
})
