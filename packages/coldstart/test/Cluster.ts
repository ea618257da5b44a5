/**
 * A cluster of real nodes over an in-memory network. Real are the coordination
 * server and client, the claims, the negative cache and the requester; the
 * origin, the bytes and their transfer are simulated.
 */
import * as CoordClient from "@gantry/coord/CoordClient"
import * as CoordConfig from "@gantry/coord/CoordConfig"
import * as CoordServer from "@gantry/coord/CoordServer"
import * as Inflight from "@gantry/coord/Inflight"
import * as Members from "@gantry/coord/Members"
import * as Metrics from "@gantry/coord/Metrics"
import * as NegativeCache from "@gantry/coord/NegativeCache"
import * as PeerResolver from "@gantry/coord/PeerResolver"
import { type PullRequest, Pump, PumpResult } from "@gantry/coord/Pump"
import { Store } from "@gantry/coord/Store"
import { type DuplexStream, StreamTransport } from "@gantry/coord/StreamTransport"
import { NoHolder, Transfer, type TransferAttempt, TransferError, type TransferRequest } from "@gantry/coord/Transfer"
import {
  type Digest,
  decodeMessage,
  type FailureClass,
  Member,
  makeFrameReader,
  type NodeId,
  OriginRef,
  type PeerId,
  Rendezvous,
  Timestamp
} from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as MemoryNetwork from "@gantry/testkit/MemoryNetwork"
import { attemptOf } from "@gantry/testkit/TestTransfer"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as ColdStart from "../src/ColdStart.ts"

export const digest = Fixtures.digestOf("wanted")
export const ref = new OriginRef({ registry: Fixtures.registry, repository: Fixtures.repository, digest })
export const wanted: ColdStart.BlobRequest = { ref, kind: "layer", size: Option.none() }

/** One pull from the origin. */
export interface OriginPull {
  readonly nodeId: NodeId
  readonly rule: PullRequest["reason"]["rule"]
}

export interface ClusterOptions {
  readonly nodes: number
  /** How long the origin takes; 5 seconds. */
  readonly originTime?: Duration.Input
  /** How long one transfer between nodes takes; 500 milliseconds. */
  readonly transferTime?: Duration.Input
  /** How the origin fails. */
  readonly failure?: FailureClass
  /** Ranks for which the origin fails; all of them. */
  readonly failing?: ReadonlyArray<number>
  /** The zones of the ranks; none. */
  readonly zoneOf?: (rank: number) => string
  /** Ranks whose pumps decline everything. */
  readonly declining?: ReadonlyArray<number>
  /** The first reply of each kind from each node to each other one is lost. */
  readonly loseFirstReplies?: boolean
  readonly config?: CoordConfig.Options
}

interface Node {
  readonly nodeId: NodeId
  readonly peerId: PeerId
  readonly scope: Scope.Closeable
  readonly held: Set<Digest>
  readonly inflight: Inflight.Inflight["Service"]
  readonly coldStart: ColdStart.ColdStart["Service"]
  serving: number
  alive: boolean
}

/** Transfers that one node serves at once (parts, peer transfer). */
const maxServing = 10

