/**
 * The limit: js-libp2p without us, as its own documentation would write it.
 * One stream per request, the bytes of a request sent back.
 */
import type { Connection, Libp2p, Stream } from "@libp2p/interface"
import { multiaddr } from "@multiformats/multiaddr"

export const protocol = "/gantry/bench/echo/1.0.0"

/** As many streams as the coordination allows itself. */
const limits = { maxInboundStreams: 1_024, maxOutboundStreams: 1_024 }

/** What a frame needs until it is whole; its length is in one byte or two. */
const isWhole = (frame: Uint8Array): boolean => {
  const [first = 0, second = 0] = frame
  return first < 0x80 ? frame.length > first : frame.length > 1 + (first & 0x7f) + second * 0x80
}

const readFrame = (stream: Stream): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    let frame: Uint8Array = new Uint8Array()
    stream.addEventListener("message", ({ data }) => {
      const chunk = data.subarray()
      frame = frame.length === 0 ? chunk : Buffer.concat([frame, chunk])
      if (isWhole(frame)) resolve(frame)
    })
    stream.addEventListener("close", ({ error }) => reject(error ?? new Error("ended before its frame")))
  })

const answer = async (stream: Stream) => {
  stream.send(await readFrame(stream))
  await stream.close()
}

/** Answers every stream with its first frame. */
export const serve = (node: Libp2p): Promise<void> =>
  node.handle(protocol, (stream) => void answer(stream).catch((cause) => stream.abort(cause)), limits)

/** The connection to a peer, made if need be. */
export const dial = (node: Libp2p, address: string): Promise<Connection> => node.dial(multiaddr(address))

/** Sends a frame on a stream of its own, and waits for its echo. */
export const ask = async (connection: Connection, frame: Uint8Array): Promise<void> => {
  const stream = await connection.newStream(protocol, limits)
  const echoed = readFrame(stream)
  stream.send(frame)
  await stream.close()
  await echoed
}
