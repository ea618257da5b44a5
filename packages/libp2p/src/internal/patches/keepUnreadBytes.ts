/**
 * Patch of @libp2p/utils 7.4.1, src/abstract-message-stream.ts,
 * `dispatchReadBuffer` and `unshift`.
 *
 * Upstream closes the reading side of a stream as soon as all its bytes have
 * been handed to a listener and the peer has ended its own. Who selects the
 * protocol of an inbound stream then cannot give back what it read too much,
 * and the stream is aborted. That hits peers that send the protocol's name, a
 * request and the end of their side at once, while their connection is new.
 *
 * Delete it once bytes can be given back to a stream that its peer has ended.
 */
import type { Stream, StreamMuxer, StreamMuxerFactory } from "@libp2p/interface"

/** What every muxer of js-libp2p is told of streams that the peer opens. */
interface Told extends StreamMuxer {
  onRemoteStream: (stream: Stream) => void
}

/** Makes the inbound streams of a muxer take back bytes, whether or not their peers have ended. */
export const keepUnreadBytes = (muxers: StreamMuxerFactory): StreamMuxerFactory => ({
  protocol: muxers.protocol,
  createStreamMuxer(connection) {
    const muxer = muxers.createStreamMuxer(connection) as Told
    const onRemoteStream = muxer.onRemoteStream.bind(muxer)
    muxer.onRemoteStream = (stream) => {
      const unshift = stream.unshift.bind(stream)
      stream.unshift = (bytes) => {
        // It is closed again once they were read.
        if (stream.readStatus === "closed" && stream.status === "open") stream.readStatus = "readable"
        unshift(bytes)
      }
      onRemoteStream(stream)
    }
    return muxer
  }
})
