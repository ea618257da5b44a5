/**
 * Who is in the cluster, and which of them we are.
 */
import { type Member, NodeId } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as MembersView from "./MembersView.ts"

/** The membership of the cluster, as this node sees it (parts, Members). */
export class Members extends Context.Service<
  Members,
  {
    /** Our own node id, whether or not the membership lists it yet. */
    readonly self: NodeId
    /** The membership now. */
    readonly view: Effect.Effect<MembersView.MembersView>
    /** The membership now and after every change. */
    readonly changes: Stream.Stream<MembersView.MembersView>
  }
>()("@gantry/coord/Members") {}

/** A membership that never changes. */
export const layerStatic = (self: NodeId, members: Iterable<Member>): Layer.Layer<Members> =>
  Layer.sync(Members, () => constant(self, MembersView.make(members)))

/** A membership that follows a ref, for tests and for sources that change. */
export const layerRef = (
  self: NodeId,
  ref: SubscriptionRef.SubscriptionRef<MembersView.MembersView>
): Layer.Layer<Members> =>
  Layer.sync(Members, () => Members.of({ self, view: SubscriptionRef.get(ref), changes: SubscriptionRef.changes(ref) }))

const constant = (self: NodeId, view: MembersView.MembersView): Members["Service"] =>
  Members.of({ self, view: Effect.succeed(view), changes: Stream.concat(Stream.succeed(view), Stream.never) })

/** No membership: every peer is served, and every rank is -1. */
export const layerNone: Layer.Layer<Members> = Layer.sync(Members, () =>
  constant(NodeId.make("standalone"), MembersView.none)
)
