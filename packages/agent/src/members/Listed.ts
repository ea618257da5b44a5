/**
 * A member as far as a source of members knows it (agent, section 5).
 */
import type { NodeId, PeerId } from "@gantry/protocol"
import * as Host from "effect/net/Host"
import * as Option from "effect/Option"
import { type MemberEntry, peerIdsOf } from "./MemberEntry.ts"

/** Where an agent is, and what is known about it before it is asked. */
export interface Listed {
  /** `host:port` of the endpoint that hands out blobs, and that tells who is there. */
  readonly transferAddress: string
  readonly nodeId: Option.Option<NodeId>
  readonly peerId: Option.Option<PeerId>
  /** libp2p multiaddrs. */
  readonly addresses: ReadonlyArray<string>
  readonly zone: Option.Option<string>
}

/** An agent of which nothing is known but where it is. */
export const at = (transferAddress: string): Listed => ({
  transferAddress,
  nodeId: Option.none(),
  peerId: Option.none(),
  addresses: [],
  zone: Option.none()
})

/** An agent as a list has it. */
export const fromEntry = (entry: MemberEntry): Listed => ({
  transferAddress: Host.formatHostPort(entry.transfer_addr),
  nodeId: entry.node_id,
  peerId: Option.fromIterable(peerIdsOf(entry)),
  addresses: entry.p2p_addrs,
  zone: entry.zone
})

/** Whether the source says all that a member must have, so that the agent need not be asked. */
export const isComplete = ({ addresses, nodeId, peerId }: Listed): boolean =>
  Option.isSome(nodeId) && Option.isSome(peerId) && addresses.length > 0
