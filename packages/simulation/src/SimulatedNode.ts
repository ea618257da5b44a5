/**
 * One node of a simulation: the real server, client, requester, claims,
 * negative cache, pump and transfers, over a simulated network, disk and origin.
 */
import * as ColdStart from "@gantry/coldstart/ColdStart"
import * as CoordClient from "@gantry/coord/CoordClient"
import * as CoordServer from "@gantry/coord/CoordServer"
import * as Inflight from "@gantry/coord/Inflight"
import * as Members from "@gantry/coord/Members"
import type { MembersView } from "@gantry/coord/MembersView"
import * as Metrics from "@gantry/coord/Metrics"
import * as NegativeCache from "@gantry/coord/NegativeCache"
import * as PeerResolver from "@gantry/coord/PeerResolver"
import { type PullRequest, Pump, PumpResult } from "@gantry/coord/Pump"
import { StreamTransport } from "@gantry/coord/StreamTransport"
import * as OriginPump from "@gantry/oci/OriginPump"
import * as PeerTransfer from "@gantry/oci/PeerTransfer"
import type { NodeId, PeerId, Verdict } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Ledger, Pull } from "./Ledger.ts"
import * as Links from "./Links.ts"
import type { PlannedBlob, PlannedNode } from "./Plan.ts"
import * as SimulatedDisk from "./SimulatedDisk.ts"
import type { SimulatedOrigin } from "./SimulatedOrigin.ts"
import * as SimulatedPeers from "./SimulatedPeers.ts"

/** What of a node outlives its processes, and what is wrong with it. */
export interface Machine {
  readonly index: number
  readonly nodeId: NodeId
  readonly peerId: PeerId
  readonly planned: PlannedNode
  readonly disk: SimulatedDisk.SimulatedDisk
  readonly endpoint: SimulatedPeers.Endpoint
  readonly clock: Clock.Clock
  /** How far its wall clock is off. */
  offsetMillis: number
  /** Its pump declines everything. */
  isFull: boolean
  /** The membership as it sees it. */
  view: MembersView
  /** The process that runs; none while it is down. */
  process: Process | undefined
}

/** A node from its start to its end. */
export interface Process {
  readonly scope: Scope.Closeable
  readonly coldStart: ColdStart.ColdStart["Service"]
  readonly inflight: Inflight.Inflight["Service"]
  /** False from a crash on: nothing that it still does has an effect. */
  isAlive: boolean
}

/** What the nodes of a simulation share. */
export interface World {
  readonly machines: ReadonlyArray<Machine>
  readonly indexOf: ReadonlyMap<PeerId, number>
  readonly origin: SimulatedOrigin
  readonly blobs: ReadonlyArray<PlannedBlob>
  readonly ledger: Ledger
  readonly links: Links.Links
  readonly deadlineMillis: number
  /** The candidates that a node would choose from, as a name for all nodes with the same ones. */
  readonly groupOf: (machine: Machine) => string
  /** The rank of a node among the candidates of another one. */
  readonly rankFor: (machine: Machine, puller: Machine, digest: PlannedBlob["digest"]) => number
  /** Fibers and timers that nodes have. */
  readonly census: { fibers: number; timers: number }
}

/** The request that a claim is made for. */
const Requested = Context.Reference<PullRequest | undefined>("@gantry/simulation/Requested", {
  defaultValue: () => undefined
})

/** What a right clock shows when a simulation begins: an hour either way is still far from 1970. */
const beginning = 1_800_000_000_000

/** A clock that is off, and counts who waits for it. */
export const clockOf = (clock: Clock.Clock, offsetMillis: () => number, census: World["census"]): Clock.Clock => {
  const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + beginning + offsetMillis()
  const currentTimeNanosUnsafe = () => clock.currentTimeNanosUnsafe() + BigInt(beginning + offsetMillis()) * 1_000_000n
  return {
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe,
    currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) =>
      Effect.acquireUseRelease(
        Effect.sync(() => census.timers++),
        () => clock.sleep(duration),
        () => Effect.sync(() => census.timers--)
      )
  }
}

/** Everything that runs on a machine runs like this. */
export const on = (world: World, machine: Machine) => {
  const logger = Logger.make(({ message }) => world.ledger.note(machine.index, "log", [message].flat().join(" ")))
  const fibers: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: () => void world.census.fibers++,
    recordFiberEnd: (_context, _exit: Exit.Exit<unknown, unknown>) => void world.census.fibers--
  }
  return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    effect.pipe(
      Effect.provideService(Clock.Clock, machine.clock),
      Effect.provideService(Logger.CurrentLoggers, new Set([logger])),
      Effect.provideService(References.MinimumLogLevel, "Warn"),
      Effect.provideService(References.TracerEnabled, false),
      Effect.provideService(Metric.FiberRuntimeMetrics, fibers)
    )
}

const verdictText = (verdict: Verdict | undefined): string => {
  if (verdict === undefined) return "nothing"
  return verdict._tag === "RecentlyFailed" ? `${verdict._tag} (${verdict.failureClass})` : verdict._tag
}

