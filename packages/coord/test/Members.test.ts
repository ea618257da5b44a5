import { assert, describe, it } from "@effect/vitest"
import { Members, PeerResolver } from "@gantry/coord"
import { Member, NodeId } from "@gantry/protocol"
import { A, memberOf, members, nodeIdOf, peerIdOf } from "@gantry/testkit/Fixtures"
import { Deferred, Effect, Fiber, Layer, Logger, Option, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"

/** What was logged, in words. */
const recording = Effect.map(
  Effect.sync((): Array<string> => []),
  (lines) => ({
    lines,
    layer: Logger.layer([Logger.make(({ message }) => void lines.push([message].flat().map(String).join(" ")))])
  })
)

const nodesOf = Effect.gen(function* () {
  const view = yield* (yield* Members.Members).view
  return view.members.map(({ nodeId }) => nodeId)
})

describe("Members that change", () => {
  it.effect("show every change with a greater version, and keep what was learned about ranks", () =>
    Effect.gen(function* () {
      const { changes, self, view } = yield* Members.Members
      const { set, update } = yield* Members.Membership
      assert.strictEqual(self, nodeIdOf(0))
      const watching = yield* changes.pipe(
        Stream.map((view) => [view.version, view.members.length]),
        Stream.take(3),
        Stream.runCollect,
        Effect.forkChild({ startImmediately: true })
      )
      ;(yield* view).best(A, 1)
      assert.isTrue((yield* view).isRanked(A))
      yield* update((listed) => [...listed, memberOf(400)])
      assert.isTrue((yield* view).isRanked(A))
      yield* set([])
      assert.strictEqual((yield* view).version, 2)
      assert.deepStrictEqual(yield* Fiber.join(watching), [
        [0, 300],
        [1, 301],
        [2, 0]
      ])
    }).pipe(Effect.provide(Members.layerDynamic(nodeIdOf(0), members(300))))
  )

  it.effect("lose no entry to an update, also where a node has several", () =>
    Effect.gen(function* () {
      const { view } = yield* Members.Members
      const { update } = yield* Members.Membership
      yield* update((listed) => listed.slice(1))
      assert.strictEqual((yield* view).standingOf(peerIdOf(2)), "member")
    }).pipe(
      Effect.provide(
        Members.layerDynamic(nodeIdOf(0), [memberOf(0), memberOf(1), memberOf(1, { peerId: Option.some(peerIdOf(2)) })])
      )
    )
  )

  it.effect("count this node as it says itself, whether or not the list has it", () =>
    Effect.gen(function* () {
      const { self, view } = yield* Members.Members
      const { set } = yield* Members.Membership
      assert.strictEqual(self, nodeIdOf(5))
      for (const list of [members(3), [], [...members(3), new Member({ nodeId: nodeIdOf(5) })]]) {
        yield* set(list)
        const now = yield* view
        assert.deepStrictEqual(now.byNodeId(self), Option.some(memberOf(5)))
        assert.isAtLeast(now.rankOf(self, A), 0)
        assert.strictEqual(now.members.length, new Set([self, ...list.map(({ nodeId }) => nodeId)]).size)
      }
    }).pipe(Effect.provide(Members.layerDynamic(memberOf(5))))
  )
})

describe("Members that share a key", () => {
  const clashing = [memberOf(1), memberOf(2, { peerId: Option.some(peerIdOf(1)) })]

  it.effect("are named in a warning, at most once in half a minute", () =>
    Effect.gen(function* () {
      const { layer, lines } = yield* recording
      yield* Effect.gen(function* () {
        const { set } = yield* Members.Membership
        assert.strictEqual(lines.length, 1)
        assert.include(lines[0], `members node-1 and node-2 publish one peer id, ${peerIdOf(1)}:`)
        yield* TestClock.adjust("29999 millis")
        yield* set(clashing)
        assert.strictEqual(lines.length, 1)
        yield* TestClock.adjust("1 millis")
        yield* set([...clashing, memberOf(3, { peerId: Option.some(peerIdOf(1)) })])
        assert.include(lines[1], "members node-1 and node-2, and 1 more, publish")
      }).pipe(Effect.provide(Members.layerDynamic(nodeIdOf(0), clashing).pipe(Layer.provideMerge(layer))))
    })
  )

  it.effect("are not the entries of one node during a rolling update", () =>
    Effect.gen(function* () {
      const { layer, lines } = yield* recording
      const list = [memberOf(1), memberOf(1), memberOf(1, { peerId: Option.some(peerIdOf(2)) })]
      yield* Layer.build(Members.layerStatic(nodeIdOf(0), list).pipe(Layer.provideMerge(layer)))
      assert.deepStrictEqual(lines, [])
    })
  )
})

describe("Members that follow a source", () => {
  it.effect("are there once the first list is, and follow those after it", () =>
    Effect.gen(function* () {
      const lists = yield* Queue.unbounded<ReadonlyArray<Member>>()
      const building = yield* Effect.forkChild(Layer.build(Members.layerStream(nodeIdOf(0), Stream.fromQueue(lists))), {
        startImmediately: true
      })
      yield* Effect.yieldNow
      assert.isUndefined(building.pollUnsafe())
      yield* Queue.offer(lists, members(2))
      const context = yield* Fiber.join(building)
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* nodesOf, [nodeIdOf(0), nodeIdOf(1)])
        const { changes } = yield* Members.Members
        const next = yield* changes.pipe(Stream.drop(1), Stream.runHead, Effect.forkChild({ startImmediately: true }))
        yield* Queue.offer(lists, members(3))
        const view = Option.getOrThrow(yield* Fiber.join(next))
        assert.deepStrictEqual([view.version, view.members.length], [2, 3])
      }).pipe(Effect.provideContext(context))
    })
  )

  it.effect("fail where the source does before it gives a list", () =>
    Effect.gen(function* () {
      const layer = Members.layerStream(nodeIdOf(0), Stream.fail("no route to the source"))
      assert.strictEqual(yield* Effect.flip(Layer.build(layer)), "no route to the source")
    })
  )

  it.effect("stay as they were where the source fails later, which is logged, or ends", () =>
    Effect.gen(function* () {
      const { layer, lines } = yield* recording
      for (const end of [Stream.fail("gone"), Stream.empty]) {
        const ended = yield* Deferred.make<void>()
        const source = Stream.concat(Stream.succeed(members(2)), end).pipe(
          Stream.ensuring(Deferred.succeed(ended, undefined))
        )
        const context = yield* Layer.build(Members.layerStream(nodeIdOf(0), source).pipe(Layer.provideMerge(layer)))
        yield* Deferred.await(ended)
        yield* Effect.yieldNow
        assert.deepStrictEqual(yield* Effect.provideContext(nodesOf, context), [nodeIdOf(0), nodeIdOf(1)])
      }
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], "not followed any more")
    })
  )
})

