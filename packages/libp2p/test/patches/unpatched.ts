/**
 * js-libp2p as it comes, to see whether it still needs what we do to it.
 */
import { noise } from "@chainsafe/libp2p-noise"
import { yamux } from "@chainsafe/libp2p-yamux"
import type { StreamMuxerFactory } from "@libp2p/interface"
import { tcp } from "@libp2p/tcp"
import { multiaddrConnectionPair } from "@libp2p/utils"
import { Effect, type Scope } from "effect"
import { createLibp2p, type Libp2p, type Libp2pOptions } from "libp2p"

/** A muxer of which nothing is patched. */
export const muxers = (): StreamMuxerFactory => yamux({ enableKeepAlive: false })()

/** The two ends of a connection in memory, below any muxer. */
export const connect = () => {
  const [near, far] = multiaddrConnectionPair()
  return { near, far }
}

/** A node of which nothing is patched, until the scope closes. */
export const startPlain = (options: Partial<Libp2pOptions> = {}): Effect.Effect<Libp2p, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() =>
      createLibp2p({
        addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
        transports: [tcp()],
        connectionEncrypters: [noise()],
        streamMuxers: [muxers],
        connectionMonitor: { enabled: false },
        ...options
      })
    ),
    (node) => Effect.promise(async () => node.stop())
  )
