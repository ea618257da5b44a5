import { assert, describe, it } from "@effect/vitest"
import * as MemoryNetwork from "@gantry/testkit/MemoryNetwork"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Cluster from "./Cluster.ts"

const test = (title: string, body: Effect.Effect<void, unknown, MemoryNetwork.MemoryNetwork | Scope.Scope>) =>
  it.effect(title, () => body.pipe(Random.withSeed(title), Effect.provide(MemoryNetwork.layer)), 60_000)

type ClusterUnderTest = Effect.Success<ReturnType<typeof Cluster.make>>
type Node = ClusterUnderTest["ranked"][number]

/** All of them ask at the same moment. */
const askAll = (cluster: ClusterUnderTest, nodes: ReadonlyArray<Node> = cluster.ranked) =>
  Effect.forEach(nodes, (node) => Effect.forkChild(cluster.obtain(node)))

/** Lets time pass in steps far below every deadline: what takes no time takes turns nevertheless. */
const pass = (seconds: number) => Effect.repeat(TestClock.adjust("100 millis"), { times: 10 * seconds - 1 })

/** Lets time pass until all have ended, for a bounded time; gives how the calls ended. */
const settle = Effect.fnUntraced(function* <A, E>(fibers: ReadonlyArray<Fiber.Fiber<A, E>>, seconds: number) {
  for (let second = 0; second < seconds; second++) {
    if (fibers.every((fiber) => fiber.pollUnsafe() !== undefined)) break
    yield* pass(1)
  }
  const late = fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length
  assert.strictEqual(late, 0, `calls that have not ended within ${seconds} s`)
  return yield* Effect.forEach(fibers, Fiber.await)
})

const clean = { claims: 0, streams: 0, serving: 0 }

/** What is under way ends; then nothing may be left. */
const assertClean = Effect.fnUntraced(function* (cluster: ClusterUnderTest) {
  yield* pass(10)
  assert.deepStrictEqual(yield* cluster.remains, clean)
})

