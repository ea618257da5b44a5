/**
 * A libp2p multiaddr of the kind that our hosts listen on and dial: TCP at an
 * address or a name, `/ip4/10.0.0.1/tcp/4001`, with or without a trailing
 * `/p2p/<peer id>`.
 */
import { isIPv4, isIPv6 } from "node:net"
import { type PeerId, parsePeerId } from "@gantry/protocol"
import * as Host from "effect/net/Host"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** What was read of a multiaddr. */
export interface TcpAddress {
  readonly text: string
  /** The peer that it says is there. */
  readonly peerId: Option.Option<PeerId>
}

/** A name of 253 characters, a peer id of 60, and what is between. */
const maxLength = 400

const pattern = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})(?:\/p2p\/([^/]+))?$/

const isHost = (kind: string, host: string): boolean => {
  if (kind === "ip4") return isIPv4(host)
  return kind === "ip6" ? isIPv6(host) : Result.isSuccess(Host.domainNameFromString(host))
}

/** Reads a multiaddr; none if it is of another kind, or none at all. */
export const parse = (text: string): Option.Option<TcpAddress> => {
  const [, kind = "", host = "", port, peer] = (text.length <= maxLength && pattern.exec(text)) || []
  if (!isHost(kind, host) || Number(port) > 65_535) return Option.none()
  if (peer === undefined) return Option.some({ text, peerId: Option.none() })
  return Option.map(parsePeerId(peer), (peerId) => ({ text, peerId: Option.some(peerId) }))
}

/** A multiaddr as text. */
export const TcpAddress = Schema.String.check(
  Schema.makeFilter((text: string) => Option.isSome(parse(text)), {
    expected: "a TCP multiaddr such as /ip4/10.0.0.1/tcp/4001"
  })
)
