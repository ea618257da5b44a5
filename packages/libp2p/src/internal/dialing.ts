/**
 * Dialing a peer that has several addresses. js-libp2p tries them one after the
 * other (libp2p 3.3.11, src/connection-manager/dial-queue.ts, `dialPeer`), and
 * waits for each: one that swallows what it is sent would use up the time of a
 * call, though the next one works. Nodes publish the addresses of all their
 * interfaces, of which a peer may reach but one.
 */
import type { PeerId } from "@gantry/protocol"
import type { Connection, Libp2p } from "@libp2p/interface"
import { CODE_P2P, type Multiaddr } from "@multiformats/multiaddr"
import { nextAddressMillis } from "./limits.ts"

/** How a dial is given up, and how it waits. */
export interface Dialing {
  readonly signal: AbortSignal
  readonly sleep: (millis: number, signal: AbortSignal) => Promise<void>
}

/**
 * Dials addresses in their order: the next one as soon as the one before it has
 * failed, or has led nowhere for a moment. The first connection to the peer
 * counts; all else is given up.
 */
export const dialInTurn = (
  node: Libp2p,
  peerId: PeerId,
  addresses: ReadonlyArray<Multiaddr>,
  { signal, sleep }: Dialing
): Promise<Connection> =>
  new Promise((resolve, reject) => {
    const isDone = new AbortController()
    const over = AbortSignal.any([signal, isDone.signal])
    const failures: Array<unknown> = []
    const waiting = [...addresses]

    const connect = async (address: Multiaddr): Promise<void> => {
      // Those with the id of the peer would be put into one dial, one after the other.
      const connection = await node.dial(address.decapsulateCode(CODE_P2P), { signal: over, force: true })
      const leadsTo = connection.remotePeer.toString()
      if (leadsTo === peerId && !over.aborted) {
        isDone.abort()
        return resolve(connection)
      }
      const cause = new Error(leadsTo === peerId ? "another address was faster" : `${address} leads to peer ${leadsTo}`)
      connection.abort(cause)
      throw cause
    }

    const dialNext = (): void => {
      const address = waiting.shift()
      if (address === undefined || over.aborted) return
      const hasFailed = new AbortController()
      connect(address).catch((cause) => {
        failures.push(cause)
        if (failures.length === addresses.length) reject(new AggregateError(failures))
        hasFailed.abort()
      })
      // Whether it has failed or not.
      sleep(nextAddressMillis, AbortSignal.any([over, hasFailed.signal])).then(dialNext, dialNext)
    }

    signal.addEventListener("abort", () => reject(signal.reason))
    dialNext()
  })
