/**
 * Patch of libp2p 3.3.11, src/connection.ts, `onIncomingStream`, and
 * @libp2p/multistream-select 7.0.28, src/handle.ts.
 *
 * Upstream selects the protocol of each inbound stream in a dozen promises,
 * reads and answers the proposal line by line, and makes an
 * `AbortSignal.timeout`, which V8 keeps until the next collection of the whole
 * heap. That is a fifth of what a query costs, and most of what the memory of a
 * busy node grows by. Yet nearly all peers propose one protocol, in the first
 * bytes of the stream.
 *
 * Delete it once a proposal that comes in one piece costs next to nothing.
 */
import type { Connection, Stream, StreamHandler, StreamMessageEvent, StreamMuxer } from "@libp2p/interface"
import { greeting } from "../selection.ts"

interface Components {
  readonly events: {
    readonly addEventListener: (type: "connection:open", listener: (event: CustomEvent<Connection>) => void) => void
  }
  readonly connectionManager: { readonly getConnections: () => ReadonlyArray<Connection> }
  readonly registrar: {
    /** Throws if there is none. */
    readonly getHandler: (protocol: string) => {
      readonly handler: StreamHandler
      readonly options: { readonly maxInboundStreams?: number }
    }
    readonly getMiddleware: (protocol: string) => ReadonlyArray<unknown>
  }
}

/** What a connection has that its interface does not say. */
interface Inner extends Connection {
  readonly muxer?: StreamMuxer
  readonly onIncomingStream: (event: CustomEvent<Stream>) => void
}

/** A proposal that is whole, and what it proposes. */
interface Proposal {
  readonly protocol: string
  readonly bytes: Uint8Array
}

const lineFeed = 0x0a
/** A longer line has two bytes for its length; no protocol here has such a name. */
const maxLineBytes = 0x7f

/** The proposal that bytes begin with, if it is whole. */
const proposalIn = (bytes: Uint8Array): Proposal | undefined => {
  const begin = greeting.length + 1
  const end = begin + (bytes[greeting.length] ?? maxLineBytes + 1)
  if (end - begin > maxLineBytes || bytes[end - 1] !== lineFeed) return undefined
  for (let index = 0; index < greeting.length; index++) {
    if (bytes[index] !== greeting[index]) return undefined
  }
  return { protocol: String.fromCharCode(...bytes.subarray(begin, end - 1)), bytes: bytes.subarray(0, end) }
}

/**
 * Makes connections agree at once to a proposal that comes in one piece, and
 * hand the stream to whoever handles its protocol. All else is left to upstream.
 * A stream whose peer proposes nothing for so many milliseconds, or half of
 * them, is aborted.
 */
export const selectAtOnce =
  (millis: number) =>
  ({ connectionManager, events, registrar }: Components): object => {
    /** Who handles the proposed protocol, if nothing but the stream is in the way. */
    const handlerOf = ({ protocol }: Proposal, { streams }: Connection): StreamHandler | undefined => {
      if (registrar.getMiddleware(protocol).length > 0) return undefined
      try {
        const { handler, options } = registrar.getHandler(protocol)
        const others = streams.filter((stream) => isInbound(stream) && stream.protocol === protocol).length
        return others < (options.maxInboundStreams ?? 0) ? handler : undefined
      } catch {
        return undefined
      }
    }

    const handOver = async (stream: Stream, connection: Connection, handler: StreamHandler) => {
      // js-libp2p tells of bytes in the middle of its work.
      await undefined
      try {
        await handler(stream, connection)
      } catch (cause) {
        stream.abort(cause as Error)
      }
    }

    const take = (stream: Stream, connection: Inner) => {
      const hear = ({ data }: StreamMessageEvent) => {
        stream.removeEventListener("message", hear)
        const bytes = data.subarray()
        const proposal = proposalIn(bytes)
        const handler = proposal && handlerOf(proposal, connection)
        if (proposal === undefined || handler === undefined) {
          stream.unshift(bytes)
          return connection.onIncomingStream(new CustomEvent("stream", { detail: stream }))
        }
        stream.unshift(bytes.subarray(proposal.bytes.length))
        stream.protocol = proposal.protocol
        if (stream.writeStatus === "writable") stream.send(proposal.bytes)
        void handOver(stream, connection, handler)
      }
      stream.addEventListener("message", hear)
    }

    events.addEventListener("connection:open", ({ detail }) => {
      const connection = detail as Inner
      const { muxer, onIncomingStream } = connection
      if (muxer === undefined) return
      muxer.removeEventListener("stream", onIncomingStream)
      muxer.addEventListener("stream", ({ detail: stream }) => take(stream, connection))
    })

    let silent = new Set<Stream>()
    const abortSilent = () => {
      const streams = connectionManager.getConnections().flatMap(({ streams }) => streams)
      const stillSilent = new Set(streams.filter((stream) => isInbound(stream) && stream.protocol === ""))
      for (const stream of stillSilent) {
        if (silent.has(stream)) stream.abort(new Error("the peer does not say what the stream is for"))
      }
      silent = stillSilent
    }
    let timer: NodeJS.Timeout | undefined
    return {
      start: () => {
        timer = setInterval(abortSilent, millis / 2)
      },
      stop: () => clearInterval(timer)
    }
  }

const isInbound = ({ direction }: Stream) => direction === "inbound"
