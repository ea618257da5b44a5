/**
 * Runs a whole cluster through the plan of a seed, in virtual time, and checks
 * what must hold whatever goes wrong.
 */
import type { BlobSource, ColdStartError } from "@gantry/coldstart/ColdStart"
import * as MembersView from "@gantry/coord/MembersView"
import { type Member, type PeerId, Rendezvous } from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as MemoryNetwork from "@gantry/testkit/MemoryNetwork"
import * as VirtualTime from "@gantry/testkit/VirtualTime"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { Ledger, type Pull, type Violation } from "./Ledger.ts"
import type * as Plan from "./Plan.ts"
import * as SimulatedNode from "./SimulatedNode.ts"
import { SimulatedOrigin } from "./SimulatedOrigin.ts"
import type { Event } from "./Timeline.ts"

/** What came of a seed. */
export interface Result {
  readonly plan: Plan.Plan
  readonly events: ReadonlyArray<Event>
  readonly violations: ReadonlyArray<Violation>
  readonly pulls: ReadonlyArray<Pull>
  /** How calls ended, by the name of the ending. */
  readonly outcomes: ReadonlyMap<string, number>
  /** Streams that ever came about. */
  readonly streams: number
  /** How long it all took, in milliseconds of true time. */
  readonly millis: number
}

interface Call {
  readonly request: Plan.PlannedRequest
  ended: number | undefined
}

/** What an ended call may be late by: an answer that was not waited for may come just then. */
const graceMillis = 5_000

/** How long what is under way may take to end when nobody asks any more. */
const settlingMillis = 30 * 60_000

const describe = (outcome: BlobSource): string => (outcome._tag === "Peer" ? `Peer ${outcome.holder}` : outcome._tag)

/** Runs a plan. */
export const run = (plan: Plan.Plan): Effect.Effect<Result> =>
  simulate(plan).pipe(
    Effect.scoped,
    Effect.provide(MemoryNetwork.layer, { local: true }),
    Random.withSeed(`run ${plan.seed}`),
    VirtualTime.run
  )

