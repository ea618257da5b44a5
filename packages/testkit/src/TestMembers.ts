/**
 * A membership that a test changes while it is in use.
 */
import * as Members from "@gantry/coord/Members"
import * as MembersView from "@gantry/coord/MembersView"
import type { Member, NodeId } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SubscriptionRef from "effect/SubscriptionRef"

/** Governs the {@link Members.Members} of the same layer. */
export class TestMembers extends Context.Service<
  TestMembers,
  {
    /** Replaces the members; the version of the view grows. */
    readonly update: (change: (members: ReadonlyArray<Member>) => Iterable<Member>) => Effect.Effect<void>
  }
>()("@gantry/testkit/TestMembers") {}

const make = (self: NodeId, members: Iterable<Member>) =>
  Effect.gen(function* () {
    const ref = yield* SubscriptionRef.make(MembersView.make(members))
    const control = TestMembers.of({
      update: (change) => SubscriptionRef.update(ref, (view) => view.update(change(view.members)))
    })
    return Layer.merge(Members.layerRef(self, ref), Layer.succeed(TestMembers, control))
  })

/** A membership of the given members, seen by the node `self`. */
export const layer = (self: NodeId, members: Iterable<Member> = []): Layer.Layer<Members.Members | TestMembers> =>
  Layer.unwrap(make(self, members))
