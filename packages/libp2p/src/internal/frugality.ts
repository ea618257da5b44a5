/**
 * What js-libp2p does for each stream and connection, and a node of a large
 * cluster has no use for.
 */
import type { Connection, Logger, Peer, PeerId, PeerStore } from "@libp2p/interface"
import type { Libp2pOptions } from "libp2p"

const ignore = () => {}
const silent: Logger = Object.assign(ignore, { enabled: false, error: ignore, trace: ignore, newScope: () => silent })

const nothingKnown = (id: PeerId): Peer => ({
  id,
  addresses: [],
  protocols: [],
  metadata: new Map(),
  tags: new Map()
})

/** What the parts of a node hand out of themselves. */
interface Components {
  readonly peerStore: PeerStore
  readonly connectionManager: {
    getConnections: (peerId?: PeerId) => ReadonlyArray<Connection>
    readonly getConnectionsMap: () => {
      readonly get: (peerId: PeerId) => Array<Connection> | undefined
      readonly values: () => Iterable<Array<Connection>>
    }
  }
}

/** Settings of a node that make it forgo them. */
export const frugal = {
  // Each stream and each of its parts makes loggers of its own; only who asks for them gets to read them.
  ...(process.env.DEBUG === undefined && { logger: { forComponent: () => silent } }),
  services: {
    // For every stream it notes in the store of peers that the peer speaks the protocol; that store keeps nothing.
    peers: ({ peerStore }: Components) => {
      peerStore.merge = async (peerId) => nothingKnown(peerId)
      return {}
    },
    // It asks for the list of all connections whenever one opens, and builds it by copying it once per peer: with
    // thousands of them that takes longer than the handshake.
    connections: ({ connectionManager }: Components) => {
      connectionManager.getConnections = (peerId) => {
        const connections = connectionManager.getConnectionsMap()
        if (peerId !== undefined) return connections.get(peerId) ?? []
        const all: Array<Connection> = []
        for (const those of connections.values()) all.push(...those)
        return all
      }
      return {}
    }
  }
} satisfies Partial<Libp2pOptions<{ peers: object; connections: object }>>