describe("The resolver of members", () => {
  const [first, second] = [
    memberOf(1, { addresses: ["/ip4/192.0.2.1/tcp/4001"] }),
    memberOf(1, { peerId: Option.some(peerIdOf(2)), addresses: ["/ip4/192.0.2.2/tcp/4001"] })
  ]
  const unpublished = new Member({ nodeId: nodeIdOf(1), addresses: ["/ip4/192.0.2.3/tcp/4001"] })

  it.effect("takes the first entry of a node that has a peer id", () =>
    Effect.gen(function* () {
      for (const [list, expected] of [
        [[first, second], first],
        [[second, first], second],
        [[unpublished, second, first], second]
      ] as const) {
        const resolver = PeerResolver.layerMembers.pipe(Layer.provide(Members.layerStatic(nodeIdOf(0), list)))
        const { addresses, peerId } = expected
        const resolved = yield* Effect.provide(
          PeerResolver.PeerResolver.use(({ resolve }) => resolve(nodeIdOf(1))),
          resolver
        )
        assert.deepStrictEqual(
          resolved,
          Option.map(peerId, (peerId) => ({ peerId, addresses }))
        )
      }
    })
  )

  it.effect("knows nobody of whom no entry has one, and no stranger", () =>
    Effect.gen(function* () {
      const { resolve } = yield* PeerResolver.PeerResolver
      assert.deepStrictEqual(yield* resolve(nodeIdOf(1)), Option.none())
      assert.deepStrictEqual(yield* resolve(NodeId.make("stranger")), Option.none())
    }).pipe(
      Effect.provide(
        PeerResolver.layerMembers.pipe(Layer.provide(Members.layerStatic(nodeIdOf(0), [unpublished, unpublished])))
      )
    )
  )
})