describe("a cluster", () => {
  for (const nodes of [2, 8, 64]) {
    test(
      `of ${nodes} nodes that all ask at once pulls once, and everybody has it soon`,
      Effect.gen(function* () {
        const cluster = yield* Cluster.make({ nodes })
        const exits = yield* settle(yield* askAll(cluster), 9)
        assert.isTrue(exits.every(Exit.isSuccess))
        assert.strictEqual(cluster.whole(), nodes)
        assert.deepStrictEqual(
          cluster.pulls.map(({ nodeId }) => nodeId),
          [cluster.ranked[0]?.nodeId]
        )
        assert.strictEqual(cluster.transfers(), nodes - 1)
        yield* assertClean(cluster)
      })
    )
  }

  test(
    "whose best node is killed while it pulls pulls at most once more, and the others have it",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8 })
      const [designated, ...others] = cluster.ranked
      const fibers = yield* askAll(cluster, others)
      yield* pass(2)
      assert.strictEqual(cluster.pulls.length, 1)
      yield* cluster.kill(designated as Node)
      const exits = yield* settle(fibers, 30)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.strictEqual(cluster.whole(), 7)
      assert.deepStrictEqual(
        cluster.pulls.map(({ nodeId }) => nodeId),
        [designated?.nodeId, others[0]?.nodeId]
      )
      yield* assertClean(cluster)
    })
  )

  test(
    "whose best node freezes while it pulls pulls at most once more, and the others have it",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8, originTime: "10 seconds" })
      const [designated, ...others] = cluster.ranked
      const fibers = yield* askAll(cluster, others)
      yield* pass(2)
      yield* cluster.freeze(designated as Node)
      const exits = yield* settle(fibers, 40)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.strictEqual(cluster.whole(), 7)
      assert.deepStrictEqual(
        cluster.pulls.map(({ nodeId }) => nodeId),
        [designated?.nodeId, others[0]?.nodeId]
      )
    })
  )

  test(
    "whose best node is killed while it hands out the bytes takes them from those that have them",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 32, transferTime: "3 seconds" })
      const [designated, ...others] = cluster.ranked
      const fibers = yield* askAll(cluster, others)
      yield* pass(9)
      assert.isAtLeast(cluster.whole(), 11)
      yield* cluster.kill(designated as Node)
      const exits = yield* settle(fibers, 40)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.strictEqual(cluster.whole(), 31)
      assert.isAtMost(cluster.pulls.length, 2)
      yield* assertClean(cluster)
    })
  )

  test(
    "of two zones pulls once for each",
    Effect.gen(function* () {
      const zoneOf = (rank: number) => (rank % 2 === 0 ? "even" : "odd")
      const cluster = yield* Cluster.make({ nodes: 16, zoneOf })
      const exits = yield* settle(yield* askAll(cluster), 15)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.deepStrictEqual(
        cluster.pulls.map(({ nodeId }) => nodeId).toSorted(),
        [cluster.ranked[0]?.nodeId, cluster.ranked[1]?.nodeId].toSorted()
      )
      yield* assertClean(cluster)
    })
  )

  test(
    "that loses the first reply of each kind on every way pulls once nevertheless",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8, originTime: "20 seconds", loseFirstReplies: true })
      const exits = yield* settle(yield* askAll(cluster), 60)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.strictEqual(cluster.whole(), 8)
      assert.strictEqual(cluster.pulls.length, 1)
      yield* assertClean(cluster)
    })
  )

  test(
    "whose best node declines has the next one pull",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8, declining: [0] })
      const exits = yield* settle(yield* askAll(cluster), 15)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.strictEqual(cluster.whole(), 8)
      assert.deepStrictEqual(
        cluster.pulls.map(({ nodeId }) => nodeId),
        [cluster.ranked[1]?.nodeId]
      )
      yield* assertClean(cluster)
    })
  )

  test(
    "from which a node is cut off serves the others, and the node pulls for itself",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8 })
      const lonely = cluster.ranked[7] as Node
      yield* cluster.cutOff(lonely)
      const exits = yield* settle(yield* askAll(cluster), 60)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.strictEqual(cluster.whole(), 8)
      assert.deepStrictEqual(
        cluster.pulls.map(({ nodeId, rule }) => (rule === "fallback" ? [nodeId, rule] : [nodeId])),
        [[cluster.ranked[0]?.nodeId], [lonely.nodeId, "fallback"]]
      )
      yield* assertClean(cluster)
    })
  )

  test(
    "whose origin does not have it hears so from two nodes, and everybody hears why",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8, failure: "not_found" })
      const exits = yield* settle(yield* askAll(cluster), 30)
      for (const exit of exits) {
        assert.isTrue(Exit.isFailure(exit) && String(exit.cause).includes("not_found"), String(exit))
      }
      assert.deepStrictEqual(
        cluster.pulls.map(({ nodeId }) => nodeId),
        cluster.ranked.slice(0, 2).map(({ nodeId }) => nodeId)
      )
      yield* assertClean(cluster)
    })
  )

  for (const failure of ["auth", "transient"] as const) {
    test(
      `whose origin fails (${failure}) asks it three times, whoever asks for it`,
      Effect.gen(function* () {
        const cluster = yield* Cluster.make({ nodes: 8, failure })
        const fibers = yield* Effect.forEach(cluster.ranked, (node) =>
          Effect.forkChild(cluster.obtain(node, { patience: 0 }))
        )
        const exits = yield* settle(fibers, 40)
        for (const exit of exits) {
          assert.isTrue(Exit.isFailure(exit) && String(exit.cause).includes(failure), String(exit))
        }
        assert.deepStrictEqual(
          cluster.pulls.map(({ nodeId }) => nodeId),
          cluster.ranked.slice(0, 3).map(({ nodeId }) => nodeId)
        )
        yield* assertClean(cluster)
      })
    )
  }

  test(
    "whose best node alone cannot pull it has it from the next one",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8, failure: "auth", failing: [0] })
      const exits = yield* settle(yield* askAll(cluster), 30)
      assert.isTrue(exits.every(Exit.isSuccess))
      assert.strictEqual(cluster.whole(), 8)
      assert.deepStrictEqual(
        cluster.pulls.map(({ nodeId }) => nodeId),
        cluster.ranked.slice(0, 2).map(({ nodeId }) => nodeId)
      )
      yield* assertClean(cluster)
    })
  )

  test(
    "whose nodes are interrupted while they ask keeps nothing and asks nothing more",
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ nodes: 8 })
      const fibers = yield* askAll(cluster)
      yield* pass(2)
      yield* Fiber.interruptAll(fibers)
      const opened = yield* cluster.opened
      yield* assertClean(cluster)
      assert.strictEqual(yield* cluster.opened, opened)
    })
  )
})