/** Tells the ledger what a node asks and hears. */
const observedClient = (world: World, { index }: Machine) =>
  Layer.effect(
    CoordClient.CoordClient,
    Effect.map(CoordClient.CoordClient, (client) => {
      const { ledger, machines } = world
      const nodes = new Map(machines.map((machine) => [machine.nodeId, machine.index]))
      const peerOf = (target: NodeId) => nodes.get(target)
      return CoordClient.CoordClient.of({
        resolvePeerId: client.resolvePeerId,
        pullIntentQuery: (target, digest) =>
          client.pullIntentQuery(target, digest).pipe(
            Effect.tap(({ hasCached, hrwRank, inFlight }) =>
              Effect.sync(() => {
                const state = hasCached ? "has it" : inFlight ? "is pulling it" : "does not have it"
                ledger.note(
                  index,
                  "reply",
                  `${target} ${state} (rank ${hrwRank}): ${ledger.nameOf(digest)}`,
                  peerOf(target)
                )
              })
            ),
            Effect.tapError((error) => Effect.sync(() => ledger.note(index, "reply", error.message, peerOf(target))))
          ),
        pleasePull: (target, request) =>
          Effect.suspend(() => {
            const names = request.digests.map((digest) => ledger.nameOf(digest)).join(", ")
            ledger.note(index, "message", `asks ${target} to pull ${request.repository}/${names}`, peerOf(target))
            return client.pleasePull(target, request).pipe(
              Effect.tap(([outcome]) =>
                Effect.sync(() =>
                  ledger.note(index, "reply", `${target}: ${verdictText(outcome?.verdict)}`, peerOf(target))
                )
              ),
              Effect.tapError((error) => Effect.sync(() => ledger.note(index, "reply", error.message, peerOf(target))))
            )
          })
      })
    })
  )

/** Tells the ledger which claims there are, and for whom. */
const observedInflight = (world: World, machine: Machine, isAlive: () => boolean) =>
  Layer.effect(
    Inflight.Inflight,
    Effect.map(Inflight.Inflight, (inflight) => ({
      ...inflight,
      start: Effect.fnUntraced(function* (digest, kind, size) {
        const claim = yield* inflight.start(digest, kind, size)
        const request = yield* Requested
        if (!claim.owned || request === undefined || !isAlive()) return claim
        const { reason, ref } = request
        const asking = reason.rule === "please_pull" ? world.indexOf.get(reason.requester as PeerId) : machine.index
        const requester = world.machines[asking ?? machine.index] as Machine
        yield* Effect.acquireRelease(
          Effect.sync(() =>
            world.ledger.began({
              node: machine.index,
              digest,
              ref,
              rule: reason.rule,
              requester: requester.index,
              rank: world.rankFor(requester, machine, digest),
              group: world.groupOf(requester)
            })
          ),
          (pull: Pull) => Effect.sync(() => world.ledger.ended(pull))
        )
        return claim
      })
    }))
  )

const observedPump = (machine: Machine) =>
  Layer.effect(
    Pump,
    Effect.map(Pump, (pump) =>
      Pump.of({
        pull: (request) =>
          Effect.suspend(() =>
            machine.isFull
              ? Effect.succeed(PumpResult.Declined())
              : Effect.provideService(pump.pull(request), Requested, request)
          )
      })
    )
  )

/** Starts a process on a machine. The network knows it until its scope has closed. */
export const start = Effect.fnUntraced(function* (world: World, machine: Machine) {
  const scope = yield* Scope.make()
  const joined = yield* Scope.provide(world.links.network.join(machine.peerId), scope)
  const process: { isAlive: boolean } = { isAlive: true }
  const isAlive = () => process.isAlive
  const transport = Links.wrap(world.links, joined, machine)
  const { ledger } = world

  yield* SimulatedPeers.serve({
    node: machine.index,
    nodeOf: (peerId) => world.indexOf.get(peerId) ?? -1,
    transport,
    disk: machine.disk,
    endpoint: machine.endpoint,
    blobs: world.blobs,
    ledger
  }).pipe(Scope.provide(scope))

  const layer = ColdStart.layer({ deadline: world.deadlineMillis }).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        observedClient(world, machine).pipe(Layer.provide(CoordClient.layer), Layer.provide(PeerResolver.layerMembers)),
        CoordServer.layer.pipe(
          Layer.provide(observedPump(machine)),
          Layer.provide(OriginPump.layer({ maxConcurrentPulls: machine.planned.ceiling })),
          Layer.provide(world.origin.layer(machine.index, isAlive))
        ),
        PeerTransfer.layerNoHttpClient().pipe(
          Layer.provide(
            SimulatedPeers.layerClient(transport, (host) => {
              const index = Number(host.slice(host.lastIndexOf("-") + 1))
              return (world.machines[index] as Machine).peerId
            })
          )
        )
      )
    ),
    Layer.provideMerge(observedInflight(world, machine, isAlive).pipe(Layer.provide(Inflight.layer))),
    Layer.provide(NegativeCache.layer()),
    Layer.provide([
      Layer.succeed(StreamTransport, transport),
      SimulatedDisk.layer(machine.disk, isAlive, (digest, bytes) => ledger.stored(machine.index, digest, bytes)),
      Layer.succeed(Members.Members, {
        self: machine.nodeId,
        view: Effect.sync(() => machine.view),
        changes: Stream.never
      }),
      Metrics.layerNoop
    ]),
    Layer.orDie,
    Layer.fresh
  )
  const context = yield* Scope.provide(Layer.build(layer), scope)
  machine.process = Object.assign(process, {
    scope,
    coldStart: Context.get(context, ColdStart.ColdStart),
    inflight: Context.get(context, Inflight.Inflight)
  })
})
