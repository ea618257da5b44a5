/**
 * What a host tells others of where it is.
 */
import { isIPv6 } from "node:net"
import type { PeerId } from "@gantry/protocol"
import { peerIdFromString } from "@libp2p/peer-id"
import type { Multiaddr } from "@multiformats/multiaddr"

const hostNames = new Set(["ip4", "ip6", "dns", "dns4", "dns6"])

const isUnspecified = (host: string | undefined) => host === "0.0.0.0" || host === "::"

/** Why nobody could reach a peer at this address; undefined if somebody may. */
export const flawOf = (address: Multiaddr, peerId: PeerId): string | undefined => {
  const [host, port, peer, ...more] = address.getComponents()
  if (host === undefined || !hostNames.has(host.name) || port?.name !== "tcp" || more.length > 0) {
    return "it is not the TCP address of a host"
  }
  if (isUnspecified(host.value)) return "it names no host"
  if (port.value === "0") return "it names no port"
  if (peer === undefined) return undefined
  if (peer.name !== "p2p" || peer.value === undefined) return "it is not the TCP address of a host"
  return peerIdFromString(peer.value).toString() === peerId ? undefined : "it names another peer"
}

/** Who can use an address: this machine (0), its link (1), or more. */
const scopeOf = (address: Multiaddr): number => {
  const host = address.getComponents().find(({ name }) => hostNames.has(name))?.value ?? ""
  if (host.startsWith("127.") || host === "::1") return 0
  return host.startsWith("169.254.") || (isIPv6(host) && /^fe[89ab]/i.test(host)) ? 1 : 2
}

/** Of the addresses that were bound, those that most can use: a peer that tries others first loses time. */
export const published = (bound: ReadonlyArray<Multiaddr>): Array<Multiaddr> => {
  const widest = Math.max(...bound.map(scopeOf))
  return bound.filter((address) => scopeOf(address) === widest)
}
