/**
 * A network within one process, on Effect's clock, with faults to order.
 */
import { type DuplexStream, OpenError, StreamTransport } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { makeCalendar } from "./internal/calendar.ts"
import { Faults } from "./internal/faults.ts"
import { type Link, MemoryStream, type Surroundings, travelTime } from "./internal/MemoryStream.ts"

/** Bytes that an end may send before the other end reads them; from then on writes wait. */
export { windowBytes } from "./internal/MemoryStream.ts"

/** The way from one peer to another; where one end is left out, it stands for every peer. */
export interface Path {
  readonly from?: PeerId | undefined
  readonly to?: PeerId | undefined
}

/** What a path does to streams. What is left out stays as a more general path has it. */
export interface LinkOptions {
  /** How long everything takes one way; zero. A connection takes it there and back. */
  readonly latency?: Duration.Input | undefined
  /** At most this much more, drawn at random each time; zero. The order is kept. */
  readonly jitter?: Duration.Input | undefined
  /** The chance, from 0 to 1, of each write and end to be lost, and all that follows it; zero. */
  readonly loss?: number | undefined
  /** So many bytes of each stream are never lost; zero. */
  readonly lossAfter?: number | undefined
  /** The most bytes in one chunk that a reader gets; unlimited. */
  readonly chunkBytes?: number | undefined
}

/** How a partition is cut. */
export interface PartitionOptions {
  /**
   * What becomes of new connections across: they wait (`stalled`, the default) or
   * fail at once (`refused`). A connection that stands takes streams that stall,
   * or has ended.
   */
  readonly opens?: "stalled" | "refused" | undefined
  /** Cuts only what the first group sends to the second. */
  readonly oneWay?: boolean | undefined
}

/** Something that is wrong with the network. */
export interface Fault {
  /** Ends it; what it held back goes on. */
  readonly heal: Effect.Effect<void>
}

/** What went through the network. */
export interface Traffic {
  /** Streams that at least one side has not ended. */
  readonly open: number
  /** Streams that ever came about. */
  readonly opened: number
  /** Bytes written, both ways. */
  readonly bytes: number
}

/**
 * Any number of peers in one process, each with a {@link StreamTransport}.
 * Delays go by Effect's clock and chance by Effect's random, so that a run
 * under a test clock with a seed always takes the same course. Addresses play
 * no part: whoever has joined can be reached. Faults come and go at
 * run time.
 *
 * As over libp2p, two peers share one connection, which ends when it is not
 * used for half a minute. A stream opens as soon as there is one, and its first
 * bytes travel with it: whether the peer speaks the protocol, or lives, shows
 * when it is read.
 */
export class MemoryNetwork extends Context.Service<
  MemoryNetwork,
  {
    /**
     * Puts a peer on the network until the scope closes, which resets all its
     * streams. Joining under an id that is taken is a defect.
     */
    readonly join: (peerId: PeerId) => Effect.Effect<StreamTransport["Service"], never, Scope.Scope>
    /** Sets what a path does, instead of what was set for the same path before. The most specific path counts. */
    readonly link: (path: Path, options: LinkOptions) => Effect.Effect<void>
    /**
     * Parts two groups, or a group from everyone else: new connections across wait
     * or fail, streams stall.
     */
    readonly partition: (
      group: Iterable<PeerId>,
      other?: Iterable<PeerId>,
      options?: PartitionOptions
    ) => Effect.Effect<Fault>
    /** Makes a peer half-dead: connections to it succeed, then nothing comes in there and nothing gets out. */
    readonly freeze: (peerId: PeerId) => Effect.Effect<Fault>
    /** Ends all connections of a peer, and with them its streams. */
    readonly sever: (peerId: PeerId) => Effect.Effect<void>
    /** Ends all connections of a peer and makes it unreachable, until it restarts with the handlers it has, thawed. */
    readonly crash: (peerId: PeerId) => Effect.Effect<Fault>
    /** What went through, of one protocol or of all. */
    readonly traffic: (protocol?: string) => Effect.Effect<Traffic>
  }
>()("@gantry/testkit/MemoryNetwork") {}

type Handler = (stream: DuplexStream) => void

interface Node {
  readonly peerId: PeerId
  readonly handlers: Map<string, Handler>
  readonly ends: Set<MemoryStream>
  /** When the connection to another peer was used last, in milliseconds. */
  readonly connections: Map<PeerId, number>
  /** How often all its connections have ended, also those that were being made. */
  cuts: number
}

