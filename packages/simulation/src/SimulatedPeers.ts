/**
 * How the nodes of a simulation hand out blobs: a blob endpoint and an HTTP
 * client, over streams of the network in memory, so that both meet the faults
 * that coordination meets.
 */
import type { DuplexStream, StreamTransport } from "@gantry/coord/StreamTransport"
import { Digest, type PeerId } from "@gantry/protocol"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as HttpClient from "effect/http/HttpClient"
import { HttpClientError, TransportError } from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Ledger } from "./Ledger.ts"
import type { PlannedBlob } from "./Plan.ts"
import type { SimulatedDisk } from "./SimulatedDisk.ts"

/** The protocol of blob streams on the network. */
export const protocol = "/simulation/blobs"

/** Blobs that one node hands out at once (parts, Peer transfer). */
const maxServing = 10

/** What a blob endpoint does at the moment. */
export interface Endpoint {
  serving: number
  /** It sends something else. */
  isWrong: boolean
  /** It stops in the middle. */
  isStalling: boolean
}

interface Ask {
  readonly digest: Digest
  readonly offset: number
}

interface Head {
  readonly status: number
  readonly headers: Record<string, string>
}

const encoder = new TextEncoder()
const encode = (value: Ask | Head) => encoder.encode(JSON.stringify(value))
const decode = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString())

/** Hands out what the disk has. */
export const serve = Effect.fnUntraced(function* (options: {
  readonly node: number
  readonly nodeOf: (peerId: PeerId) => number
  readonly transport: StreamTransport["Service"]
  readonly disk: SimulatedDisk
  readonly endpoint: Endpoint
  readonly blobs: ReadonlyArray<PlannedBlob>
  readonly ledger: Ledger
}) {
  const { disk, endpoint, ledger, node } = options
  const planned = new Map(options.blobs.map((blob) => [blob.digest, blob]))
  const streams = yield* FiberSet.make<void>()

  const refuse = (stream: DuplexStream, status: number, headers: Record<string, string> = {}) =>
    stream.write(encode({ status, headers }))

  const answer = Effect.fnUntraced(function* (stream: DuplexStream) {
    const asked = yield* stream.read
    if (Option.isNone(asked)) return
    const { digest, offset }: Ask = decode(asked.value)
    const peer = options.nodeOf(stream.remotePeer)
    if (disk.millis > 0) yield* Effect.sleep(disk.millis)
    const bytes = disk.blobs.get(digest)
    if (bytes === undefined) return yield* refuse(stream, 404)
    if (endpoint.serving >= maxServing) return yield* refuse(stream, 503, { "retry-after": "1" })
    if (offset >= bytes.length) return yield* refuse(stream, 416)
    if (!ledger.isTrue(digest, bytes)) ledger.violate("only verified bytes", `node-${node} hands out wrong bytes`, node)
    ledger.note(node, "transfer", `hands ${ledger.nameOf(digest)} to node-${peer}`, peer)
    const body = endpoint.isWrong ? bytes.map((byte) => byte ^ 2) : bytes
    const deliver = Effect.gen(function* () {
      const status = offset > 0 ? 206 : 200
      const range = `bytes ${offset}-${bytes.length - 1}/${bytes.length}`
      const headers = {
        "content-length": `${bytes.length - offset}`,
        ...(offset > 0 ? { "content-range": range } : {})
      }
      yield* stream.write(encode({ status, headers }))
      const half = offset + Math.ceil((bytes.length - offset) / 2)
      const pause = (planned.get(digest)?.peerMillis ?? 10) / 2
      yield* Effect.sleep(pause)
      yield* stream.write(body.subarray(offset, half))
      // Until the other side loses patience.
      if (endpoint.isStalling) yield* Effect.sleep("2 minutes")
      yield* Effect.sleep(pause)
      if (half < bytes.length) yield* stream.write(body.subarray(half))
    })
    endpoint.serving++
    yield* Effect.ensuring(
      deliver,
      Effect.sync(() => endpoint.serving--)
    )
  })

  yield* options.transport.handle(protocol, (stream) =>
    Effect.asVoid(
      FiberSet.run(
        streams,
        answer(stream).pipe(
          Effect.timeoutOption("3 minutes"),
          Effect.ignore,
          Effect.andThen(stream.close),
          Effect.onInterrupt(() => stream.reset)
        )
      )
    )
  )
})

/** An HTTP client that reaches the endpoints by the names of their nodes. Its requests end with the scope they are made in. */
export const layerClient = (
  transport: StreamTransport["Service"],
  peerOf: (host: string) => PeerId
): Layer.Layer<HttpClient.HttpClient> => {
  const execute = (request: HttpClientRequest.HttpClientRequest) => {
    const fail = (error: { readonly message: string }) =>
      Effect.fail(
        new HttpClientError({ reason: new TransportError({ request, description: error.message, cause: error }) })
      )
    return Effect.gen(function* () {
      const url = new URL(request.url)
      const digest = Digest.make(url.pathname.slice(url.pathname.lastIndexOf("/") + 1))
      const offset = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0)
      const stream = yield* transport.open({ peerId: peerOf(url.hostname), addresses: [] }, protocol)
      yield* stream.write(encode({ digest, offset }))
      yield* stream.closeWrite
      const first = yield* stream.read
      if (Option.isNone(first)) return yield* fail({ message: "it ended without an answer" })
      const { headers, status }: Head = decode(first.value)
      const next = Effect.flatMap(
        stream.read,
        Option.match({ onNone: () => Cause.done(), onSome: (chunk) => Effect.succeed(Arr.of(chunk)) })
      )
      const body = Stream.fromPull(Effect.succeed(Effect.catchTag(next, "StreamError", fail)))
      const response = HttpClientResponse.fromWeb(request, new Response(null, { status, headers }))
      return Object.create(response, { stream: { value: body } }) as HttpClientResponse.HttpClientResponse
    }).pipe(Effect.catchTags({ OpenError: fail, StreamError: fail }))
  }
  const client = HttpClient.makeWith(
    (request: Effect.Effect<HttpClientRequest.HttpClientRequest>) => Effect.flatMap(request, execute),
    Effect.succeed
  )
  return Layer.succeed(HttpClient.HttpClient, client as unknown as HttpClient.HttpClient)
}
