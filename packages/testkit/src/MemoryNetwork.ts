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
  /** How long everything takes one way; zero. Opening a stream takes it there and back. */
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
  /** What becomes of new streams across: they wait (`stalled`, the default) or fail at once (`refused`). */
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
     * Parts two groups, or a group from everyone else: new streams across wait or
     * fail, running ones stall.
     */
    readonly partition: (
      group: Iterable<PeerId>,
      other?: Iterable<PeerId>,
      options?: PartitionOptions
    ) => Effect.Effect<Fault>
    /** Makes a peer half-dead: streams to it open, then nothing comes in there and nothing gets out. */
    readonly freeze: (peerId: PeerId) => Effect.Effect<Fault>
    /** Resets all streams of a peer and makes it unreachable, until it restarts with the handlers it has, thawed. */
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
}

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
        else run(end.reset)
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
    const pair = MemoryStream.pair(
      { peerId: dialer.peerId, surroundings: surroundingsOf(dialer, dialed) },
      { peerId: dialed.peerId, surroundings: surroundingsOf(dialed, dialer) }
    )
    dialer.ends.add(pair[0])
    dialed.ends.add(pair[1])
    counted.open++
    counted.opened++
    return pair
  }

  /** One way of an open; fails where the network refuses it. */
  const travel = Effect.fnUntraced(function* (from: PeerId, to: PeerId, isStuck: () => boolean) {
    const delay = yield* travelTime(faults.link(from, to))
    if (delay > 0) {
      const arrived = Deferred.makeUnsafe<void>()
      const instant = delay + (yield* Clock.currentTimeMillis)
      yield* calendar(instant, () => Deferred.doneUnsafe(arrived, Effect.yieldNow))
      yield* Deferred.await(arrived)
    }
    yield* faults.awaitWay(from, to, isStuck)
  })

  const open =
    (node: Node): StreamTransport["Service"]["open"] =>
    ({ peerId }, protocol, first = new Uint8Array()) =>
      Effect.uninterruptibleMask(
        Effect.fnUntraced(function* (restore) {
          const fail = (reason: OpenError["reason"], why: string) =>
            new OpenError({ reason, peerId, cause: new Error(why) })
          const unreachable = (why: string) => fail("Unreachable", why)
          const go = (from: PeerId, to: PeerId, isStuck: () => boolean) =>
            restore(Effect.mapError(travel(from, to, isStuck), () => unreachable("the network refuses the connection")))
          const back = go(peerId, node.peerId, () => false)

          if (peerId === node.peerId) return yield* unreachable("a peer does not dial itself")
          yield* go(node.peerId, peerId, () => faults.frozen.has(node.peerId))
          if (nodes.get(node.peerId) !== node || faults.down.has(node.peerId)) {
            return yield* unreachable("this node is down")
          }
          const remote = nodes.get(peerId)
          if (remote === undefined || faults.down.has(peerId)) {
            yield* back
            return yield* unreachable("nobody is there")
          }
          if (!faults.frozen.has(peerId) && !remote.handlers.has(protocol)) {
            yield* back
            return yield* fail("UnsupportedProtocol", protocol)
          }
          const [near, far] = pair(node, remote, protocol)
          yield* Effect.addFinalizer((exit) => (Exit.isSuccess(exit) ? near.close : near.reset))
          far.arrive()
          yield* Effect.onError(back, () => near.reset)
          if (near.isFinished) {
            const isLost = nodes.get(node.peerId) !== node || faults.down.has(node.peerId) || faults.down.has(peerId)
            return yield* isLost ? unreachable("the connection was lost") : fail("Reset", "before it was open")
          }
          if (first.length > 0) {
            yield* Effect.mapError(restore(near.write(first)), () => fail("Reset", "before its first bytes were taken"))
          }
          return near
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

  const resetAll = (node: Node) => Effect.forEach([...node.ends], (end) => end.reset, { discard: true })

  const join = Effect.fnUntraced(function* (peerId: PeerId) {
    if (nodes.has(peerId)) return yield* Effect.die(new Error(`${peerId} is on the network already`))
    const node: Node = { peerId, handlers: new Map(), ends: new Set() }
    yield* Effect.acquireRelease(
      Effect.sync(() => nodes.set(peerId, node)),
      () =>
        Effect.suspend(() => {
          nodes.delete(peerId)
          return resetAll(node)
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
    crash: Effect.fnUntraced(function* (peerId) {
      faults.down.add(peerId)
      const node = nodes.get(peerId)
      if (node !== undefined) yield* resetAll(node)
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
