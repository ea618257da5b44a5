/**
 * Who the members are, from what a source lists and what the listed say of
 * themselves. Neither is trusted: an entry that contradicts itself or takes
 * what belongs to another is left out, and no other entry with it.
 */
import { Member, type NodeId, type PeerId } from "@gantry/protocol"
import * as Host from "effect/net/Host"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { isLoopback } from "../config/Upstream.ts"
import type { Listed } from "./Listed.ts"
import type { SelfDocument } from "./SelfDocument.ts"

/** An entry of the source, and what its agent said last. */
export interface Candidate {
  readonly listed: Listed
  readonly self: Option.Option<SelfDocument>
  /** Why the agent did not answer when it was asked last. */
  readonly failure: Option.Option<string>
}

/** An entry that is no member, or not all that it could be, and why. */
export interface Complaint {
  readonly transferAddress: string
  readonly problem: string
}

/** What a roster comes to. */
export interface Roster {
  readonly members: ReadonlyArray<Member>
  readonly complaints: ReadonlyArray<Complaint>
  /** The entry that stands for each node. */
  readonly holders: ReadonlyMap<NodeId, string>
}

/** A roster of nobody. */
export const empty: Roster = { members: [], complaints: [], holders: new Map() }

const hostOf = (address: string): string =>
  Result.match(Host.hostPortFromString(address), {
    onFailure: () => "",
    onSuccess: ({ host }) => Host.formatHost(host)
  })

const hostIn = (multiaddr: string): string => multiaddr.split("/", 3)[2] ?? ""

/**
 * The multiaddrs of an agent, those of the host first where its blobs are: of a
 * machine with many addresses that is the one that is known to be reached. What
 * is loopback to an agent elsewhere is us to ourselves.
 */
export const reachable = (addresses: ReadonlyArray<string>, transferAddress: string): ReadonlyArray<string> => {
  const host = hostOf(transferAddress)
  const usable = isLoopback(host) ? addresses : addresses.filter((address) => !isLoopback(hostIn(address)))
  return [
    ...usable.filter((address) => hostIn(address) === host),
    ...usable.filter((address) => hostIn(address) !== host)
  ]
}

/** A candidate with a name, and what is wrong with it nevertheless. */
interface Named {
  readonly candidate: Candidate
  readonly member: Member
  readonly problem: Option.Option<string>
}

const contradictionOf = ({ listed }: Candidate, self: SelfDocument): Option.Option<string> => {
  if (Option.exists(listed.nodeId, (nodeId) => nodeId !== self.node_id)) {
    return Option.some(`it says that it is ${self.node_id}`)
  }
  return Option.exists(listed.peerId, (peerId) => peerId !== self.peer_id)
    ? Option.some(`it says that its peer id is ${self.peer_id}`)
    : Option.none()
}

/** The member that a candidate would be, by the list and where that says nothing by itself. */
const name = (candidate: Candidate): Result.Result<Named, string> => {
  const { failure, listed } = candidate
  const contradiction = Option.flatMap(candidate.self, (self) => contradictionOf(candidate, self))
  // What an agent says that is not the listed one is not about the listed one.
  const self = Option.isSome(contradiction) ? undefined : Option.getOrUndefined(candidate.self)
  const nodeId = Option.orElse(listed.nodeId, () => Option.fromUndefinedOr(self?.node_id))
  const problem = Option.orElse(contradiction, () => failure)
  if (Option.isNone(nodeId)) return Result.fail(Option.getOrElse(problem, () => "it has not been asked yet"))
  const addresses = listed.addresses.length > 0 ? listed.addresses : (self?.addresses ?? [])
  const member = new Member({
    nodeId: nodeId.value,
    peerId: Option.orElse(listed.peerId, () => Option.fromUndefinedOr(self?.peer_id)),
    addresses: reachable(addresses, listed.transferAddress),
    contentAddress: Option.some(listed.transferAddress),
    zone: Option.orElse(listed.zone, () => Option.fromUndefinedOr(self?.zone))
  })
  return Result.succeed({ candidate, member, problem })
}

/** Who this node is: nobody else may be. */
export interface Own {
  readonly nodeId: NodeId
  readonly peerId: PeerId
}

/**
 * Who comes first where several claim one name: whom the list names, then who
 * had it, silent or not, for as long as it is listed, then who answers.
 */
const claimOf =
  (former: Roster) =>
  ({ candidate: { failure, listed }, member }: Named): number => {
    if (Option.isSome(listed.nodeId)) return 3
    if (former.holders.get(member.nodeId) === listed.transferAddress) return 2
    return Option.isSome(failure) ? 0 : 1
  }

/** The members among the candidates. Who was a member in the former roster stays one when others claim its name. */
export const make = (candidates: ReadonlyArray<Candidate>, own: Own, former: Roster): Roster => {
  const complaints: Array<Complaint> = []
  const complain = (transferAddress: string, problem: string) => complaints.push({ transferAddress, problem })
  const named: Array<Named> = []
  for (const candidate of candidates) {
    const result = name(candidate)
    if (Result.isSuccess(result)) named.push(result.success)
    else complain(candidate.listed.transferAddress, result.failure)
  }

  const claim = claimOf(former)
  const byNode = new Map<NodeId, Named>()
  const byPeer = new Map<PeerId, Named>()
  for (const claimant of named.toSorted((a, b) => claim(b) - claim(a))) {
    const { candidate, member, problem } = claimant
    const { transferAddress } = candidate.listed
    const peerId = Option.getOrUndefined(member.peerId)
    const isOwn = member.nodeId === own.nodeId
    if (peerId !== undefined && isOwn !== (peerId === own.peerId)) {
      complain(transferAddress, isOwn ? `it has our name, ${own.nodeId}` : "it has our peer id")
      continue
    }
    const holder = byNode.get(member.nodeId)
    if (holder !== undefined) {
      // One machine may be listed by several of its addresses.
      if (Option.getOrUndefined(holder.member.peerId) !== peerId) {
        complain(transferAddress, `${holder.candidate.listed.transferAddress} is ${member.nodeId} already`)
      }
      continue
    }
    const twin = peerId === undefined ? undefined : byPeer.get(peerId)
    if (twin !== undefined) {
      complain(transferAddress, `it has the peer id of ${twin.member.nodeId}`)
      continue
    }
    if (Option.isSome(problem)) complain(transferAddress, problem.value)
    byNode.set(member.nodeId, claimant)
    if (peerId !== undefined) byPeer.set(peerId, claimant)
  }

  const members = named.filter((claimant) => byNode.get(claimant.member.nodeId) === claimant)
  return {
    members: members.map(({ member }) => member),
    complaints,
    holders: new Map(members.map(({ candidate, member }) => [member.nodeId, candidate.listed.transferAddress]))
  }
}
