/**
 * Which nodes count for a digest, best first.
 */
import type { MembersView } from "@gantry/coord/MembersView"
import type { Digest, NodeId } from "@gantry/protocol"
import * as Option from "effect/Option"

/** The candidates of a node: the members of its own zone, or all members (protocol, section 8). */
export const candidates = (view: MembersView, self: NodeId, digest: Digest): ReadonlyArray<NodeId> => {
  const zone = Option.flatMap(view.byNodeId(self), (member) => member.zone)
  const near = new Set(view.inZone(zone))
  return view.ranking(digest).filter((node) => near.has(node))
}