const simulate = Effect.fnUntraced(function* (plan: Plan.Plan) {
  const network = yield* MemoryNetwork.MemoryNetwork
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  const ledger = new Ledger(plan.blobs, () => clock.currentTimeMillisUnsafe())
  const census = { fibers: 0, timers: 0 }
  let loss = 0

  const members = plan.nodes.map(({ zone }, index) =>
    Fixtures.memberOf(index, {
      contentAddress: Option.some(`${Fixtures.nodeIdOf(index)}:80`),
      zone: Option.fromUndefinedOr(zone)
    })
  )
  const views = plan.views.map((indexes, version) =>
    MembersView.make(
      indexes.map((index) => members[index] as Member),
      version
    )
  )
  const machines = plan.nodes.map((planned, index) => {
    const machine: SimulatedNode.Machine = {
      index,
      nodeId: (members[index] as Member).nodeId,
      peerId: Option.getOrThrow((members[index] as Member).peerId),
      planned,
      disk: { blobs: new Map(), millis: planned.diskMillis },
      endpoint: { serving: 0, isWrong: false, isStalling: false },
      clock: SimulatedNode.clockOf(clock, () => machine.offsetMillis, census),
      offsetMillis: planned.clockOffsetMillis,
      isFull: false,
      view: views[planned.view] as MembersView.MembersView,
      process: undefined
    }
    return machine
  })
  const zoneOf = (machine: SimulatedNode.Machine) =>
    Option.flatMap(machine.view.byNodeId(machine.nodeId), (member) => member.zone)
  const world: SimulatedNode.World = {
    machines,
    indexOf: new Map(machines.map(({ index, peerId }): [PeerId, number] => [peerId, index])),
    origin: new SimulatedOrigin(plan.blobs, ledger),
    blobs: plan.blobs,
    ledger,
    links: {
      network,
      ledger,
      clock,
      scope,
      duplicates: plan.duplicates,
      losesFirstReplies: plan.losesFirstReplies,
      loss: () => loss
    },
    deadlineMillis: plan.deadlineMillis,
    groupOf: (machine) => {
      const zone = zoneOf(machine)
      return `view ${machine.view.version}, ${Option.isSome(zone) ? zone.value : "all zones"}`
    },
    rankFor: (machine, puller, digest) =>
      Rendezvous.rankOf(machine.view.inZone(zoneOf(machine)), puller.nodeId, digest),
    census
  }
  yield* network.link({}, { latency: plan.latencyMillis, jitter: plan.jitterMillis })
  const start = (machine: SimulatedNode.Machine) =>
    SimulatedNode.on(world, machine)(SimulatedNode.start(world, machine))
  yield* Effect.forEach(machines, start, { discard: true })

  // What goes wrong

  /** Nothing mends it, or nothing needs to. */
  const beyond: MemoryNetwork.Fault = { heal: Effect.void }
  const told = (heal: Effect.Effect<void>, tell: () => void): MemoryNetwork.Fault => ({
    heal: Effect.andThen(heal, Effect.sync(tell))
  })

  const stop = Effect.fnUntraced(function* (machine: SimulatedNode.Machine, isCrash: boolean) {
    const { process } = machine
    if (process === undefined) return beyond
    machine.process = undefined
    ledger.note(machine.index, "fault", isCrash ? "crashes" : "shuts down")
    if (isCrash) {
      process.isAlive = false
      for (const pull of ledger.live) if (pull.node === machine.index) ledger.ended(pull)
    }
    const crash = isCrash ? yield* network.crash(machine.peerId) : undefined
    const closing = yield* Effect.forkIn(Scope.close(process.scope, Exit.void), scope, { startImmediately: true })
    const heal = Effect.gen(function* () {
      yield* Fiber.await(closing)
      yield* start(machine)
      if (crash !== undefined) yield* crash.heal
      ledger.note(machine.index, "fault", "is back")
    })
    return { heal }
  })

  /** Brings a fault about. */
  const cause = Effect.fnUntraced(function* (
    fault: Plan.PlannedFault
  ): Effect.fn.Return<MemoryNetwork.Fault, never, Scope.Scope> {
    if (fault._tag === "Partition") {
      const peers = fault.group.map((index) => (machines[index] as SimulatedNode.Machine).peerId)
      const others = machines.filter(({ index }) => !fault.group.includes(index)).map(({ peerId }) => peerId)
      const names = fault.group.map((index) => `node-${index}`).join(", ")
      const { heal } = yield* network.partition(peers, others, { oneWay: fault.oneWay, opens: fault.opens })
      const how = fault.oneWay ? "cannot send to" : "parted from"
      ledger.note(undefined, "fault", `${names} ${how} the others (${fault.opens})`)
      return told(heal, () => ledger.note(undefined, "fault", "a partition is healed"))
    }
    if (fault._tag === "Loss") {
      const setLoss = (value: number) => {
        loss = value
        ledger.note(undefined, "fault", `${Math.round(100 * value)} % of all messages are lost`)
        return network.link({}, { latency: plan.latencyMillis, jitter: plan.jitterMillis, loss: value })
      }
      yield* setLoss(fault.chance)
      return { heal: Effect.suspend(() => setLoss(0)) }
    }
    const machine = machines[fault.node] as SimulatedNode.Machine
    const set = (text: string, undone: string, change: () => void, undo: () => void) => {
      change()
      ledger.note(machine.index, "fault", text)
      return told(Effect.sync(undo), () => ledger.note(machine.index, "fault", undone))
    }
    switch (fault._tag) {
      case "Crash":
      case "Shutdown":
        return yield* stop(machine, fault._tag === "Crash")
      case "Freeze": {
        const { heal } = yield* network.freeze(machine.peerId)
        ledger.note(machine.index, "fault", "freezes")
        return told(heal, () => ledger.note(machine.index, "fault", "thaws"))
      }
      case "SlowDisk": {
        const usual = machine.planned.diskMillis
        const slow = () => {
          machine.disk.millis = fault.millis
        }
        const undo = () => {
          machine.disk.millis = usual
        }
        return set(`its disk takes ${fault.millis} ms`, "its disk is as usual", slow, undo)
      }
      case "ClockJump":
        machine.offsetMillis += fault.millis
        ledger.note(machine.index, "fault", `its clock jumps by ${fault.millis / 1000} s`)
        return beyond
      case "FullPump":
        return set(
          "its pump is full",
          "its pump has room",
          () => {
            machine.isFull = true
          },
          () => {
            machine.isFull = false
          }
        )
      case "WrongBytes":
        return set(
          "hands out wrong bytes",
          "hands out right bytes again",
          () => {
            machine.endpoint.isWrong = true
          },
          () => {
            machine.endpoint.isWrong = false
          }
        )
      case "StallingPeer":
        return set(
          "stops in the middle of transfers",
          "transfers to the end again",
          () => {
            machine.endpoint.isStalling = true
          },
          () => {
            machine.endpoint.isStalling = false
          }
        )
      case "View": {
        const before = machine.view
        const view = views[fault.view] as MembersView.MembersView
        return set(
          `sees ${view.members.length} members`,
          `sees ${before.members.length} members again`,
          () => {
            machine.view = view
          },
          () => {
            machine.view = before
          }
        )
      }
    }
  })

  /** The faults that are under way. */
  const faults = new Set<MemoryNetwork.Fault>()
  const trouble = Effect.fnUntraced(function* (planned: Plan.PlannedFault) {
    yield* Effect.sleep(planned.at)
    const fault = yield* Effect.uninterruptible(cause(planned))
    faults.add(fault)
    if (!Number.isFinite(planned.until)) return
    yield* Effect.sleep(planned.until - planned.at)
    faults.delete(fault)
    yield* Effect.uninterruptible(fault.heal)
  })
  const troubles = yield* Effect.forEach(plan.faults, (fault) => Effect.forkScoped(trouble(fault)))

  // Who asks for what

  const outcomes = new Map<string, number>()
  const calls = plan.requests.map((request): Call => ({ request, ended: undefined }))
  const count = (call: Call, outcome: string) => {
    call.ended = ledger.now
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }

  const check = (call: Call, machine: SimulatedNode.Machine, exit: Exit.Exit<BlobSource, ColdStartError>) => {
    const blob = plan.blobs[call.request.blob] as Plan.PlannedBlob
    const { ref } = blob.refs[call.request.ref] as Plan.PlannedRef
    const name = `${ref.repository}/${blob.name}`
    const violate = (invariant: string, detail: string) =>
      ledger.violate(invariant, `node-${machine.index}, asking for ${name}: ${detail}`, machine.index)
    if (Exit.isSuccess(exit)) {
      ledger.note(machine.index, "outcome", `has ${name}: ${describe(exit.value)}`)
      count(call, exit.value._tag)
      const bytes = machine.disk.blobs.get(ref.digest)
      if (bytes === undefined) violate("success means bytes", "it succeeded and has nothing")
      else if (!ledger.isTrue(ref.digest, bytes)) violate("only verified bytes", "it got wrong bytes")
    } else {
      const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
      ledger.note(machine.index, "outcome", error?.message ?? Cause.pretty(exit.cause))
      count(call, error === undefined ? "defect" : error.reason._tag)
      if (error === undefined) return violate("only typed errors", Cause.pretty(exit.cause))
      const { reason } = error
      if (error.ref.toString() !== ref.toString()) violate("failures stay with their reference", error.message)
      const isOfOrigin = reason._tag === "OriginFailed" || reason._tag === "CoolingDown"
      if (isOfOrigin && !ledger.hasFailed(ref, reason.failureClass)) {
        violate("failures stay with their reference", `the origin never failed like this: ${error.message}`)
      }
      if (plan.spoils.length === 0 && call.request.ref === 0) {
        violate("nothing fails without a reason", error.message)
      }
    }
    const late = ledger.now - call.request.at - plan.deadlineMillis
    if (late > graceMillis) violate("calls end within their deadline", `it ended ${late} ms late`)
  }

  const ask = Effect.fnUntraced(function* (call: Call) {
    const { at, blob, node, ref } = call.request
    yield* Effect.sleep(at)
    const machine = machines[node] as SimulatedNode.Machine
    const { process } = machine
    if (process === undefined) return count(call, "down")
    const planned = plan.blobs[blob] as Plan.PlannedBlob
    const wanted = {
      ref: (planned.refs[ref] as Plan.PlannedRef).ref,
      kind: planned.kind,
      size: planned.isSizeKnown ? Option.some(planned.bytes.length) : Option.none()
    }
    ledger.note(node, "request", `asks for ${wanted.ref.repository}/${planned.name}`)
    const obtain = SimulatedNode.on(world, machine)(process.coldStart.obtain(wanted))
    const calling = yield* Effect.forkIn(obtain, scope, { startImmediately: true })
    // A process that ends takes its callers along.
    yield* Scope.addFinalizer(process.scope, Fiber.interrupt(calling))
    const exit = yield* Fiber.await(calling)
    if (machine.process === process) check(call, machine, exit)
    else count(call, "process ended")
  })
  yield* Effect.forEach(calls, (call) => Effect.forkScoped(ask(call)), { discard: true })

  // Time passes

  const isOver = () => calls.every(({ ended }) => ended !== undefined)
  const lastStart = Math.max(0, ...plan.requests.map(({ at }) => at))
  const latest = lastStart + plan.deadlineMillis + 2 * graceMillis
  while (!isOver() && ledger.now < latest) yield* Effect.sleep("1 second")
  for (const { ended, request } of calls) {
    if (ended !== undefined) continue
    const { name } = plan.blobs[request.blob] as Plan.PlannedBlob
    ledger.violate("nobody waits for ever", `node-${request.node} still waits for ${name}`, request.node)
  }

  // What is under way ends

  yield* Fiber.interruptAll(troubles)
  yield* Effect.forEach([...faults], ({ heal }) => heal, { concurrency: "unbounded", discard: true })
  const remains = Effect.gen(function* () {
    const { open } = yield* network.traffic()
    const processes = machines.flatMap(({ process }) => (process === undefined ? [] : [process]))
    const claims = yield* Effect.forEach(processes, ({ inflight }) => inflight.size)
    return {
      streams: open,
      claims: claims.reduce((sum, size) => sum + size, 0),
      pulls: ledger.live.length,
      connections: world.origin.open,
      transfers: machines.reduce((sum, { endpoint }) => sum + endpoint.serving, 0)
    }
  })
  const nothing = { streams: 0, claims: 0, pulls: 0, connections: 0, transfers: 0 }
  const leftOf = (found: typeof nothing) =>
    Object.entries(found)
      .filter(([, amount]) => amount !== 0)
      .map(([what, amount]) => `${amount} ${what}`)
      .join(", ")
  const end = ledger.now + settlingMillis
  let left = leftOf(yield* remains)
  while (left !== "" && ledger.now < end) {
    yield* Effect.sleep("5 seconds")
    left = leftOf(yield* remains)
  }
  if (left !== "") ledger.violate("nothing is left", `${left}, half an hour after the last call`)
  yield* judge(plan, ledger)
  const millis = ledger.now

  const closing = yield* Effect.forkScoped(
    Effect.forEach(
      machines,
      ({ process }) => (process === undefined ? Effect.void : Scope.close(process.scope, Exit.void)),
      { concurrency: "unbounded", discard: true }
    )
  )
  yield* Effect.sleep("20 seconds")
  if (closing.pollUnsafe() === undefined) ledger.violate("nothing is left", "a node does not shut down within 20 s")
  if (census.fibers !== 0) ledger.violate("nothing is left", `${census.fibers} fibers, after all nodes have shut down`)
  if (census.timers !== 0) ledger.violate("nothing is left", `${census.timers} timers, after all nodes have shut down`)

  const { opened: streams } = yield* network.traffic()
  return {
    plan,
    events: ledger.events,
    violations: ledger.violations,
    pulls: ledger.pulls,
    outcomes,
    streams,
    millis
  }
})

/** What the pulls of a run must be like. */
const judge = (plan: Plan.Plan, ledger: Ledger) =>
  Effect.sync(() => {
    if (plan.hides.length > 0) return
    for (const pull of ledger.pulls) {
      if (pull.besides === 0) continue
      const why = `${pull.rule}, asked by node-${pull.requester}, rank ${pull.rank}`
      const detail = `node-${pull.node} pulls ${ledger.nameOf(pull.digest)} besides ${pull.besides} others (${why})`
      ledger.violate("one live pull per view", detail, pull.node)
    }
    // Names that fail, and views that differ, are each a reason for another pull, one after the other.
    if (plan.views.length > 1 || plan.spoils.length > 0) return
    for (const { digest, name, refs } of plan.blobs) {
      if (refs.length > 1) continue
      const groups = Map.groupBy(
        ledger.pulls.filter((pull) => pull.digest === digest),
        ({ group }) => group
      )
      for (const [group, pulls] of groups) {
        if (pulls.length > 1) ledger.violate("exactly one pull", `${pulls.length} pulls of ${name} for ${group}`)
      }
      if (groups.size === 0) ledger.violate("exactly one pull", `nobody pulled ${name}`)
    }
  })
