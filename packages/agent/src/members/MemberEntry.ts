/**
 * A member as a file or the configuration lists it (agent, section 5): where
 * its agent is, and as much of the rest as the list knows. What it does not
 * know the agent tells itself.
 */
import { NodeId, PeerId, parsePeerId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import { Address } from "../config/Units.ts"
import * as TcpAddress from "./TcpAddress.ts"

/** As many as an agent has listeners, and more. */
export const maxAddresses = 16

const expectedName = "a name of at most 253 characters"

const shortText = Schema.String.check(
  Schema.isNonEmpty({ expected: expectedName }),
  Schema.isMaxLength(253, { expected: expectedName })
)

/** A node id of a length that a name of a machine may have. */
export const ShortNodeId = shortText.pipe(Schema.decodeTo(NodeId))

/** The name of a zone. */
export const Zone = shortText

const expectedPeerId = "a libp2p peer id such as 12D3KooW…"

/** A peer id in any form that libp2p writes. */
export const PeerIdText: Schema.Codec<PeerId, string> = Schema.String.annotate({ expected: expectedPeerId }).pipe(
  Schema.decodeTo(PeerId, {
    decode: SchemaGetter.transformEffect((text) =>
      Effect.mapError(
        Effect.fromOption(parsePeerId(text)),
        () => new SchemaIssue.InvalidValue({ expected: expectedPeerId })
      )
    ),
    encode: SchemaGetter.passthrough()
  })
)

const P2pAddresses = Schema.Array(TcpAddress.TcpAddress).check(Schema.isMaxLength(maxAddresses))

/** A member as it is listed. */
export const MemberEntry = Schema.Struct({
  transfer_addr: Address,
  node_id: Schema.OptionFromOptionalKey(ShortNodeId),
  peer_id: Schema.OptionFromOptionalKey(PeerIdText),
  p2p_addrs: P2pAddresses.pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))),
  zone: Schema.OptionFromOptionalKey(Zone)
})
export type MemberEntry = typeof MemberEntry.Type

/** The peers that an entry names; it must be about one. */
export const peerIdsOf = ({ p2p_addrs, peer_id }: MemberEntry): ReadonlySet<PeerId> =>
  new Set([
    ...Option.toArray(peer_id),
    ...p2p_addrs.flatMap((address) => Option.toArray(Option.flatMap(TcpAddress.parse(address), ({ peerId }) => peerId)))
  ])
