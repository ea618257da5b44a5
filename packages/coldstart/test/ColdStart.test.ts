import { assert, describe, it } from "@effect/vitest"
import { NoHolder, StoreFailed, TransferError } from "@gantry/coord/Transfer"
import {
  AlreadyPulling,
  type FailureClass,
  OriginRef,
  RecentlyFailed,
  Repository,
  Started,
  timestampFromMillis,
  Unspecified
} from "@gantry/protocol"
import { digestOf, registry } from "@gantry/testkit/Fixtures"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import type { BlobSource, ColdStartError } from "../src/ColdStart.ts"
import * as World from "./World.ts"

const declined = new Unspecified()
const startedAt = (millis: number) => new Started({ startedAt: Option.some(timestampFromMillis(millis)) })
const alreadySince = (millis: number) => new AlreadyPulling({ startedAt: Option.some(timestampFromMillis(millis)) })
const failed = (failureClass: FailureClass, cooldownUntil?: number) =>
  new RecentlyFailed({
    failureClass,
    cooldownUntil: Option.map(Option.fromUndefinedOr(cooldownUntil), timestampFromMillis)
  })

const fromRank = (world: { readonly rank: (rank: number) => World.Peer }, rank: number): BlobSource => ({
  _tag: "Peer",
  holder: world.rank(rank).nodeId,
  bytes: 7
})

const inWords = (failure: World.Failure) =>
  typeof failure === "string" ? failure : `${failure.reason} in phase ${failure.phase}`

/** Starts what asks, and lets everything happen that takes no time. */
const start = <A, E>(effect: Effect.Effect<A, E>) => Effect.tap(Effect.forkChild(effect), () => TestClock.adjust(0))

const isRunning = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.pollUnsafe() === undefined

/** Lets time pass, small step by small step, until the fiber has ended; gives how long that took. */
const settle = Effect.fnUntraced(function* (fiber: Fiber.Fiber<unknown, unknown>, step: Duration.Input, steps = 400) {
  let taken = 0
  for (; isRunning(fiber) && taken < steps; taken++) yield* TestClock.adjust(step)
  return Duration.millis(taken * Duration.toMillis(Duration.fromInputUnsafe(step)))
})

/** Which rank said what, in the order in which they were asked. */
const saidBy = (world: { readonly peers: ReadonlyArray<World.Peer> }, { reason }: ColdStartError) =>
  reason._tag === "OriginFailed" || reason._tag === "CoolingDown"
    ? reason.witnesses.map(
        ({ failureClass, node }) => `${world.peers.findIndex(({ nodeId }) => nodeId === node)} ${failureClass}`
      )
    : []

const failure = (fiber: Fiber.Fiber<unknown, ColdStartError>) => Effect.flip(Fiber.join(fiber))

