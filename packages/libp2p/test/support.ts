/**
 * Nodes on the loopback interface, and a wire that can be cut between them.
 */
import * as Net from "node:net"
import { setImmediate } from "node:timers/promises"
import { noise } from "@chainsafe/libp2p-noise"
import { yamux } from "@chainsafe/libp2p-yamux"
import { type PeerResolver, StreamTransport } from "@gantry/coord"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { libp2pOf } from "@gantry/libp2p/internal/libp2pOf"
import { PeerId } from "@gantry/protocol"
import type { MemoryNetwork } from "@gantry/testkit"
import type { Libp2p, MessageStream, StreamMuxer } from "@libp2p/interface"
import { tcp } from "@libp2p/tcp"
import { multiaddr } from "@multiformats/multiaddr"
import { Context, Effect, Layer, Option, type Scope } from "effect"
import { createLibp2p } from "libp2p"

/** A host with its transport, and where to find it. */
export interface Node {
  readonly host: Host.Host["Service"]
  /** The js-libp2p node behind the host. */
  readonly libp2p: Libp2p
  readonly transport: StreamTransport.StreamTransport["Service"]
  readonly address: PeerResolver.PeerAddress
}

export const layerNode = (
  options: Partial<Host.Options> = {},
  identity: Layer.Layer<Identity.Identity> = Layer.fresh(Identity.layerEphemeral)
): Layer.Layer<StreamTransport.StreamTransport | Host.Host, Host.HostError> =>
  Libp2pTransport.layer.pipe(
    Layer.provideMerge(Host.layer({ listen: ["/ip4/127.0.0.1/tcp/0"], ...options })),
    Layer.provide(identity),
    Layer.fresh
  )

/** Starts a node, which runs until the scope closes. */
export const startNode = (
  options?: Partial<Host.Options>,
  identity?: Layer.Layer<Identity.Identity>
): Effect.Effect<Node, Host.HostError, Scope.Scope> =>
  Effect.map(Layer.build(layerNode(options, identity)), (context) => {
    const host = Context.get(context, Host.Host)
    return {
      host,
      libp2p: libp2pOf(host),
      transport: Context.get(context, StreamTransport.StreamTransport),
      address: { peerId: host.peerId, addresses: host.multiaddrs }
    }
  })

/** Lets input and output happen until a condition holds; the test's own deadline bounds it. */
export const eventually = (isMet: () => boolean): Effect.Effect<void> =>
  Effect.promise(async () => {
    while (!isMet()) await setImmediate()
  })

/** Lets so many turns of the event loop go by. */
export const turns = (count: number): Effect.Effect<void> =>
  Effect.promise(async () => {
    for (let turn = 0; turn < count; turn++) await setImmediate()
  })

/** Streams that a node has open, of all its connections. */
export const streamsOf = (node: Node) => node.libp2p.getConnections().flatMap(({ streams }) => streams)

/** Everything until the peer ends its side. */
export const readAll = (stream: StreamTransport.DuplexStream): Effect.Effect<Uint8Array, StreamTransport.StreamError> =>
  Effect.gen(function* () {
    const chunks: Array<Uint8Array> = []
    while (true) {
      const chunk = yield* stream.read
      if (Option.isNone(chunk)) return Uint8Array.from(Buffer.concat(chunks))
      chunks.push(chunk.value)
    }
  })

/** Gives back what comes, and ends when the peer does. */
export const echo = (stream: StreamTransport.DuplexStream): Effect.Effect<void, StreamTransport.StreamError> =>
  Effect.gen(function* () {
    while (true) {
      const chunk = yield* stream.read
      if (Option.isNone(chunk)) return yield* stream.close
      yield* stream.write(chunk.value)
    }
  })

/** A handler that serves each stream in a fiber of the scope. */
export const serve =
  (
    scope: Scope.Scope,
    use: (stream: StreamTransport.DuplexStream) => Effect.Effect<void, StreamTransport.StreamError>
  ) =>
  (stream: StreamTransport.DuplexStream): Effect.Effect<void> =>
    Effect.asVoid(Effect.forkIn(Effect.ignore(use(stream)), scope))

export const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
export const bytes = (text: string) => new TextEncoder().encode(text)

const addressOf = (server: Net.Server) => {
  const address = server.address() as Net.AddressInfo | string
  return typeof address === "string" ? `/unix/${encodeURIComponent(address)}` : `/ip4/127.0.0.1/tcp/${address.port}`
}

