import { assert, describe, it } from "@effect/vitest"
import { OriginRef, Repository } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Plan from "../src/Plan.ts"
import * as Simulation from "../src/Simulation.ts"

const details = ({ violations }: Simulation.Result) =>
  violations.map(({ detail, invariant }) => `${invariant}: ${detail}`)

const blob = Plan.blobOf("blob")

describe("a planned cluster", () => {
  it.effect("pulls once though every first reply is lost and every request arrives twice", () =>
    Effect.gen(function* () {
      const slow = Plan.blobOf("slow", { originMillis: 15_000 })
      const result = yield* Simulation.run(Plan.calm(6, [slow], { duplicates: 1, losesFirstReplies: true }))
      assert.deepStrictEqual(details(result), [])
      assert.strictEqual(result.pulls.length, 1)
      assert.include(result.events.map(({ text }) => text).join(" "), "PleasePullResponse is lost")
    })
  )

  it.effect("pulls once though the clocks of its nodes are an hour apart, and jump", () =>
    Effect.gen(function* () {
      const { nodes, ...plan } = Plan.calm(6)
      const result = yield* Simulation.run({
        ...plan,
        nodes: nodes.map((node, index) => ({ ...node, clockOffsetMillis: (index - 3) * 1_200_000 })),
        faults: nodes.map((_, node) => ({ _tag: "ClockJump", node, millis: -3_600_000, at: 500, until: 500 }))
      })
      assert.deepStrictEqual(details(result), [])
      assert.strictEqual(result.pulls.length, 1)
    })
  )

  it.effect("delivers a blob by its right name to some while others learn that their name for it is wrong", () =>
    Effect.gen(function* () {
      const wrong = new OriginRef({
        ...(blob.refs[0] as Plan.PlannedRef).ref,
        repository: Repository.make("library/bogus")
      })
      const named = { ...blob, refs: [...blob.refs, { ref: wrong, answers: [{ _tag: "NotFound" as const }] }] }
      const plan = Plan.calm(6, [named])
      const requests = plan.requests.map((request, index) => ({
        ...request,
        at: 2_000 * index,
        ref: index < 2 ? 1 : 0
      }))
      const result = yield* Simulation.run({ ...plan, requests })
      assert.deepStrictEqual(details(result), [])
      assert.strictEqual(result.outcomes.get("OriginFailed"), 2)
      assert.strictEqual(
        [...result.outcomes.values()].reduce((sum, amount) => sum + amount, 0),
        6
      )
    })
  )

  it.effect("asks the origin again once a cooldown is over, though all clocks were set back by an hour", () =>
    Effect.gen(function* () {
      const { ref } = blob.refs[0] as Plan.PlannedRef
      const notFound = { _tag: "NotFound" as const }
      const late = { ...blob, refs: [{ ref, answers: [notFound, notFound, { _tag: "Deliver" as const }] }] }
      const plan = Plan.calm(4, [late], { spoils: ["a name that comes late"] })
      const result = yield* Simulation.run({
        ...plan,
        requests: [0, 60_000].map((at, node) => ({ at, node, blob: 0, ref: 0 })),
        faults: plan.nodes.map((_, node) => ({ _tag: "ClockJump", node, millis: -3_600_000, at: 5_000, until: 5_000 }))
      })
      assert.deepStrictEqual(details(result), [])
      assert.strictEqual(result.pulls.length, 3)
      assert.strictEqual(result.outcomes.get("OriginFailed"), 1)
    })
  )

  it.effect("takes nothing from a node that hands out wrong bytes", () =>
    Effect.gen(function* () {
      const plan = Plan.calm(4)
      const faults = plan.nodes.map(
        (_, node): Plan.PlannedFault => ({ _tag: "WrongBytes", node, at: 0, until: 300_000 })
      )
      const result = yield* Simulation.run({ ...plan, faults, hides: ["wrong bytes"], spoils: ["wrong bytes"] })
      assert.deepStrictEqual(details(result), [])
      assert.isUndefined(result.outcomes.get("Peer"))
      assert.strictEqual(result.outcomes.get("Origin"), 4)
    })
  )

  it.effect("ends every call at its deadline while the origin says nothing", () =>
    Effect.gen(function* () {
      const hang = { ...blob, refs: blob.refs.map(({ ref }) => ({ ref, answers: [{ _tag: "Hang" as const }] })) }
      const result = yield* Simulation.run(Plan.calm(4, [hang], { deadlineMillis: 15_000, spoils: ["silence"] }))
      assert.deepStrictEqual(details(result), [])
      assert.deepStrictEqual([...result.outcomes], [["TimedOut", 4]])
    })
  )

  it.effect("says so when a call fails or two nodes pull without an excuse", () =>
    Effect.gen(function* () {
      // Nothing excuses what really went wrong here: the plan keeps it to itself.
      const apart: Plan.PlannedFault = {
        _tag: "Partition",
        group: [0, 1],
        oneWay: false,
        opens: "refused",
        at: 0,
        until: 300_000
      }
      const slow = Plan.blobOf("slow", { originMillis: 100_000 })
      const result = yield* Simulation.run(Plan.calm(4, [slow], { faults: [apart], deadlineMillis: 60_000 }))
      const broken = new Set(result.violations.map(({ invariant }) => invariant))
      assert.include([...broken], "nothing fails without a reason")
      assert.include([...broken], "one live pull per view")
    })
  )
})
