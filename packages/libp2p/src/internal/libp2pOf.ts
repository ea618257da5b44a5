/**
 * The js-libp2p node behind a host. Internal: the transport, the benchmarks and
 * the tests of this repository look behind the service, nobody else.
 */
import type { Libp2p } from "@libp2p/interface"

const key: unique symbol = Symbol("@gantry/libp2p/node")

/** Puts a node behind a host. */
export const withLibp2p = <Host extends object>(host: Host, node: Libp2p): Host =>
  Object.defineProperty(host, key, { value: node })

/** The node behind a host that this package made. */
export const libp2pOf = (host: object): Libp2p => {
  const { [key]: node } = host as { readonly [key]?: Libp2p }
  if (node === undefined) throw new TypeError("this host was not made by @gantry/libp2p")
  return node
}
