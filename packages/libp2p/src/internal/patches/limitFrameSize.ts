/**
 * Patch of @chainsafe/libp2p-yamux 8.0.1, src/decode.ts, `readFrame`.
 *
 * Upstream holds back a data frame until it is whole, up to the 4 GiB that its
 * header can announce, and only then (src/stream.ts, `handleData`) compares its
 * length with the window. A peer fills the memory of a node with one frame.
 *
 * Delete it once the muxer refuses a frame beyond the window by its header.
 */
import type { MessageStream, StreamMuxerFactory } from "@libp2p/interface"

/** Version, type, flags (2), stream id (4) and length (4) of a Yamux frame. */
const headerBytes = 12
const dataType = 0

/** Makes a muxer end connections whose peer announces a data frame of more than so many bytes. */
export const limitFrameSize = (muxers: StreamMuxerFactory, maxBytes: number): StreamMuxerFactory => ({
  protocol: muxers.protocol,
  createStreamMuxer(connection) {
    watchFrames(connection, maxBytes)
    return muxers.createStreamMuxer(connection)
  }
})

const watchFrames = (connection: MessageStream, maxBytes: number) => {
  const header = new DataView(new ArrayBuffer(headerBytes))
  let headerFilled = 0
  let bodyLeft = 0
  connection.addEventListener("message", ({ data }) => {
    const bytes = data.subarray()
    for (let offset = 0; offset < bytes.length; ) {
      if (bodyLeft > 0) {
        const skipped = Math.min(bodyLeft, bytes.length - offset)
        bodyLeft -= skipped
        offset += skipped
        continue
      }
      header.setUint8(headerFilled++, bytes[offset++] as number)
      if (headerFilled < headerBytes) continue
      headerFilled = 0
      if (header.getUint8(1) !== dataType) continue
      bodyLeft = header.getUint32(8)
      if (bodyLeft > maxBytes) {
        return connection.abort(new Error(`the peer announced a frame of ${bodyLeft} bytes`))
      }
    }
  })
}
