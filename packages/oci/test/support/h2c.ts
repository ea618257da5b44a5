/**
 * Clients that speak HTTP/2 with prior knowledge: one that behaves, and one
 * that sends whatever frames a test wants.
 */
import * as Http2 from "node:http2"
import * as Net from "node:net"
import { Effect } from "effect"

/** What a stream brought. */
export interface Answer {
  readonly status: number
  readonly headers: Http2.IncomingHttpHeaders
  readonly body: Buffer
  /** The code of the frame that reset the stream; 0 if it ended well. */
  readonly code: number
}

/** A connection, until the scope closes. */
export const connect = Effect.fnUntraced(function* (address: string, options?: Http2.ClientSessionOptions) {
  return yield* Effect.acquireRelease(
    Effect.callback<Http2.ClientHttp2Session>((resume) => {
      const session = Http2.connect(`http://${address}`, options)
      session.on("error", () => {})
      session.once("connect", () => resume(Effect.succeed(session)))
    }),
    (session) => Effect.sync(() => session.destroy())
  )
})

/** Opens a stream for a request of a peer; nothing of its body is read yet. */
export const open = (
  session: Http2.ClientHttp2Session,
  path: string,
  headers: Http2.OutgoingHttpHeaders = {}
): Http2.ClientHttp2Stream => {
  const stream = session.request({ ":path": path, "gantry-mirrored": "1", ...headers })
  stream.on("error", () => {})
  return stream
}

/** Waits for the headers of a stream's answer. */
export const headersOf = (stream: Http2.ClientHttp2Stream) =>
  Effect.callback<Http2.IncomingHttpHeaders & Http2.IncomingHttpStatusHeader>((resume) => {
    stream.once("response", (headers) => resume(Effect.succeed(headers)))
  })

/** Reads what is left of a stream, whether it ends well or not. */
export const drain = (stream: Http2.ClientHttp2Stream) =>
  Effect.callback<Pick<Answer, "body" | "code">>((resume) => {
    const chunks: Array<Uint8Array> = []
    stream.on("data", (chunk) => chunks.push(chunk))
    stream.once("close", () => resume(Effect.succeed({ body: Buffer.concat(chunks), code: stream.rstCode ?? 0 })))
  })

/** Sends a request and reads its answer. */
export const ask = (
  session: Http2.ClientHttp2Session,
  path: string,
  headers: Http2.OutgoingHttpHeaders = {}
): Effect.Effect<Answer> =>
  Effect.suspend(() => {
    const stream = open(session, path, headers)
    return Effect.map(
      Effect.all([headersOf(stream), drain(stream)], { concurrency: 2 }),
      ([headers, rest]): Answer => ({ status: headers[":status"] ?? 0, headers, ...rest })
    )
  })

/** Waits until a connection has ended. */
export const closed = (connection: Http2.ClientHttp2Session | Net.Socket) =>
  Effect.callback<void>((resume) => {
    if (connection.destroyed) return resume(Effect.void)
    connection.once("close", () => resume(Effect.void))
  })

/** A frame (RFC 9113, section 4.1). */
export const frame = (type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** What a client's connection begins with: the preface, and settings that change nothing. */
export const beginning = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0)])

/** Settings and a window that let the server send without end. */
export const wideOpen = Buffer.concat([
  frame(4, 0, 0, Uint8Array.of(0, 4, 0x7f, 0xff, 0xff, 0xff)),
  frame(8, 0, 0, Uint8Array.of(0x7f, 0xff, 0, 0))
])

/** A header whose name and value are spelled out (RFC 7541, section 6.2.2); both are short. */
const header = (name: string, value: string) =>
  Buffer.concat([name, value].flatMap((text) => [Uint8Array.of(text.length), Buffer.from(text)]))

/** A GET of a peer, all in one frame. */
export const get = (stream: number, path: string): Buffer => {
  const headers = [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "peer"],
    ["gantry-mirrored", "1"]
  ] as const
  const block = headers.flatMap(([name, value]) => [Uint8Array.of(0), header(name, value)])
  return frame(1, 0x5, stream, Buffer.concat(block))
}

/** A bare connection that reads nothing until it is resumed. */
export const connectSocket = (address: string) =>
  Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const [host = "", port] = address.split(":")
      const socket = Net.connect({ host, port: Number(port) }, () => resume(Effect.succeed(socket)))
      socket.on("error", () => {})
      socket.pause()
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