describe("ColdStart", () => {
  describe("1. looks at the best ranks", () => {
    it.effect("and asks nobody about what is in its own store", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.me.cached = true
        assert.deepStrictEqual(yield* world.obtain(), { _tag: "Local" })
        assert.deepStrictEqual(world.deeds, [])
      })
    )

    it.effect("which are three", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        yield* start(world.obtain())
        assert.deepStrictEqual(world.queried(), [0, 1, 2])
      })
    )

    it.effect("and answers for itself where it is one of them", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ selfRank: 1 })
        yield* start(world.obtain())
        assert.deepStrictEqual(world.queried(), [0, 2])
      })
    )

    it.effect("of its own zone", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ zoneOf: (rank) => (rank % 2 === 0 ? "even" : "odd") })
        yield* start(world.obtain())
        assert.strictEqual(world.selfRank, 11)
        assert.deepStrictEqual(world.queried(), [1, 3, 5])
        assert.deepStrictEqual(world.asked(), [1])
      })
    )

    it.effect("of all members where it has no zone", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ zoneOf: (rank) => (rank === 11 ? undefined : "zone") })
        yield* start(world.obtain())
        assert.deepStrictEqual(world.queried(), [0, 1, 2])
      })
    )

    it.effect("counting once who ranks itself differently, and obeying nobody", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).rank = 7
        world.rank(2).rank = -1
        yield* start(world.obtain(World.wanted("manifest")))
        yield* TestClock.adjust("1 second")
        assert.isAbove(world.queriesOf(0).length, 1)
        assert.deepStrictEqual(yield* world.counts, { "hrwRankMismatch:manifest": 2 })
        assert.deepStrictEqual(world.asked(), [0])
      })
    )

    it.effect("among all members, also where only a zone is asked", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ zoneOf: (rank) => (rank % 2 === 0 ? "even" : "odd") })
        yield* start(world.obtain())
        assert.deepStrictEqual(yield* world.counts, {})
      })
    )

    it.effect("asking again, within the round, who resets the stream because it is at its limit", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).down = "Reset"
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("100 millis")
        world.rank(0).down = undefined
        world.rank(0).cached = true
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        assert.deepStrictEqual(world.asked(), [])
      })
    )

    it.effect("asking again, within the round, who is silent for half of it", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).muffled = 1
        yield* start(world.obtain())
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(world.queriesOf(0), [0, 1_000])
        assert.deepStrictEqual(world.asked(), [0])
      })
    )
  })

  describe("2. fetches from who has it", () => {
    for (const failureClass of ["auth", "not_found", "rate_limited", "transient"] as const) {
      it.effect(`whatever failures (${failureClass}) others report`, () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).failed = failureClass
          world.rank(1).failed = failureClass
          world.rank(2).cached = true
          assert.deepStrictEqual(yield* world.obtain(), fromRank(world, 2))
          assert.deepStrictEqual(world.asked(), [])
        })
      )
    }

    it.effect("also while others are pulling it", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0))
        world.rank(1).cached = true
        assert.deepStrictEqual(yield* world.obtain(), fromRank(world, 1))
      })
    )

    it.effect("with the others as spares", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const rank of [0, 1, 2]) world.rank(rank).cached = true
        yield* world.obtain()
        assert.deepStrictEqual(world.fetches()[0]?.toSorted(), [0, 1, 2])
      })
    )

    it.effect("in an order that differs between requesters, so that no holder gets them all", () =>
      Effect.gen(function* () {
        const firsts = new Set<number | undefined>()
        for (let seed = 0; seed < 20; seed++) {
          const world = yield* World.make()
          for (const rank of [0, 1, 2]) world.rank(rank).cached = true
          yield* Random.withSeed(world.obtain(), seed)
          firsts.add(world.fetches()[0]?.[0])
        }
        assert.strictEqual(firsts.size, 3)
      })
    )

    it.effect("without waiting long for a dead member", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).down = "silence"
        world.rank(1).cached = true
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("250 millis")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
      })
    )

    it.effect("and asks random others for a copy while all holders are busy", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).cached = true
        world.rank(0).holds = "Busy"
        for (const rank of [5, 6, 7, 8]) world.rank(rank).cached = true
        const fiber = yield* start(world.obtain())
        assert.deepStrictEqual(world.queried(), [0, 1, 2])
        yield* settle(fiber, "100 millis")
        const obtained = yield* Fiber.join(fiber)
        assert.include(
          [5, 6, 7, 8],
          world.peers.findIndex((peer) => obtained._tag === "Peer" && peer.nodeId === obtained.holder)
        )
        assert.deepStrictEqual(world.asked(), [])
      })
    )

    it.effect("asking four of them at a time, and heeding none that only pulls it", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ members: 40 })
        world.rank(0).cached = true
        world.rank(0).holds = "Busy"
        for (const peer of world.peers.slice(3, 39)) World.pull(peer)
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("20 seconds")
        const rounds = Map.groupBy(
          world.deeds.filter(({ did }) => did === "query"),
          ({ at }) => at
        )
        assert.deepStrictEqual([...rounds.values()].map((queries) => queries.length).slice(0, 6), [3, 7, 7, 7, 7, 7])
        assert.isAbove(world.queried().length, 15)
        world.rank(0).holds = undefined
        yield* settle(fiber, "100 millis")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
      })
    )

    it.effect("and waits between tries, not in step with the others", () =>
      Effect.gen(function* () {
        const tries = (seed: number) =>
          Effect.gen(function* () {
            const world = yield* World.make()
            world.rank(0).cached = true
            world.rank(0).holds = "Busy"
            const fiber = yield* start(Random.withSeed(world.obtain(), seed))
            for (let step = 0; step < 100; step++) yield* TestClock.adjust("100 millis")
            yield* Fiber.interrupt(fiber)
            return world.deeds.flatMap((deed) => (deed.did === "fetch" ? [deed.at] : []))
          })
        const first = yield* tries(1)
        const second = yield* tries(2)
        assert.isAtLeast(first.length, 4)
        assert.isAtMost(first.length, 13)
        assert.notDeepEqual(
          first.map((at) => at - (first[0] ?? 0)),
          second.map((at) => at - (second[0] ?? 0))
        )
      })
    )

    for (const problem of ["WrongBytes", "Suspicious", "Absent", "NoAddress"] as const) {
      it.effect(`and believes no more who says it has it and does not deliver (${problem})`, () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).cached = true
          world.rank(0).holds = problem
          const fiber = yield* start(world.obtain())
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(world.asked(), [1])
          World.finish(world.rank(1))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
          assert.deepStrictEqual(world.fetches(), [[0], [1]])
        })
      )
    }

    for (const problem of ["Unreachable", "Unavailable", "Stalled"] as const) {
      it.effect(`and tries a holder again whose transfer broke off (${problem}), but not for ever`, () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).cached = true
          world.rank(0).holds = problem
          yield* start(world.obtain())
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(world.fetches(), [[0], [0], [0]])
          assert.deepStrictEqual(world.asked(), [1])
        })
      )
    }

    it.effect("and keeps to a holder however long it is busy", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).cached = true
        world.rank(0).holds = "Busy"
        const fiber = yield* start(world.obtain(World.wanted("manifest")))
        yield* TestClock.adjust("20 minutes")
        assert.deepStrictEqual(world.asked(), [])
        world.rank(0).holds = undefined
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
      })
    )

    for (const [seconds, asked] of [
      [10, []],
      [11, [1]]
    ] as const) {
      it.effect(
        `and ${seconds > 10 ? "turns from" : "keeps to"} one that could not be reached lately, for ${seconds} s more`,
        () =>
          Effect.gen(function* () {
            const world = yield* World.make()
            const remaining = Duration.seconds(seconds)
            world.rank(0).cached = true
            world.rank(0).holds = { _tag: "Barred", holder: world.rank(0).nodeId, remaining }
            yield* start(world.obtain())
            yield* TestClock.adjust("5 seconds")
            assert.deepStrictEqual(world.asked(), [...asked])
          })
      )
    }

    it.effect("and pulls it itself where nobody who has it delivers it", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const rank of [0, 1, 2]) {
          world.rank(rank).cached = true
          world.rank(rank).holds = "WrongBytes"
        }
        yield* start(world.obtain())
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(world.fetches().length, 1)
        assert.strictEqual(world.pulls()[0]?.rule, "fallback")
      })
    )

    it.effect("and turns from a holder that is not even tried", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).cached = true
        world.setFetch(({ digest }) =>
          Effect.fail(new TransferError({ digest, reason: new NoHolder({ attempts: [] }) }))
        )
        yield* start(world.obtain())
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(world.asked(), [1])
      })
    )

    it.effect("and fails where its own store cannot take the bytes", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).cached = true
        world.setFetch(({ digest }) =>
          Effect.fail(new TransferError({ digest, reason: new StoreFailed({ cause: new Error("disk full") }) }))
        )
        const error = yield* Effect.flip(world.obtain())
        assert.strictEqual(error.reason._tag, "StoreFailed")
        assert.include(error.message, "disk full")
      })
    )
  })

  describe("3. waits for who is pulling it", () => {
    for (const [kind, interval] of [
      ["manifest", 200],
      ["config", 200],
      ["layer", 1_000]
    ] as const) {
      it.effect(`asking about a ${kind} every ${interval} ms`, () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          World.pull(world.rank(1))
          const fiber = yield* start(world.obtain(World.wanted(kind)))
          yield* TestClock.adjust(Duration.millis(3 * interval))
          assert.deepStrictEqual(world.queriesOf(1), [0, interval, 2 * interval, 3 * interval])
          World.finish(world.rank(1))
          yield* TestClock.adjust(Duration.millis(interval))
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
          assert.deepStrictEqual(world.asked(), [])
        })
      )
    }

    it.effect("and notices when another of the ranks has it first", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0))
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("3 seconds")
        world.rank(2).cached = true
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 2))
      })
    )

    it.effect("and keeps its pace where another of the ranks is dead", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0))
        world.rank(2).down = "silence"
        yield* start(world.obtain(World.wanted("manifest")))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(world.queriesOf(0), [0, 450, 900])
      })
    )

    for (const skew of [-3_600_000, 3_600_000]) {
      it.effect(`as long as it has watched itself, not as the puller's clock says (${skew} ms off)`, () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          yield* TestClock.adjust("2 hours")
          World.pull(world.rank(0), 7_200_000 + skew)
          yield* start(world.obtain())
          yield* TestClock.adjust("30 seconds")
          assert.deepStrictEqual(world.asked(), [])
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(world.asked(), [1])
        })
      )
    }

    it.effect("and for a new pull of the same node anew", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0), 1)
        yield* start(world.obtain())
        yield* TestClock.adjust("29500 millis")
        World.pull(world.rank(0), 2)
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(world.asked(), [])
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(world.asked(), [1])
      })
    )

    describe("and that tells how far it is", () => {
      const megabyte = 1_000_000

      /** The puller tells one progress after the other, a second apart. */
      const telling = Effect.fnUntraced(function* (
        size: number | undefined,
        seconds: number,
        received: (second: number) => number,
        total?: number
      ) {
        const world = yield* World.make()
        World.pull(world.rank(0))
        World.tell(world.rank(0), received(0), total)
        yield* start(world.obtain(World.wanted("layer", size)))
        for (let second = 1; second <= seconds; second++) {
          World.tell(world.rank(0), received(second), total)
          yield* TestClock.adjust("1 second")
        }
        return world
      })

      for (const [title, size, received] of [
        ["as long as it grows", 2_000 * megabyte, (second: number) => second * megabyte],
        ["also where nobody knows the size", undefined, (second: number) => second * megabyte],
        ["also from a registry of 2 KB/s", 60 * megabyte, (second: number) => second * 2_000],
        [
          "also from one that pauses for half a minute",
          60 * megabyte,
          (second: number) => Math.floor(second / 35) * 100_000
        ],
        ["also of 100 kB at 60 B/s", 100_000, (second: number) => second * 60]
      ] as const) {
        it.effect(`${title}, for twenty minutes`, () =>
          Effect.gen(function* () {
            const world = yield* telling(size, 1_200, received)
            assert.deepStrictEqual(world.asked(), [])
          })
        )
      }

      for (const [title, size, total, received] of [
        ["that it has not grown", 60 * megabyte, undefined, () => 5 * megabyte],
        ["that it grows by a byte now and then", 60 * megabyte, undefined, (second: number) => second],
        ["that it has more than there is", megabyte, undefined, (second: number) => second * 10 * megabyte + megabyte],
        ["that it has more than it says there is", undefined, megabyte, (second: number) => (second + 1) * megabyte],
        ["that it has all of it", 60 * megabyte, 60 * megabyte, () => 60 * megabyte]
      ] as const) {
        it.effect(`until it says for 40 seconds ${title}`, () =>
          Effect.gen(function* () {
            const before = yield* telling(size, 40, received, total)
            assert.deepStrictEqual(before.asked(), [])
            const after = yield* telling(size, 41, received, total)
            assert.deepStrictEqual(after.asked(), [1])
          })
        )
      }

      it.effect("as for a new pull where it falls back, but not where it falls back all the time", () =>
        Effect.gen(function* () {
          const once = yield* telling(60 * megabyte, 60, (second) => (second < 30 ? 9 : 1) * megabyte)
          assert.deepStrictEqual(once.asked(), [])
          const ever = yield* telling(60 * megabyte, 20, (second) => (second % 2) * megabyte)
          assert.deepStrictEqual(ever.asked(), [1])
        })
      )

      it.effect("until it leaves three questions unanswered", () =>
        Effect.gen(function* () {
          const world = yield* telling(60 * megabyte, 60, (second) => second * megabyte)
          world.rank(0).down = "Unreachable"
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual(world.asked(), [])
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(world.asked(), [1])
        })
      )
    })

    describe("and has another rank pull a manifest or a config too", () => {
      for (const kind of ["manifest", "config"] as const) {
        it.effect(`after 5 seconds, and after 10, giving up nobody (${kind})`, () =>
          Effect.gen(function* () {
            const world = yield* World.make()
            World.pull(world.rank(0))
            const fiber = yield* start(world.obtain(World.wanted(kind)))
            for (const [millis, asked] of [
              [4_800, [] as ReadonlyArray<number>],
              [200, [1]],
              [4_800, [1]],
              [200, [1, 2]],
              [25_000, [1, 2]]
            ] as const) {
              yield* TestClock.adjust(millis)
              assert.deepStrictEqual(world.asked(), [...asked])
            }
            World.finish(world.rank(0))
            yield* TestClock.adjust("1 second")
            assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
            assert.deepStrictEqual(
              world.logs.filter(({ level }) => level !== "Debug").map(({ level, text }) => [level, text]),
              [
                [
                  "Info",
                  `asking ${world.rank(1).nodeId} to pull too, for ${world.rank(0).nodeId} took long over the ${kind} ${World.digest}`
                ],
                [
                  "Info",
                  `asking ${world.rank(2).nodeId} to pull too, for ${world.rank(0).nodeId}, ${world.rank(1).nodeId} took long over the ${kind} ${World.digest}`
                ]
              ]
            )
          })
        )
      }

      it.effect("and records it as that where it is itself", () =>
        Effect.gen(function* () {
          const world = yield* World.make({ selfRank: 1 })
          World.pull(world.rank(0))
          yield* start(world.obtain(World.wanted("manifest")))
          yield* TestClock.adjust("5 seconds")
          assert.deepStrictEqual(
            world.pulls().map(({ rank, requester, rule }) => ({ rank, requester, rule })),
            [{ rule: "hedge", requester: world.self, rank: 1 }]
          )
        })
      )

      it.effect("the one after where the next declines, and nobody where others had them pull already", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          World.pull(world.rank(0))
          world.rank(1).answers = [declined]
          yield* start(world.obtain(World.wanted("manifest")))
          yield* TestClock.adjust("5 seconds")
          assert.deepStrictEqual(world.asked(), [1, 2])
          const other = yield* World.make()
          for (const rank of [0, 1, 2]) World.pull(other.rank(rank))
          yield* start(other.obtain(World.wanted("manifest")))
          yield* TestClock.adjust("20 seconds")
          assert.deepStrictEqual(other.asked(), [])
        })
      )

      it.effect("but not where the puller waits because the registry told it to", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          World.pull(world.rank(0))
          world.rank(0).failed = "rate_limited"
          yield* start(world.obtain(World.wanted("manifest")))
          yield* TestClock.adjust("30 seconds")
          assert.deepStrictEqual(world.asked(), [])
        })
      )

      it.effect("and no more once one of them says that the registry limits the rate; the others go on", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          World.pull(world.rank(0))
          world.rank(1).answers = [failed("rate_limited", 60_000)]
          const fiber = yield* start(world.obtain(World.wanted("manifest"), { patience: 0 }))
          yield* TestClock.adjust("20 seconds")
          assert.deepStrictEqual(world.asked(), [1])
          World.finish(world.rank(0))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        })
      )

      it.effect("but three at the most, though more ranks are asked", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          for (const rank of [0, 1, 2]) world.rank(rank).down = "Unreachable"
          yield* start(world.obtain(World.wanted("manifest")))
          yield* TestClock.adjust("11 seconds")
          assert.deepStrictEqual(world.asked(), [3, 4, 5])
          for (const rank of [0, 1, 2]) world.rank(rank).down = undefined
          yield* TestClock.adjust("20 seconds")
          assert.deepStrictEqual(world.asked(), [3, 4, 5])
        })
      )

      it.effect("and ends with that word once the others have ended", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(1).answers = [failed("rate_limited", 60_000)]
          const fiber = yield* start(world.obtain(World.wanted("manifest"), { patience: 0 }))
          yield* TestClock.adjust("6 seconds")
          world.rank(0).pulling = undefined
          world.rank(0).failed = "transient"
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(saidBy(world, yield* failure(fiber)), ["1 rate_limited"])
          assert.deepStrictEqual(world.asked(), [0, 1])
        })
      )

      it.effect("and pulls it itself once all of them have shown nothing for 40 seconds", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          World.pull(world.rank(0))
          yield* start(world.obtain(World.wanted("manifest")))
          yield* TestClock.adjust("50 seconds")
          assert.deepStrictEqual(world.asked(), [1, 2])
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(world.pulls()[0]?.rule, "fallback")
        })
      )
    })

    it.effect("but has nobody else pull a layer", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0))
        yield* start(world.obtain())
        yield* TestClock.adjust("29 seconds")
        assert.deepStrictEqual(world.asked(), [])
      })
    )

    it.effect("but not for a node that begins anew all the time", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0), 1)
        yield* start(world.obtain())
        for (let begun = 2; begun < 6; begun++) {
          assert.deepStrictEqual(world.asked(), [])
          World.pull(world.rank(0), begun)
          yield* TestClock.adjust("1 second")
        }
        assert.deepStrictEqual(world.asked(), [1])
      })
    )

    it.effect("and turns to the next rank after three unanswered questions, not after two", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0))
        yield* start(world.obtain())
        world.rank(0).down = "Unreachable"
        yield* TestClock.adjust("2 seconds")
        world.rank(0).down = undefined
        yield* TestClock.adjust("1 second")
        world.rank(0).down = "Unreachable"
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(world.asked(), [])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(world.asked(), [1])
      })
    )

    it.effect("and turns to the next rank at once when the puller leaves the cluster", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.rank(0))
        yield* start(world.obtain())
        yield* world.setMembers(world.members.slice(1))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(world.asked(), [1])
      })
    )

    it.effect("also when better ranks join the cluster meanwhile", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        yield* world.setMembers(world.members.slice(3))
        yield* start(world.obtain())
        assert.deepStrictEqual(world.asked(), [3])
        yield* world.setMembers(world.members)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(world.asked(), [3])
      })
    )

    it.effect("where that is itself, too", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        World.pull(world.me)
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("2 seconds")
        World.finish(world.me)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), { _tag: "Origin" })
        assert.deepStrictEqual(world.asked(), [])
      })
    )
  })

  describe("4. looks further", () => {
    it.effect("once, at twice as many, where nobody of the best can be reached", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const rank of [0, 1, 2]) world.rank(rank).down = "Unreachable"
        yield* start(world.obtain())
        assert.deepStrictEqual(world.queried(), [0, 1, 2, 3, 4, 5])
        assert.deepStrictEqual(world.asked(), [3])
      })
    )

    it.effect("and not where one of them can", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const rank of [0, 1]) world.rank(rank).down = "Unreachable"
        yield* start(world.obtain())
        assert.deepStrictEqual(world.queried(), [0, 1, 2])
        assert.deepStrictEqual(world.asked(), [2])
      })
    )

    it.effect("after two seconds where they do not answer", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const rank of [0, 1, 2]) world.rank(rank).down = "silence"
        yield* start(world.obtain())
        yield* TestClock.adjust("1999 millis")
        assert.deepStrictEqual(world.queried(), [0, 1, 2])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(world.queried(), [0, 1, 2, 3, 4, 5])
      })
    )
  })

  describe("5. asks the best rank left to pull it", () => {
    it.effect("with its own registry and repository, and fetches it from there", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const fiber = yield* start(world.obtain())
        assert.deepStrictEqual(world.asked(), [0])
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        assert.deepStrictEqual(world.asked(), [0])
      })
    )

    it.effect("whatever failures it reports, which are hints and no verdicts", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const rank of [0, 1, 2]) world.rank(rank).failed = "auth"
        const fiber = yield* start(world.obtain())
        assert.deepStrictEqual(world.asked(), [0])
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
      })
    )

    it.effect("itself where it ranks best", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ selfRank: 0 })
        const fiber = yield* start(world.obtain())
        assert.deepStrictEqual(
          world.pulls().map(({ rank, requester, rule }) => ({ rank, requester, rule })),
          [{ rule: "designated", requester: world.self, rank: 0 }]
        )
        World.finish(world.me)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), { _tag: "Origin" })
      })
    )

    it.effect("itself as takeover where better ranks are passed over", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ selfRank: 2 })
        world.rank(0).answers = [declined]
        world.rank(1).down = "Unreachable"
        yield* start(world.obtain())
        assert.deepStrictEqual(
          world.pulls().map(({ rank, requester, rule }) => ({ rank, requester, rule })),
          [{ rule: "takeover", requester: world.self, rank: 2 }]
        )
        assert.deepStrictEqual(
          world.logs
            .filter(({ level }) => level === "Warn")
            .map(({ text }) => text)
            .at(-1),
          `${world.self} takes over the pull of ${World.digest} from ${world.rank(0).nodeId} (declined), ${world.rank(1).nodeId} (unreachable)`
        )
      })
    )

    for (const [answer, verdict] of [
      ["STARTED", startedAt(0)],
      ["ALREADY_PULLING", alreadySince(-5_000)]
    ] as const) {
      it.effect(`and after ${answer} waits until its pull turns stale, then turns to the next rank`, () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [verdict]
          const fiber = yield* start(world.obtain())
          yield* TestClock.adjust("30 seconds")
          assert.deepStrictEqual(world.asked(), [0])
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(world.asked(), [0, 1])
          World.finish(world.rank(1))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
        })
      )
    }

    it.effect("and never goes back to the one that is stale", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        yield* start(world.obtain())
        yield* TestClock.adjust("65 seconds")
        assert.deepStrictEqual(world.asked(), [0, 1, 2])
        yield* TestClock.adjust("60 seconds")
        assert.deepStrictEqual(world.asked(), [0, 1, 2, world.selfRank])
        assert.strictEqual(world.pulls()[0]?.rule, "fallback")
      })
    )

    it.effect("but takes the bytes from the stale one when they are there after all", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("32 seconds")
        assert.deepStrictEqual(world.asked(), [0, 1])
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
      })
    )

    describe("and where the pull failed", () => {
      for (const [words, verdict] of [
        [["rate_limited"], "CoolingDown rate_limited"],
        [["not_found", "not_found"], "OriginFailed not_found"],
        [["auth", "auth", "auth"], "OriginFailed auth"],
        [["transient", "transient", "auth"], "OriginFailed auth"],
        [["auth", "transient", "transient"], "CoolingDown transient"],
        [["not_found", "auth", "transient"], "CoolingDown transient"],
        [["not_found", "auth", "not_found"], "OriginFailed not_found"],
        [["transient", "rate_limited"], "CoolingDown rate_limited"],
        [["auth", "transient", "unspecified"], "CoolingDown unspecified"]
      ] as const) {
        it.effect(`hears ${words.join(", ")}, and says so`, () =>
          Effect.gen(function* () {
            const world = yield* World.make()
            for (const [rank, word] of words.entries()) world.rank(rank).answers = [failed(word, 10_000)]
            const error = yield* Effect.flip(world.obtain(World.wanted(), { patience: 0 }))
            const { reason } = error
            assert.strictEqual("failureClass" in reason && `${reason._tag} ${reason.failureClass}`, verdict)
            assert.deepStrictEqual(
              saidBy(world, error),
              words.map((word, rank) => `${rank} ${word}`)
            )
            for (const rank of words.keys()) assert.include(error.message, world.rank(rank).nodeId)
            assert.deepStrictEqual(world.asked(), [...words.keys()])
          })
        )
      }

      for (const failureClass of ["not_found", "auth", "transient"] as const) {
        it.effect(`with ${failureClass} at one node alone, has it from the next`, () =>
          Effect.gen(function* () {
            const world = yield* World.make()
            world.rank(0).answers = [failed(failureClass, 10_000)]
            const fiber = yield* start(world.obtain())
            assert.deepStrictEqual(world.asked(), [0, 1])
            World.finish(world.rank(1))
            yield* TestClock.adjust("1 second")
            assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
          })
        )
      }

      it.effect("hears those that can be reached and do not decline, also beyond the best three", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("not_found", 10_000)]
          world.rank(1).down = "Unreachable"
          world.rank(2).answers = [declined]
          world.rank(3).answers = [failed("not_found", 10_000)]
          const error = yield* Effect.flip(world.obtain())
          assert.deepStrictEqual(saidBy(world, error), ["0 not_found", "3 not_found"])
        })
      )

      it.effect("hears three at the most, though more ranks are asked", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          for (const rank of [0, 1, 2]) world.rank(rank).down = "Unreachable"
          world.rank(3).answers = [startedAt(0), failed("auth", 10_000)]
          for (const rank of [0, 1]) world.rank(rank).answers = [failed("auth", 10_000)]
          const fiber = yield* start(world.obtain())
          for (const rank of [0, 1, 2]) world.rank(rank).down = undefined
          world.rank(3).pulling = undefined
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(saidBy(world, yield* failure(fiber)), ["3 auth", "0 auth", "1 auth"])
        })
      )

      it.effect("looks for no further witness where three have tried, and not all of them say why", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          for (const rank of [0, 1]) world.rank(rank).answers = [startedAt(0)]
          world.rank(2).answers = [failed("auth", 10_000)]
          const fiber = yield* start(world.obtain())
          for (let second = 0; second < 10; second++) {
            for (const rank of [0, 1]) world.rank(rank).pulling = undefined
            yield* TestClock.adjust("1 second")
          }
          assert.deepStrictEqual(saidBy(world, yield* failure(fiber)), ["2 auth"])
          assert.deepStrictEqual(world.asked(), [0, 0, 1, 1, 2])
        })
      )

      it.effect("hears itself where it is one of the best", () =>
        Effect.gen(function* () {
          const world = yield* World.make({ selfRank: 1 })
          world.rank(0).answers = [failed("not_found", 10_000)]
          world.me.answers = [failed("not_found", 10_000)]
          const error = yield* Effect.flip(world.obtain())
          assert.deepStrictEqual(saidBy(world, error), ["0 not_found", "1 not_found"])
          assert.deepStrictEqual(
            world.pulls().map(({ rule }) => rule),
            ["takeover"]
          )
        })
      )

      it.effect("hears a single node where there is no other", () =>
        Effect.gen(function* () {
          const world = yield* World.make({ members: 1 })
          world.me.answers = [failed("not_found", 10_000)]
          const error = yield* Effect.flip(world.obtain())
          assert.deepStrictEqual(saidBy(world, error), ["0 not_found"])
        })
      )

      it.effect("hears why from a node that had taken it on, also while another one pulls", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [startedAt(0), failed("transient", 10_000)]
          const fiber = yield* start(world.obtain())
          world.rank(0).pulling = undefined
          world.rank(0).failed = "transient"
          World.pull(world.rank(1))
          yield* TestClock.adjust("5 seconds")
          assert.deepStrictEqual(world.asked(), [0, 0])
          World.finish(world.rank(1))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
        })
      )

      it.effect("remembers no verdict that the next call may hear differently", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          for (const rank of [0, 1]) world.rank(rank).answers = [failed("not_found", 10_000)]
          yield* Effect.flip(world.obtain())
          yield* Effect.flip(world.obtain())
          assert.deepStrictEqual(world.asked(), [0, 1, 0, 1])
        })
      )

      it.effect("tells reason from reason", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited", 10_000)]
          const retryAfter = yield* world
            .obtain(World.wanted(), { patience: 0 })
            .pipe(Effect.catchReason("ColdStartError", "CoolingDown", (reason) => Effect.succeed(reason.retryAfter)))
          assert.deepStrictEqual(retryAfter, Option.some(Duration.seconds(10)))
        })
      )
    })

    describe("and where the failure may pass", () => {
      it.effect("waits for the end of the cooldown, then looks again", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited", 20_000), startedAt(20_000)]
          const fiber = yield* start(world.obtain())
          yield* TestClock.adjust("19999 millis")
          assert.deepStrictEqual(world.asked(), [0])
          assert.strictEqual(Math.max(...world.queriesOf(0)), 0)
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual(world.asked(), [0, 0])
          World.finish(world.rank(0))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        })
      )

      it.effect("does so not in step with the others", () =>
        Effect.gen(function* () {
          const looks: Array<number> = []
          for (let seed = 0; seed < 5; seed++) {
            const world = yield* World.make()
            const begun = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
            world.rank(0).answers = [failed("rate_limited", begun + 20_000), startedAt(0)]
            const fiber = yield* start(Random.withSeed(world.obtain(), seed))
            for (let step = 0; step < 23; step++) yield* TestClock.adjust("1 second")
            looks.push((world.deeds.findLast(({ did }) => did === "please_pull")?.at ?? begun) - begun)
            yield* Fiber.interrupt(fiber)
          }
          assert.strictEqual(new Set(looks).size, 5)
          assert.isAtLeast(Math.min(...looks), 20_000)
        })
      )

      it.effect("waits for the first of the witnesses that will try again", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("auth", 5_000)]
          world.rank(1).answers = [failed("transient", 20_000)]
          world.rank(2).answers = [failed("transient", 200_000)]
          yield* start(world.obtain())
          yield* TestClock.adjust("19999 millis")
          assert.deepStrictEqual(world.asked(), [0, 1, 2])
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual(world.asked().slice(3), [0, 1, 2])
        })
      )

      it.effect("waits for no other than the registry's own word where that is known", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("transient", 5_000)]
          world.rank(1).answers = [failed("rate_limited", 20_000)]
          const { reason } = yield* Effect.flip(world.obtain(World.wanted(), { patience: "10 seconds" }))
          assert.deepStrictEqual(reason._tag === "CoolingDown" && reason.retryAfter, Option.some(Duration.seconds(20)))
        })
      )

      it.effect("fails at once where the cooldown ends after the call's patience, and says when it may succeed", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited", 20_000)]
          const error = yield* Effect.flip(world.obtain(World.wanted(), { patience: "19 seconds" }))
          assert.deepStrictEqual(
            error.reason._tag === "CoolingDown" && error.reason.retryAfter,
            Option.some(Duration.seconds(20))
          )
          assert.include(error.message, "may succeed in 20s")
          assert.isTrue(isRunning(yield* start(world.obtain(World.wanted(), { patience: "20 seconds" }))))
        })
      )

      it.effect("has five minutes of patience unless it is told otherwise", () =>
        Effect.gen(function* () {
          const late = yield* World.make()
          late.rank(0).answers = [failed("rate_limited", 300_001)]
          yield* Effect.flip(late.obtain())
          const early = yield* World.make()
          early.rank(0).answers = [failed("rate_limited", 300_000)]
          assert.isTrue(isRunning(yield* start(early.obtain())))
          const hasty = yield* World.make({ settings: { patience: "10 seconds" } })
          hasty.rank(0).answers = [failed("rate_limited", 10_001)]
          yield* Effect.flip(hasty.obtain())
        })
      )

      it.effect("does not wait for what comes after its deadline", () =>
        Effect.gen(function* () {
          const world = yield* World.make({ settings: { deadline: "10 seconds" } })
          world.rank(0).answers = [failed("rate_limited", 20_000)]
          const { reason } = yield* Effect.flip(world.obtain())
          assert.strictEqual(reason._tag, "CoolingDown")
        })
      )

      it.effect("counts the cooldown from the beginning of the pull where the puller's clock differs", () =>
        Effect.gen(function* () {
          const hour = 3_600_000
          const world = yield* World.make()
          yield* TestClock.adjust("1 hour")
          for (const skew of [-hour, hour]) {
            world.rank(0).answers = [startedAt(hour + skew), failed("rate_limited", hour + skew + 21_000)]
            const fiber = yield* start(world.obtain(World.wanted(), { patience: 0 }))
            world.rank(0).pulling = undefined
            yield* TestClock.adjust("1 second")
            const { reason } = yield* failure(fiber)
            assert.deepStrictEqual(
              reason._tag === "CoolingDown" && reason.retryAfter,
              Option.some(Duration.seconds(20))
            )
            yield* TestClock.adjust("1 minute")
          }
        })
      )

      it.effect("asks again with growing pauses where nobody says when the cooldown ends", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited")]
          const fiber = yield* start(world.obtain(World.wanted(), { patience: "1 minute" }))
          for (let second = 0; second < 30; second++) yield* TestClock.adjust("1 second")
          assert.isAtLeast(world.asked().length, 4)
          assert.isAtMost(world.asked().length, 6)
          yield* settle(fiber, "1 second")
          const { reason } = yield* failure(fiber)
          assert.deepStrictEqual(reason._tag === "CoolingDown" && reason.retryAfter, Option.none())
        })
      )

      it.effect("waits for the same puller after each of many cooldowns", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          const fiber = yield* start(world.obtain(World.wanted(), { patience: "30 minutes" }))
          for (let round = 0; round < 6; round++) {
            world.rank(0).pulling = undefined
            world.rank(0).answers = [
              failed("rate_limited", 70_000 * round + 60_000),
              startedAt(70_000 * round + 60_000)
            ]
            for (let second = 0; second < 70; second++) yield* TestClock.adjust("1 second")
            assert.isDefined(world.rank(0).pulling, `in round ${round}`)
          }
          assert.deepStrictEqual([...new Set(world.asked())], [0])
          World.finish(world.rank(0))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        })
      )
    })

    describe("and remembers a passing failure", () => {
      const hour = 3_600_000
      const impatient = { patience: 0 }
      for (const [title, until, seconds] of [
        ["until its cooldown ends", hour + 12_000, 12],
        ["for at most 30 seconds", hour + 600_000, 30],
        ["for at most 30 seconds where the puller's clock is ahead", 2 * hour, 30],
        ["not at all where the cooldown is over by our clock", 0, 0],
        ["not at all where no end is named", undefined, 0]
      ] as const) {
        it.effect(title, () =>
          Effect.gen(function* () {
            const world = yield* World.make()
            yield* TestClock.adjust("1 hour")
            world.rank(0).answers = [failed("rate_limited", until)]
            const expectAsked = (times: number) =>
              Effect.gen(function* () {
                const error = yield* Effect.flip(world.obtain(World.wanted(), impatient))
                assert.deepStrictEqual(saidBy(world, error), ["0 rate_limited"])
                assert.strictEqual(world.asked().length, times)
              })
            yield* expectAsked(1)
            if (seconds > 0) {
              yield* TestClock.adjust(Duration.millis(seconds * 1_000 - 1))
              yield* expectAsked(1)
              yield* TestClock.adjust("1 millis")
            }
            yield* expectAsked(2)
          })
        )
      }

      it.effect("and says how long it has yet to last", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited", 20_000)]
          yield* Effect.flip(world.obtain(World.wanted(), impatient))
          yield* TestClock.adjust("5 seconds")
          const { reason } = yield* Effect.flip(world.obtain(World.wanted(), impatient))
          assert.deepStrictEqual(reason._tag === "CoolingDown" && reason.retryAfter, Option.some(Duration.seconds(15)))
        })
      )

      it.effect("of that reference only", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited", 20_000), startedAt(0)]
          yield* Effect.flip(world.obtain(World.wanted(), impatient))
          const elsewhere = new OriginRef({ ...World.ref, repository: Repository.make("elsewhere") })
          const fiber = yield* start(world.obtain({ ...World.wanted(), ref: elsewhere }, impatient))
          assert.isTrue(isRunning(fiber))
          assert.deepStrictEqual(world.asked(), [0, 0])
        })
      )

      it.effect("but gives what its own store has meanwhile", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited", 20_000)]
          yield* Effect.flip(world.obtain(World.wanted(), impatient))
          world.me.cached = true
          assert.deepStrictEqual(yield* world.obtain(World.wanted(), impatient), { _tag: "Local" })
        })
      )

      it.effect("but lets a call wait for its end that has the patience", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failed("rate_limited", 20_000), failed("rate_limited", 20_000), startedAt(20_000)]
          yield* Effect.flip(world.obtain(World.wanted(), impatient))
          const fiber = yield* start(world.obtain())
          yield* TestClock.adjust("22 seconds")
          World.finish(world.rank(0))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        })
      )
    })

    it.effect("and turns to the next rank where it declines", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).answers = [declined]
        const fiber = yield* start(world.obtain())
        assert.deepStrictEqual(world.asked(), [0, 1])
        World.finish(world.rank(1))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
      })
    )

    for (const failure of [
      "Unreachable",
      "CannotResolve",
      "UnsupportedProtocol",
      { reason: "UnsupportedProtocol", phase: "reply" },
      { reason: "TimedOut", phase: "resolve" },
      { reason: "TimedOut", phase: "dial" }
    ] as const) {
      it.effect(`and passes over, without asking twice, who cannot have heard of it (${inWords(failure)})`, () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [failure]
          yield* start(world.obtain())
          assert.deepStrictEqual(world.asked(), [0, 1])
        })
      )
    }

    describe("and where no answer comes", () => {
      it.effect("asks the same node once more before anyone else", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = ["silence", startedAt(0)]
          const fiber = yield* start(world.obtain())
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual(world.asked(), [0, 0])
          World.finish(world.rank(0))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
          assert.deepStrictEqual(world.asked(), [0, 0])
        })
      )

      for (const failure of [
        "TimedOut",
        "NoReply",
        "ReplyMalformed",
        "UnexpectedReply",
        "ReplyTooLarge",
        "hang",
        { reason: "TimedOut", phase: "request" },
        { reason: "Unreachable", phase: "request" }
      ] as const) {
        it.effect(`or one that cannot be read (${inWords(failure)}), does the same`, () =>
          Effect.gen(function* () {
            const world = yield* World.make()
            world.rank(0).answers = [failure, startedAt(0)]
            yield* start(world.obtain())
            yield* TestClock.adjust("5 seconds")
            assert.deepStrictEqual(world.asked(), [0, 0])
          })
        )
      }

      it.effect("or the stream is reset again and again while it opens, does the same", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [...Array<World.Failure>(8).fill({ reason: "Reset", phase: "dial" }), startedAt(0)]
          yield* start(world.obtain())
          yield* TestClock.adjust("20 seconds")
          assert.deepStrictEqual([...new Set(world.asked())], [0])
        })
      )

      it.effect("twice, finds the pull that runs nevertheless, and waits for it", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = ["lost"]
          const fiber = yield* start(world.obtain())
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(world.asked(), [0, 0])
          World.finish(world.rank(0))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        })
      )

      it.effect("twice, and no pull runs there, turns to the next rank", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = ["silence"]
          yield* start(world.obtain())
          yield* TestClock.adjust("3999 millis")
          assert.deepStrictEqual(world.asked(), [0, 0])
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(world.asked(), [0, 0, 1])
        })
      )

      it.effect("and the node is out of reach by then, watches a little whether it pulls nevertheless", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = ["lost"]
          yield* start(world.obtain())
          world.rank(0).down = "Unreachable"
          yield* TestClock.adjust("2 seconds")
          yield* TestClock.adjust("1 second")
          world.rank(0).down = undefined
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(world.asked(), [0, 0])
        })
      )

      it.effect("and the node stays out of reach, turns to the next rank", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = ["lost"]
          yield* start(world.obtain())
          world.rank(0).down = "Unreachable"
          yield* TestClock.adjust("3999 millis")
          assert.deepStrictEqual(world.asked(), [0, 0])
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(world.asked(), [0, 0, 1])
        })
      )
    })

    describe("and where the pull is over without the bytes", () => {
      it.effect("asks that node once for the verdict, instead of waiting out the threshold", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).answers = [startedAt(0), failed("not_found", 10_000)]
          world.rank(1).answers = [failed("not_found", 10_000)]
          const fiber = yield* start(world.obtain())
          world.rank(0).pulling = undefined
          world.rank(0).failed = "not_found"
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(saidBy(world, yield* failure(fiber)), ["0 not_found", "1 not_found"])
          assert.deepStrictEqual(world.asked(), [0, 0, 1])
        })
      )

      it.effect("also where better ranks can be reached again", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          world.rank(0).down = "Unreachable"
          world.rank(1).answers = [startedAt(0), failed("rate_limited", 10_000)]
          const fiber = yield* start(world.obtain(World.wanted(), { patience: 0 }))
          world.rank(0).down = undefined
          world.rank(1).pulling = undefined
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(saidBy(world, yield* failure(fiber)), ["1 rate_limited"])
          assert.deepStrictEqual(world.asked(), [1, 1])
        })
      )

      it.effect("waits again where it had only restarted", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          const fiber = yield* start(world.obtain())
          world.rank(0).pulling = undefined
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(world.asked(), [0, 0])
          World.finish(world.rank(0))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        })
      )

      it.effect("twice, turns to the next rank", () =>
        Effect.gen(function* () {
          const world = yield* World.make()
          yield* start(world.obtain())
          world.rank(0).pulling = undefined
          yield* TestClock.adjust("1 second")
          world.rank(0).pulling = undefined
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(world.asked(), [0, 0, 1])
        })
      )
    })
  })

  describe("6. pulls it itself", () => {
    const allDecline = (world: { readonly rank: (rank: number) => World.Peer }) => {
      for (const rank of [0, 1, 2]) world.rank(rank).answers = [declined]
    }

    it.effect("after a random delay of up to 3 s times ln(members)", () =>
      Effect.gen(function* () {
        const longest = 3_000 * Math.log(12)
        const delays: Array<number> = []
        for (let seed = 0; seed < 20; seed++) {
          const world = yield* World.make()
          allDecline(world)
          const begun = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
          yield* start(Random.withSeed(world.obtain(), seed))
          yield* TestClock.adjust(Duration.millis(longest))
          assert.deepStrictEqual(
            world.pulls().map(({ rank, requester, rule }) => ({ rank, requester, rule })),
            [{ rule: "fallback", requester: world.self, rank: 11 }]
          )
          delays.push(...world.deeds.flatMap((deed) => (deed.did === "pull" ? [deed.at - begun] : [])))
        }
        assert.isAbove(Math.max(...delays), longest / 2)
        assert.isBelow(Math.min(...delays), longest / 2)
      })
    )

    it.effect("unless another look shows that somebody has it by then", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        const fiber = yield* start(world.obtain())
        world.rank(2).cached = true
        yield* TestClock.adjust("8 seconds")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 2))
        assert.deepStrictEqual(world.pulls(), [])
      })
    )

    it.effect("unless another look shows that somebody is pulling it by then", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        yield* start(world.obtain())
        World.pull(world.rank(2), 5)
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(world.pulls(), [])
      })
    )

    it.effect("unless another look reaches a rank that was out of reach", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const peer of world.peers) if (peer !== world.me) peer.down = "Unreachable"
        yield* start(world.obtain())
        world.rank(1).down = undefined
        yield* TestClock.adjust("8 seconds")
        assert.deepStrictEqual(world.asked(), [1])
      })
    )

    it.effect("and waits for its own pull, however long that takes", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("10 minutes")
        World.finish(world.me)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), { _tag: "Origin" })
        assert.strictEqual(world.pulls().length, 1)
      })
    )

    it.effect("and heeds its own pump's verdict", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        world.me.answers = [failed("auth", 10_000)]
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("8 seconds")
        assert.deepStrictEqual(saidBy(world, yield* failure(fiber)), ["11 auth"])
      })
    )

    it.effect("and holds back anew after a cooldown", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        world.me.answers = [failed("rate_limited", 20_000), startedAt(20_000)]
        yield* start(world.obtain())
        for (let second = 0; second < 35; second++) yield* TestClock.adjust("1 second")
        assert.strictEqual(world.logs.filter(({ text }) => text.includes("nobody is left to ask")).length, 2)
      })
    )

    it.effect("and tries everyone again where its own pump declines", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        world.me.answers = [declined]
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("20 seconds")
        assert.isAbove(world.pulls().length, 1)
        assert.isBelow(world.pulls().length, 25)
        world.rank(1).answers = []
        yield* TestClock.adjust("5 seconds")
        assert.isDefined(world.rank(1).pulling)
        World.finish(world.rank(1))
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 1))
      })
    )

    it.effect("and fails, naming all who decline, once its patience is over", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        world.rank(2).down = "Unreachable"
        world.me.answers = [declined]
        const fiber = yield* start(world.obtain(World.wanted(), { patience: "1 minute" }))
        yield* TestClock.adjust("56 seconds")
        assert.isTrue(isRunning(fiber))
        yield* TestClock.adjust("10 seconds")
        const { message, reason } = yield* failure(fiber)
        assert.strictEqual(reason._tag, "Declined")
        for (const [rank, why] of [
          [0, "declined"],
          [1, "declined"],
          [2, "unreachable"],
          [11, "declined"]
        ] as const) {
          assert.include(message, `${world.rank(rank).nodeId} (${why})`)
        }
      })
    )

    it.effect("and fails where its own pulls end without bytes and without a verdict", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        allDecline(world)
        const fiber = yield* start(world.obtain())
        for (let second = 0; second < 12; second++) {
          yield* TestClock.adjust("1 second")
          world.me.pulling = undefined
        }
        const { reason } = yield* failure(fiber)
        assert.strictEqual(reason._tag, "Exhausted")
        assert.strictEqual(world.pulls().length, 2)
      })
    )

    it.effect("at once where there is no membership", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ members: 0 })
        const fiber = yield* start(world.obtain())
        assert.deepStrictEqual(
          world.pulls().map(({ rank, rule }) => ({ rank, rule })),
          [{ rule: "fallback", rank: -1 }]
        )
        World.finish(world.me)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), { _tag: "Origin" })
      })
    )

    it.effect("where it is cut off from everyone", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        for (const peer of world.peers) if (peer !== world.me) peer.down = "silence"
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual(world.pulls()[0]?.rule, "fallback")
        World.finish(world.me)
        yield* settle(fiber, "1 second")
        assert.deepStrictEqual(yield* Fiber.join(fiber), { _tag: "Origin" })
      })
    )
  })

  describe("shares the work of concurrent calls", () => {
    it.effect("for one digest", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const fibers = [yield* start(world.obtain()), yield* start(world.obtain()), yield* start(world.obtain())]
        assert.deepStrictEqual(world.asked(), [0])
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        for (const fiber of fibers) assert.deepStrictEqual(yield* Fiber.join(fiber), fromRank(world, 0))
        assert.strictEqual(world.transfers(), 1)
      })
    )

    it.effect("each of which waits as long as its own patience lasts", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        world.rank(0).answers = [startedAt(0), failed("rate_limited", 21_000), startedAt(21_000)]
        const calls = []
        for (const patience of ["20 seconds", "21 seconds", "10 minutes"] as const) {
          calls.push(yield* start(world.obtain(World.wanted(), { patience })))
        }
        world.rank(0).pulling = undefined
        yield* TestClock.adjust("1 second")
        const late = yield* start(world.obtain(World.wanted(), { patience: "5 seconds" }))
        assert.deepStrictEqual([...calls, late].map(isRunning), [false, true, true, false])
        for (const { reason } of yield* Effect.forEach([calls[0] as (typeof calls)[number], late], failure)) {
          assert.deepStrictEqual(reason._tag === "CoolingDown" && reason.retryAfter, Option.some(Duration.seconds(20)))
        }
        yield* TestClock.adjust("22 seconds")
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        for (const call of calls.slice(1)) assert.deepStrictEqual(yield* Fiber.join(call), fromRank(world, 0))
        assert.deepStrictEqual(world.asked(), [0, 0, 0])
      })
    )

    it.effect("so that interrupting one of them leaves the others alone", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const first = yield* start(world.obtain())
        const second = yield* start(world.obtain())
        yield* Fiber.interrupt(first)
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(second), fromRank(world, 0))
      })
    )

    it.effect("and stops it when the last of them is interrupted", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const fibers = [yield* start(world.obtain()), yield* start(world.obtain())]
        yield* Fiber.interruptAll(fibers)
        const before = world.queriesOf(0).length
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(world.queriesOf(0).length, before)
      })
    )

    it.effect("including a transfer that runs", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        let interrupted = false
        world.rank(0).cached = true
        world.setFetch(() =>
          Effect.onInterrupt(Effect.never, () =>
            Effect.sync(() => {
              interrupted = true
            })
          )
        )
        const fiber = yield* start(world.obtain())
        yield* Fiber.interrupt(fiber)
        assert.isTrue(interrupted)
      })
    )

    it.effect("but fails none of them with the failure of another's reference", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const bogus = new OriginRef({ registry, repository: Repository.make("bogus"), digest: World.digest })
        world.rank(0).answers = [failed("not_found", 10_000), startedAt(0)]
        world.rank(1).answers = [failed("not_found", 10_000)]
        const [first, second] = yield* Effect.all(
          [
            Effect.forkChild(Effect.flip(world.obtain({ ...World.wanted(), ref: bogus }))),
            Effect.forkChild(world.obtain())
          ],
          { concurrency: 1 }
        )
        yield* TestClock.adjust(0)
        assert.strictEqual((yield* Fiber.join(first)).reason._tag, "OriginFailed")
        assert.isTrue(isRunning(second))
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(second), fromRank(world, 0))
      })
    )

    it.effect("nor has them wait for a cooldown of another's reference, nor leave once it is over", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const elsewhere = new OriginRef({ ...World.ref, repository: Repository.make("elsewhere") })
        world.rank(0).answers = [failed("rate_limited", 20_000), startedAt(0)]
        yield* start(world.obtain())
        yield* TestClock.adjust("1 second")
        const during = yield* start(world.obtain({ ...World.wanted(), ref: elsewhere }))
        assert.deepStrictEqual(world.asked(), [0, 0])
        yield* Fiber.interrupt(during)
        yield* TestClock.adjust("25 seconds")
        const queries = world.queriesOf(0).length
        yield* start(world.obtain({ ...World.wanted(), ref: elsewhere }))
        assert.strictEqual(world.queriesOf(0).length, queries)
      })
    )

    it.effect("and not that of other digests", () =>
      Effect.gen(function* () {
        const world = yield* World.make()
        const other = new OriginRef({ ...World.ref, digest: digestOf("other") })
        const fetched: Array<string> = []
        world.rank(0).cached = true
        world.setFetch(({ digest }) => {
          fetched.push(digest)
          return Effect.never
        })
        yield* start(world.obtain())
        yield* start(world.obtain({ ...World.wanted(), ref: other }))
        yield* TestClock.adjust("250 millis")
        assert.deepStrictEqual(fetched, [World.digest, other.digest])
      })
    )
  })

  describe("ends every call within the deadline", () => {
    it.effect("of 24 hours, and says what it was waiting for", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ members: 0, settings: { layerPoll: "10 minutes" } })
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("23 hours")
        assert.isTrue(isRunning(fiber))
        yield* TestClock.adjust("1 hour")
        const error = yield* failure(fiber)
        assert.strictEqual(error.reason._tag, "TimedOut")
        assert.include(error.message, `waiting for the pull of ${world.self}`)
      })
    )

    it.effect("that is set", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ settings: { deadline: "10 seconds" } })
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual((yield* failure(fiber)).reason._tag, "TimedOut")
      })
    )

    it.effect("counted from its own beginning, not from that of the call it shares", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ settings: { deadline: "10 seconds" } })
        const first = yield* start(world.obtain())
        yield* TestClock.adjust("5 seconds")
        const second = yield* start(world.obtain())
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* failure(first)).reason._tag, "TimedOut")
        World.finish(world.rank(0))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(second), fromRank(world, 0))
      })
    )

    it.effect("also where a transfer hangs", () =>
      Effect.gen(function* () {
        const world = yield* World.make({ settings: { deadline: "10 seconds" } })
        world.setFetch(() => Effect.never)
        world.rank(0).cached = true
        const fiber = yield* start(world.obtain())
        yield* TestClock.adjust("10 seconds")
        assert.include((yield* failure(fiber)).message, "fetching")
      })
    )
  })

  it.effect("ignores settings that are not positive", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ settings: { deadline: 0, ranks: -1, manifestPoll: "-1 second" } })
      const fiber = yield* start(world.obtain(World.wanted("manifest")))
      assert.isTrue(isRunning(fiber))
      yield* TestClock.adjust("400 millis")
      assert.deepStrictEqual(world.queriesOf(2), [0, 200, 400])
    })
  )

  it.effect("is not built with settings that cannot be read", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(World.make({ settings: { patience: "banana" as "1 second" } }))
      assert.include(error.message, "patience")
    })
  )

  it.effect("logs each step with its digest and its rule", () =>
    Effect.gen(function* () {
      const world = yield* World.make()
      yield* start(world.obtain())
      assert.deepStrictEqual(
        world.logs.map(({ text }) => text),
        [
          "asking the best 3",
          `asking ${world.rank(0).nodeId} to pull`,
          `waiting for the pull of ${world.rank(0).nodeId}`
        ]
      )
    })
  )
})