/** Starts the nodes; the scope of the test ends them. */
export const make = Effect.fnUntraced(function* (options: ClusterOptions) {
  const network = yield* MemoryNetwork.MemoryNetwork
  const order = Rendezvous.rank(
    Fixtures.members(options.nodes).map((member) => member.nodeId),
    digest
  )
  const members = Fixtures.members(options.nodes).map((member) => {
    const zone = options.zoneOf?.(order.indexOf(member.nodeId))
    return new Member({ ...member, zone: Option.fromUndefinedOr(zone) })
  })
  const originTime = options.originTime ?? "5 seconds"
  const transferTime = options.transferTime ?? "500 millis"
  const nodes = new Map<NodeId, Node>()
  const pulls: Array<OriginPull> = []
  const cutOff = new Set<NodeId>()
  let transfers = 0

  /** Loses a reply as a network does: it is sent, and never arrives. */
  const losingFirstReplies = (transport: StreamTransport["Service"], from: PeerId): StreamTransport["Service"] => {
    const lost = new Set<string>()
    const lossy = (stream: DuplexStream): DuplexStream => ({
      remotePeer: stream.remotePeer,
      read: stream.read,
      closeWrite: stream.closeWrite,
      close: stream.close,
      reset: stream.reset,
      write: (bytes) => {
        const body = Option.getOrThrow(Result.getOrThrow(makeFrameReader().push(bytes)))
        const key = `${stream.remotePeer} ${Result.getOrThrow(decodeMessage(body))._tag}`
        if (lost.has(key)) return stream.write(bytes)
        lost.add(key)
        const path = { from, to: stream.remotePeer }
        return Effect.acquireUseRelease(
          network.link(path, { loss: 1 }),
          () => stream.write(bytes),
          () => network.link(path, { loss: 0 })
        )
      }
    })
    return {
      open: transport.open,
      handle: (protocol, handler) => transport.handle(protocol, (stream) => handler(lossy(stream)))
    }
  }

  /** The decision of parts, Pump, in its order; the pull runs until the node dies. */
  const layerPump = (nodeId: NodeId, held: Set<Digest>, scope: Scope.Scope) =>
    Layer.effect(
      Pump,
      Effect.gen(function* () {
        const inflight = yield* Inflight.Inflight
        const negative = yield* NegativeCache.NegativeCache
        const fromOrigin = Effect.fnUntraced(function* ({ kind, reason, ref }: PullRequest) {
          pulls.push({ nodeId, rule: reason.rule })
          yield* Effect.sleep(originTime)
          const isSpared = options.failing?.includes(order.indexOf(nodeId)) === false
          if (options.failure === undefined || isSpared) held.add(ref.digest)
          else yield* negative.recordFailure(ref, kind, options.failure)
        })
        return Pump.of({
          pull: Effect.fnUntraced(function* (request) {
            const { digest } = request.ref
            if (options.declining?.includes(order.indexOf(nodeId))) return PumpResult.Declined()
            if (held.has(digest)) {
              return PumpResult.AlreadyPulling({ startedAt: Timestamp.make(yield* Clock.currentTimeNanos) })
            }
            const failed = yield* negative.lookupRef(request.ref, request.kind)
            if (Option.isSome(failed)) return PumpResult.RecentlyFailed(failed.value)
            const claimed = yield* Scope.fork(scope)
            const { entry, owned } = yield* Scope.provide(inflight.start(digest, request.kind, Option.none()), claimed)
            if (!owned) {
              yield* Scope.close(claimed, Exit.void)
              return PumpResult.AlreadyPulling(entry)
            }
            yield* Effect.forkIn(
              Effect.onExit(fromOrigin(request), (exit) => Scope.close(claimed, exit)),
              scope
            )
            return PumpResult.Started(entry)
          }, Effect.uninterruptible)
        })
      })
    )

  const deliver = Effect.fnUntraced(function* (nodeId: NodeId, request: TransferRequest) {
    const attempts: Array<TransferAttempt> = []
    for (const { nodeId: holder } of request.holders) {
      const node = nodes.get(holder) as Node
      const isApart = cutOff.has(nodeId) !== cutOff.has(holder)
      const problem = !node.alive || isApart ? "Unreachable" : node.serving >= maxServing ? "Busy" : undefined
      if (problem !== undefined || !node.held.has(request.digest)) {
        attempts.push(attemptOf(problem ?? "Absent", holder))
        continue
      }
      node.serving++
      yield* Effect.ensuring(
        Effect.sleep(transferTime),
        Effect.sync(() => node.serving--)
      )
      if (!node.alive) {
        attempts.push(attemptOf("Stalled", holder))
        continue
      }
      nodes.get(nodeId)?.held.add(request.digest)
      transfers++
      return { bytes: 1, holder }
    }
    return yield* new TransferError({ digest: request.digest, reason: new NoHolder({ attempts }) })
  })

  const start = Effect.fnUntraced(function* ({ nodeId, peerId: published }: Member) {
    const peerId = Option.getOrThrow(published)
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const held = new Set<Digest>()
    const joined = yield* Scope.provide(network.join(peerId), scope)
    const transport = options.loseFirstReplies ? losingFirstReplies(joined, peerId) : joined
    const context = yield* ColdStart.layer().pipe(
      Layer.provide([
        CoordClient.layer.pipe(Layer.provide(PeerResolver.layerMembers)),
        CoordServer.layer.pipe(Layer.provide(layerPump(nodeId, held, scope))),
        Layer.succeed(Transfer, { fetch: (request) => deliver(nodeId, request) })
      ]),
      Layer.provideMerge(Inflight.layer),
      Layer.provide(Layer.orDie(NegativeCache.layer())),
      Layer.provide([
        Layer.succeed(StreamTransport, transport),
        Layer.succeed(Store, { has: (digest) => Effect.sync(() => held.has(digest)) }),
        Layer.orDie(CoordConfig.layer(options.config)),
        Members.layerStatic(nodeId, members),
        Metrics.layerNoop
      ]),
      Layer.fresh,
      Layer.build,
      Scope.provide(scope)
    )
    nodes.set(nodeId, {
      nodeId,
      peerId,
      scope,
      held,
      inflight: Context.get(context, Inflight.Inflight),
      coldStart: Context.get(context, ColdStart.ColdStart),
      serving: 0,
      alive: true
    })
  })
  yield* Effect.forEach(members, start, { discard: true })

  const ranked = order.map((nodeId) => nodes.get(nodeId) as Node)
  return {
    /** The nodes, best rank first. */
    ranked,
    obtain: (node: Node, options?: ColdStart.ObtainOptions) => node.coldStart.obtain(wanted, options),
    /** The pulls from the origin so far. */
    pulls,
    transfers: () => transfers,
    /** Ends a node as a power cut does. */
    kill: Effect.fnUntraced(function* (node: Node) {
      node.alive = false
      yield* Effect.asVoid(network.crash(node.peerId))
      yield* Effect.forkDetach(Scope.close(node.scope, Exit.void))
    }),
    /** Leaves a node half-dead: it can be reached, and nothing comes of it. */
    freeze: Effect.fnUntraced(function* (node: Node) {
      node.alive = false
      yield* Effect.asVoid(network.freeze(node.peerId))
    }),
    /** Parts a node from all others. */
    cutOff: Effect.fnUntraced(function* (node: Node) {
      cutOff.add(node.nodeId)
      yield* Effect.asVoid(network.partition([node.peerId]))
    }),
    /** Streams between nodes that ever came about. */
    opened: Effect.map(network.traffic(), ({ opened }) => opened),
    /** Claims and streams that are left, and who has the bytes. */
    remains: Effect.gen(function* () {
      const claims = yield* Effect.forEach(ranked, (node) => node.inflight.size)
      const { open } = yield* network.traffic()
      const serving = ranked.reduce((sum, node) => sum + node.serving, 0)
      return { claims: claims.reduce((sum, size) => sum + size, 0), streams: open, serving }
    }),
    whole: () => ranked.filter((node) => node.alive && node.held.has(digest)).length
  }
})
