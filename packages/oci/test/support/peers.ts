import * as Http from "node:http"
import * as Http2 from "node:http2"
import type * as Net from "node:net"
import { BlobEndpoint, type BlobStore } from "@gantry/oci"
import { Member, NodeId } from "@gantry/protocol"
import { Context, Effect, Layer, Option, Queue } from "effect"
import { layerBlobs } from "./blobs.ts"

/** A member that publishes that content address. */
export const memberAt = (name: string, address: string | undefined): Member =>
  new Member({
    nodeId: NodeId.make(name),
    peerId: Option.none(),
    addresses: [],
    contentAddress: Option.fromUndefinedOr(address),
    zone: Option.none()
  })

/** A peer with our own endpoint over the given store. */
export const honestPeer = (name: string, blobs: Layer.Layer<BlobStore.BlobStore>, options?: BlobEndpoint.Options) =>
  Effect.map(Layer.build(Layer.fresh(BlobEndpoint.layer(options)).pipe(Layer.provide(blobs))), (context) =>
    memberAt(name, Context.get(context, BlobEndpoint.BlobEndpoint).address)
  )

/** What a peer was asked. */
export interface Asked {
  readonly url: string
  readonly range: string | undefined
  readonly mirrored: string | undefined
}

/** A peer that answers however the test wants, and the requests it was sent. */
export const scriptedPeer = Effect.fnUntraced(function* (
  name: string,
  answer: (response: Http.ServerResponse, asked: Asked, count: number) => void,
  port = 0
) {
  const requests = yield* Queue.unbounded<Asked>()
  let count = 0
  const server = Http.createServer(({ headers, url = "" }, response) => {
    const asked = { url, range: headers.range, mirrored: headers["gantry-mirrored"]?.toString() }
    Queue.offerUnsafe(requests, asked)
    answer(response, asked, ++count)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(port, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return { member: memberAt(name, `127.0.0.1:${portOf(server)}`), requests }
})

const portOf = (server: Net.Server): number => (server.address() as Net.AddressInfo).port

/** A peer that speaks HTTP/2 with prior knowledge and nothing else. */
export const h2cPeer = Effect.fnUntraced(function* (name: string, answer: (stream: Http2.ServerHttp2Stream) => void) {
  const sockets = new Set<Net.Socket>()
  let refused = 0
  const server = Http2.createServer()
  server.on("connection", (socket: Net.Socket) => sockets.add(socket))
  server.on("sessionError", () => refused++)
  server.on("stream", (stream: Http2.ServerHttp2Stream) => {
    stream.on("error", () => {})
    answer(stream)
  })
  const stop = Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
    for (const socket of sockets) socket.destroy()
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => stop
  )
  const port = portOf(server)
  return {
    member: memberAt(name, `127.0.0.1:${port}`),
    port,
    /** How many connections did not begin as HTTP/2 does. */
    refused: () => refused,
    stop
  }
})

/** The first byte that a range asks for. */
export const firstOf = (range: string | undefined): number => Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0)

/** Tells what a receiving store has taken. */
export interface Progress {
  /** In memory, and empty. */
  readonly store: Layer.Layer<BlobStore.BlobStore>
  /** Runs once a writer of the store holds so many bytes. */
  readonly at: (offset: number, run: () => void) => void
}

export const makeProgress = (): Progress => {
  let waiting: ReadonlyArray<{ readonly offset: number; readonly run: () => void }> = []
  const notice = (reached: number) => {
    const due = waiting.filter(({ offset }) => offset <= reached)
    waiting = waiting.filter(({ offset }) => offset > reached)
    for (const { run } of due) run()
  }
  const store = layerBlobs([], (store) => ({
    writer: (digest, options) =>
      Effect.map(store.writer(digest, options), (writer) => ({
        ...writer,
        append: (chunk: Uint8Array) => Effect.tap(writer.append(chunk), () => Effect.map(writer.offset, notice))
      }))
  }))
  return {
    store,
    at: (offset, run) => {
      waiting = [...waiting, { offset, run }]
    }
  }
}

/** Sends the bytes from the first that is asked for. */
export const sendAll = (response: Http.ServerResponse, asked: Asked, bytes: Uint8Array) =>
  sendHead(response, asked, bytes).end(bytes.subarray(firstOf(asked.range)))

/** Sends the bytes from the first that is asked for up to `until`, and breaks off once they have been taken. */
export const sendUntil = (
  response: Http.ServerResponse,
  asked: Asked,
  bytes: Uint8Array,
  until: number,
  progress: Progress
) => {
  sendHead(response, asked, bytes).write(bytes.subarray(firstOf(asked.range), until))
  progress.at(until, () => response.destroy())
}

const sendHead = (response: Http.ServerResponse, { range }: Asked, bytes: Uint8Array) => {
  const first = firstOf(range)
  const length = { "content-length": `${bytes.length - first}` }
  return range === undefined
    ? response.writeHead(200, length)
    : response.writeHead(206, { ...length, "content-range": `bytes ${first}-${bytes.length - 1}/${bytes.length}` })
}
