/**
 * Patch of libp2p 3.3.11, src/connection-manager/index.ts:527,
 * `getConnections`.
 *
 * Upstream asks for the list of all connections whenever one opens (line 687),
 * and builds it by copying it once for each peer. With thousands of peers that
 * takes longer than the handshake.
 *
 * Delete it once the list is built in one go, or only counted.
 */
import type { Connection, PeerId } from "@libp2p/interface"

interface Components {
  readonly connectionManager: {
    getConnections: (peerId?: PeerId) => ReadonlyArray<Connection>
    readonly getConnectionsMap: () => {
      readonly get: (peerId: PeerId) => Array<Connection> | undefined
      readonly values: () => Iterable<Array<Connection>>
    }
  }
}

/** Makes a connection manager list its connections in one go. */
export const listConnections = ({ connectionManager }: Components): object => {
  connectionManager.getConnections = (peerId) => {
    const connections = connectionManager.getConnectionsMap()
    if (peerId !== undefined) return connections.get(peerId) ?? []
    const all: Array<Connection> = []
    for (const those of connections.values()) all.push(...those)
    return all
  }
  return {}
}