/** A connection that was not used for this long, in milliseconds, has ended. */
const idleMillis = 30_000

const linkOf = ({ chunkBytes, jitter, latency, loss, lossAfter }: LinkOptions): Partial<Link> => ({
  ...(latency !== undefined && { latency: Duration.toMillis(latency) }),
  ...(jitter !== undefined && { jitter: Duration.toMillis(jitter) }),
  ...(loss !== undefined && { loss }),
  ...(lossAfter !== undefined && { lossAfter }),
  ...(chunkBytes !== undefined && { chunkBytes: Math.max(1, chunkBytes) })
})

const make: Effect.Effect<MemoryNetwork["Service"], never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const calendar = makeCalendar(scope)
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const faults = new Faults()
  const nodes = new Map<PeerId, Node>()
  const traffic = new Map<string, { open: number; opened: number; bytes: number }>()

  const trafficOf = (protocol: string) => {
    const known = traffic.get(protocol)
    if (known !== undefined) return known
    const fresh = { open: 0, opened: 0, bytes: 0 }
    traffic.set(protocol, fresh)
    return fresh
  }

  const pair = (dialer: Node, dialed: Node, protocol: string) => {
    const counted = trafficOf(protocol)
    let ends = 2
    const surroundingsOf = (local: Node, remote: Node): Surroundings => ({
      scope,
      calendar,
      link: () => faults.link(local.peerId, remote.peerId),
      isOpen(end) {
        const isOpen = faults.lets(remote.peerId, local.peerId)
        if (!isOpen) faults.held.add(end)
        return isOpen
      },
      accept(end) {
        const handler = local.handlers.get(protocol)
        if (handler !== undefined) handler(end)
        else run(end.refuse)
      },
      wrote(bytes) {
        counted.bytes += bytes
      },
      finished(end) {
        local.ends.delete(end)
        faults.held.delete(end)
        if (--ends === 0) counted.open--
      }
    })
    const [near, far] = MemoryStream.pair(
      { peerId: dialer.peerId, surroundings: surroundingsOf(dialer, dialed) },
      { peerId: dialed.peerId, surroundings: surroundingsOf(dialed, dialer) }
    )
    dialer.ends.add(near)
    dialed.ends.add(far)
    counted.open++
    counted.opened++
    return near
  }

  /** One way of a connection that is being made; fails where the network refuses it. */
  const travel = Effect.fnUntraced(function* (from: PeerId, to: PeerId) {
    const delay = yield* travelTime(faults.link(from, to))
    if (delay > 0) {
      const arrived = Deferred.makeUnsafe<void>()
      const instant = delay + (yield* Clock.currentTimeMillis)
      yield* calendar(instant, () => Deferred.doneUnsafe(arrived, Effect.yieldNow))
      yield* Deferred.await(arrived)
    }
    yield* faults.awaitWay(from, to)
  })

  const isUp = (node: Node) => nodes.get(node.peerId) === node && !faults.down.has(node.peerId)

  /** The node of a peer to which there is a connection. */
  const connected = (node: Node, peerId: PeerId, now: number): Node | undefined => {
    const remote = nodes.get(peerId)
    const isIdle = now - (node.connections.get(peerId) ?? Number.NEGATIVE_INFINITY) >= idleMillis
    const isCut = [faults.partitionOf(node.peerId, peerId), faults.partitionOf(peerId, node.peerId)].includes("refused")
    return isIdle || isCut ? undefined : remote
  }

  const disconnect = (node: Node) => {
    for (const peerId of node.connections.keys()) nodes.get(peerId)?.connections.delete(node.peerId)
    node.connections.clear()
    node.cuts++
    for (const end of [...node.ends]) end.cut()
  }

  const open =
    (node: Node): StreamTransport["Service"]["open"] =>
    ({ peerId }, protocol, first = new Uint8Array()) =>
      Effect.uninterruptibleMask(
        Effect.fnUntraced(function* (restore) {
          const unreachable = (why: string) => new OpenError({ reason: "Unreachable", peerId, cause: new Error(why) })
          const go = (from: PeerId, to: PeerId) =>
            restore(Effect.mapError(travel(from, to), () => unreachable("the network refuses the connection")))

          const connect = Effect.fnUntraced(function* () {
            const cuts = node.cuts
            yield* go(node.peerId, peerId)
            const remote = nodes.get(peerId)
            const remoteCuts = remote !== undefined && isUp(remote) ? remote.cuts : undefined
            yield* go(peerId, node.peerId)
            if (node.cuts !== cuts) return yield* unreachable("this node was down")
            if (remote === undefined || remoteCuts === undefined) return yield* unreachable("nobody is there")
            return remote.cuts === remoteCuts ? remote : yield* unreachable("the connection was lost")
          })

          if (peerId === node.peerId) return yield* unreachable("a peer does not dial itself")
          yield* restore(faults.awaitThaw(node.peerId))
          if (!isUp(node)) return yield* unreachable("this node is down")
          const remote = connected(node, peerId, yield* Clock.currentTimeMillis) ?? (yield* connect())
          const now = yield* Clock.currentTimeMillis
          node.connections.set(peerId, now)
          remote.connections.set(node.peerId, now)
          const stream = pair(node, remote, protocol)
          yield* Effect.addFinalizer((exit) => (Exit.isSuccess(exit) ? stream.close : stream.reset))
          yield* stream.open(first)
          return stream
        })
      )

  const handle = (node: Node): StreamTransport["Service"]["handle"] =>
    Effect.fnUntraced(function* (protocol, handler) {
      if (node.handlers.has(protocol)) return yield* Effect.die(new Error(`${protocol} is handled already`))
      const run = Effect.runForkWith(yield* Effect.context<never>())
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          node.handlers.set(protocol, (stream) => {
            const served = Effect.andThen(Effect.yieldNow, handler(stream))
            const guarded = Effect.catchCause(served, (cause) =>
              Effect.andThen(stream.reset, Effect.logError("a stream handler failed", Cause.squash(cause)))
            )
            Fiber.runIn(run(guarded), scope)
          })
        ),
        () => Effect.sync(() => node.handlers.delete(protocol))
      )
    })

  const join = Effect.fnUntraced(function* (peerId: PeerId) {
    if (nodes.has(peerId)) return yield* Effect.die(new Error(`${peerId} is on the network already`))
    const node: Node = { peerId, handlers: new Map(), ends: new Set(), connections: new Map(), cuts: 0 }
    yield* Effect.acquireRelease(
      Effect.sync(() => nodes.set(peerId, node)),
      () =>
        Effect.sync(() => {
          nodes.delete(peerId)
          disconnect(node)
        })
    )
    return StreamTransport.of({ handle: handle(node), open: open(node) })
  })

  return MemoryNetwork.of({
    join,
    link: ({ from, to }, options) => Effect.sync(() => faults.setLink(from, to, linkOf(options))),
    partition: (group, other, { oneWay = false, opens = "stalled" } = {}) =>
      Effect.sync(() => {
        const inside = new Set(group)
        const outside = other === undefined ? undefined : new Set(other)
        const across = (from: PeerId, to: PeerId) =>
          inside.has(from) && (outside === undefined ? !inside.has(to) : outside.has(to))
        const cuts = (from: PeerId, to: PeerId) => across(from, to) || (!oneWay && across(to, from))
        return { heal: faults.addPartition({ cuts, opens }) }
      }),
    freeze: (peerId) =>
      Effect.sync(() => {
        faults.frozen.add(peerId)
        return { heal: faults.heal(() => faults.frozen.delete(peerId)) }
      }),
    sever: (peerId) =>
      Effect.sync(() => {
        const node = nodes.get(peerId)
        if (node !== undefined) disconnect(node)
      }),
    crash: Effect.fnUntraced(function* (peerId) {
      faults.down.add(peerId)
      const node = nodes.get(peerId)
      if (node !== undefined) disconnect(node)
      yield* faults.heal(() => faults.frozen.delete(peerId))
      return { heal: faults.heal(() => faults.down.delete(peerId)) }
    }),
    traffic: (protocol) =>
      Effect.sync(() => {
        const counted = protocol === undefined ? [...traffic.values()] : [trafficOf(protocol)]
        return counted.reduce(
          (sum, { bytes, open, opened }) => ({
            open: sum.open + open,
            opened: sum.opened + opened,
            bytes: sum.bytes + bytes
          }),
          { open: 0, opened: 0, bytes: 0 }
        )
      })
  })
})

/** A network without faults and without peers. */
export const layer: Layer.Layer<MemoryNetwork> = Layer.effect(MemoryNetwork, make)

/** One peer's transport on the network. */
export const layerTransport = (peerId: PeerId): Layer.Layer<StreamTransport, never, MemoryNetwork> =>
  Layer.effect(
    StreamTransport,
    Effect.flatMap(MemoryNetwork, (network) => network.join(peerId))
  )