/** A server on a free port, or at a path in the file system, and its sockets. */
export const listen = (onSocket: (socket: Net.Socket) => void, path?: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly address: string; readonly server: Net.Server; readonly sockets: Set<Net.Socket> }>(
      (resume) => {
        const sockets = new Set<Net.Socket>()
        const server = Net.createServer((socket) => {
          sockets.add(socket)
          socket.on("error", () => {})
          socket.on("close", () => sockets.delete(socket))
          socket.resume()
          onSocket(socket)
        })
        server.listen(path === undefined ? { port: 0, host: "127.0.0.1" } : { path }, () =>
          resume(Effect.succeed({ address: addressOf(server), server, sockets }))
        )
      }
    ),
    ({ server, sockets }) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )

const portOf = (address: string) =>
  Number(
    multiaddr(address)
      .getComponents()
      .find(({ name }) => name === "tcp")?.value
  )

/** A TCP connection that says nothing. */
export const connect = (address: string) =>
  Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const socket = Net.connect(portOf(address), "127.0.0.1", () => resume(Effect.succeed(socket)))
      socket.on("error", () => {})
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** A way to a node on which bytes can be held up, as when the node loses its power, and whose sockets can be closed. */
export interface Wire {
  readonly address: PeerResolver.PeerAddress
  /** Holds up what goes to the node, or comes from it, until that is healed. Nobody is told. */
  readonly hold: (...ways: ReadonlyArray<"to" | "from">) => Effect.Effect<MemoryNetwork.Fault>
  readonly sever: Effect.Effect<void>
}

/** Starts a way to a node, which is open until the scope closes. */
export const startWire = (node: Node): Effect.Effect<Wire, never, Scope.Scope> =>
  Effect.gen(function* () {
    const port = portOf(node.address.addresses[0] as string)
    const held = new Map<"to" | "from", Array<() => void>>()
    const sockets = new Set<Net.Socket>()
    const pass = (way: "to" | "from", socket: Net.Socket, data: Uint8Array) => {
      const waiting = held.get(way)
      if (waiting === undefined) socket.write(data)
      else waiting.push(() => socket.write(data))
    }
    const sever = Effect.sync(() => {
      for (const waiting of held.values()) waiting.length = 0
      for (const socket of sockets) socket.destroy()
    })
    yield* Effect.addFinalizer(() => sever)
    const { address } = yield* listen((near) => {
      const far = Net.connect(port, "127.0.0.1")
      for (const [socket, other] of [
        [near, far],
        [far, near]
      ] as const) {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => {
          sockets.delete(socket)
          other.destroy()
        })
      }
      near.on("data", (data) => pass("to", far, data))
      far.on("data", (data) => pass("from", near, data))
    })
    return {
      address: { peerId: node.address.peerId, addresses: [address] },
      hold: (...ways) =>
        Effect.sync(() => {
          for (const way of ways) held.set(way, held.get(way) ?? [])
          return {
            heal: Effect.sync(() => {
              for (const way of ways) {
                const waiting = held.get(way) ?? []
                held.delete(way)
                for (const go of waiting) go()
              }
            })
          }
        }),
      sever
    }
  })

/**
 * A peer that keeps to no rules, where it wants to: it gets hold of what is
 * below the muxer of its last connection. With `onStream`, it is told of each
 * stream of the other side, and never answers there.
 */
export const startRogue = Effect.fnUntraced(function* (options: { readonly onStream?: () => void } = {}) {
  let below: MessageStream | undefined
  const node = yield* Effect.acquireRelease(
    Effect.promise(() =>
      createLibp2p({
        addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
        transports: [tcp()],
        connectionEncrypters: [noise()],
        streamMuxers: [
          () => {
            const muxers = yamux()()
            return {
              protocol: muxers.protocol,
              createStreamMuxer(connection) {
                below = connection
                const muxer: StreamMuxer = muxers.createStreamMuxer(connection)
                const { onStream } = options
                // Streams are all that the connection above listens for.
                if (onStream !== undefined) {
                  const listen = muxer.addEventListener.bind(muxer)
                  muxer.addEventListener = () => listen("stream", onStream)
                }
                return muxer
              }
            }
          }
        ]
      })
    ),
    (node) => Effect.promise(async () => node.stop())
  )
  return {
    node,
    address: {
      peerId: PeerId.make(node.peerId.toString()),
      addresses: node.getMultiaddrs().map((address) => address.toString())
    },
    connect: (address: string) => Effect.promise(() => node.dial(multiaddr(address))),
    send: (bytes: Uint8Array) => below?.send(bytes),
    /** Does something right after the next bytes of the other side have come. */
    onceTold: (react: () => void) => below?.addEventListener("message", react, { once: true })
  }
})

/** The header of a Yamux frame: bytes of a stream, or the word that no streams are wanted any more. */
export const frameHeader = (type: "data" | "go away", streamId: number, length: number) => {
  const header = new DataView(new ArrayBuffer(12))
  header.setUint8(1, type === "data" ? 0 : 3)
  header.setUint32(4, streamId)
  header.setUint32(8, length)
  return new Uint8Array(header.buffer)
}
