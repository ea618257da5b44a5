/**
 * Patch of libp2p 3.3.11, src/connection.ts:180 and 239, `peerStore.merge`.
 *
 * For each stream, in both directions, upstream notes in the store of peers
 * that the peer speaks the protocol: a lock, a read, a merge and a write, for
 * something that nobody reads here. The store of this host keeps nothing.
 *
 * Delete it once a libp2p node can be made without a store of peers.
 */
import type { Peer, PeerId, PeerStore } from "@libp2p/interface"

const nothingKnown = (id: PeerId): Peer => ({
  id,
  addresses: [],
  protocols: [],
  metadata: new Map(),
  tags: new Map()
})

interface Components {
  readonly peerId: PeerId
  readonly peerStore: PeerStore
  readonly registrar: { readonly getProtocols: () => Array<string> }
}

/**
 * Makes the store of peers keep nothing, and know nothing but the protocols of
 * this node, for which identify asks it.
 */
export const forgetPeers = ({ peerId, peerStore, registrar }: Components): object => {
  const get = peerStore.get.bind(peerStore)
  peerStore.merge = async (id) => nothingKnown(id)
  peerStore.get = async (id, options) =>
    id.equals(peerId) ? { ...nothingKnown(id), protocols: registrar.getProtocols() } : get(id, options)
  return {}
}
