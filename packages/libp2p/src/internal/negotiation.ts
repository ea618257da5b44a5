/**
 * Streams that carry their first bytes together with the name of their
 * protocol, as multistream-select allows where only one is offered. That saves
 * a round trip.
 */
import { type Stream, type StreamMuxerFactory, UnsupportedProtocolError } from "@libp2p/interface"

/** The peer ended the stream, or its connection did, before it agreed to the protocol. */
export class EndedEarlyError extends Error {
  override readonly name = "EndedEarlyError"
}

/**
 * Makes a muxer heed `negotiateFully: false`, which js-libp2p declares and does
 * not read: such a stream is handed out before its protocol was negotiated,
 * which is then left to {@link agree}.
 */
export const deferNegotiation = (muxers: StreamMuxerFactory): StreamMuxerFactory => ({
  protocol: muxers.protocol,
  createStreamMuxer(connection) {
    const muxer = muxers.createStreamMuxer(connection)
    const createStream = muxer.createStream.bind(muxer)
    muxer.createStream = async (options?: { readonly protocol?: string; readonly negotiateFully?: boolean }) => {
      const stream = await createStream(options)
      if (options?.negotiateFully === false && options.protocol !== undefined) stream.protocol = options.protocol
      return stream
    }
    return muxer
  }
})

const line = (text: string) => [text.length + 1, ...Buffer.from(`${text}\n`)]

/** What each side says if both speak the protocol. Its id is ASCII, and shorter than 127 bytes. */
export const termsOf = (protocol: string): Uint8Array =>
  Uint8Array.from([...line("/multistream/1.0.0"), ...line(protocol)])

/**
 * Sends the terms of the stream's protocol and its first bytes, then waits until
 * the peer has agreed. Gives what the peer has sent after that. The stream is
 * aborted if it comes to nothing.
 */
export const agree = (stream: Stream, terms: Uint8Array, first: Uint8Array, signal: AbortSignal): Promise<Uint8Array> =>
  new Promise<Uint8Array>((resolve, reject) => {
    let agreed = 0
    const stop = () => {
      stream.removeEventListener("message", hear)
      stream.removeEventListener("remoteCloseWrite", end)
      stream.removeEventListener("close", end)
      signal.removeEventListener("abort", giveUp)
    }
    const fail = (cause: Error) => {
      stop()
      stream.abort(cause)
      reject(cause)
    }
    const giveUp = () => fail(signal.reason)
    const end = (event: Event & { readonly error?: Error }) =>
      fail(event.error ?? new EndedEarlyError("the stream ended before the peer agreed to the protocol"))
    const hear = ({ data }: { readonly data: { readonly subarray: () => Uint8Array } }) => {
      const bytes = data.subarray()
      let offset = 0
      for (; offset < bytes.length && agreed < terms.length; offset++, agreed++) {
        if (bytes[offset] !== terms[agreed]) {
          return fail(new UnsupportedProtocolError(`the peer does not agree to ${stream.protocol}`))
        }
      }
      if (agreed < terms.length) return
      stop()
      resolve(bytes.subarray(offset))
    }
    stream.addEventListener("message", hear)
    stream.addEventListener("remoteCloseWrite", end)
    stream.addEventListener("close", end)
    signal.addEventListener("abort", giveUp)
    stream.send(Buffer.concat([terms, first]))
  })
