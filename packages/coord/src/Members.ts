/**
 * Who is in the cluster, and which of them we are.
 */
import { type Member, NodeId } from "@gantry/protocol"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { makeThrottle } from "./internal/throttle.ts"
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

/** Changes the {@link Members} that were made with it. */
export class Membership extends Context.Service<
  Membership,
  {
    /** Replaces the list. */
    readonly set: (members: Iterable<Member>) => Effect.Effect<void>
    /** Changes the list, which comes as it was given before. */
    readonly update: (change: (listed: ReadonlyArray<Member>) => Iterable<Member>) => Effect.Effect<void>
  }
>()("@gantry/coord/Membership") {}

/**
 * This node: its id where the membership lists it, or else how it is to be
 * listed. A member given here counts whether or not others list the node too.
 */
export type Self = NodeId | Member

/** At most one warning about members with one key in this time. */
const clashWarningInterval = Duration.seconds(30)

/** Warns about members that share a key, whose calls reach one another. */
const makeWarning = () => {
  const throttled = makeThrottle(clashWarningInterval)
  return ({ clashes }: MembersView.MembersView): Effect.Effect<void> => {
    const [clash] = clashes
    if (clash === undefined) return Effect.void
    const [first, second, ...others] = clash.nodeIds
    const more = others.length > 0 ? `, and ${others.length} more,` : ""
    return throttled(
      Effect.logWarning(
        `members ${first} and ${second}${more} publish one peer id, ${clash.peerId}: ` +
          "what is meant for one reaches another. Give each node an identity of its own"
      )
    )
  }
}

/**
 * A membership that changes while it is in use, and what changes it. Each change
 * makes a view with the next version, which keeps what the views before it have
 * learned about ranks.
 */
export const make = (
  self: Self,
  members: Iterable<Member> = []
): Effect.Effect<Context.Context<Members | Membership>> =>
  Effect.gen(function* () {
    const ourselves = typeof self === "string" ? [] : [self]
    const warnAboutClashes = makeWarning()
    let listed: ReadonlyArray<Member> = [...members]
    const ref = yield* SubscriptionRef.make(MembersView.make([...ourselves, ...listed]))
    const update: Membership["Service"]["update"] = (change) =>
      Effect.flatMap(
        SubscriptionRef.updateAndGet(ref, (view) => {
          listed = [...change(listed)]
          return view.update([...ourselves, ...listed])
        }),
        warnAboutClashes
      )
    yield* Effect.flatMap(SubscriptionRef.get(ref), warnAboutClashes)
    return Context.make(
      Members,
      Members.of({
        self: typeof self === "string" ? self : self.nodeId,
        view: SubscriptionRef.get(ref),
        changes: SubscriptionRef.changes(ref)
      })
    ).pipe(Context.add(Membership, Membership.of({ set: (members) => update(() => members), update })))
  })

/** A membership that never changes. */
export const layerStatic = (self: Self, members: Iterable<Member>): Layer.Layer<Members> =>
  Layer.effect(Members, Effect.map(make(self, members), Context.get(Members)))

/** A membership that the program changes at run time, through {@link Membership}. */
export const layerDynamic = (self: Self, members: Iterable<Member> = []): Layer.Layer<Members | Membership> =>
  Layer.effectContext(make(self, members))

/**
 * A membership that follows a source, each of whose lists replaces the one
 * before. Waits for the first list: a node that knows nobody would pull
 * everything itself. A source that fails before that fails the layer; one that
 * fails later leaves the members as they were.
 */
export const layerStream = <E, R>(
  self: Self,
  lists: Stream.Stream<Iterable<Member>, E, R>
): Layer.Layer<Members, E, R> =>
  Layer.effect(
    Members,
    Effect.gen(function* () {
      const context = yield* make(self)
      const { set } = Context.get(context, Membership)
      const isListed = yield* Deferred.make<void, E>()
      const fail = (cause: Cause.Cause<E>) =>
        Effect.flatMap(Deferred.failCause(isListed, cause), (isFirst) =>
          isFirst ? Effect.void : Effect.logError("the members are not followed any more: their source failed", cause)
        )
      yield* lists.pipe(
        Stream.runForEach((members) => Effect.andThen(set(members), Deferred.succeed(isListed, undefined))),
        Effect.andThen(Deferred.succeed(isListed, undefined)),
        Effect.catchCause(fail),
        Effect.forkScoped
      )
      yield* Deferred.await(isListed)
      return Context.get(context, Members)
    })
  )

/** No membership: every peer is served, and every rank is -1. */
export const layerNone: Layer.Layer<Members> = Layer.sync(Members, () =>
  Members.of({
    self: NodeId.make("standalone"),
    view: Effect.succeed(MembersView.none),
    changes: Stream.concat(Stream.succeed(MembersView.none), Stream.never)
  })
)
