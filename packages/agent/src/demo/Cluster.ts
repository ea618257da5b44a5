/**
 * The nodes of a demo run, and what they have told.
 */
import { MembersView } from "@gantry/coord"
import type { Digest, NodeId } from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { ChildProcessSpawner } from "effect/process"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { Image } from "../ImagePull.ts"
import type { Event, Start } from "./NodeMessage.ts"
import * as NodeProcess from "./NodeProcess.ts"
import type * as Progress from "./Progress.ts"
import { starting } from "./Progress.ts"
import type { Pull } from "./Report.ts"

/** How a node fared. */
export interface Outcome {
  readonly nodeId: NodeId
  /** Why it did not bring the image in; undefined if it did. */
  readonly failure: string | undefined
}

/** Nodes that know each other. */
export interface Cluster {
  /** Has all of them ask for an image at the same moment; succeeds when each has it or cannot have it. */
  readonly pull: (image: Image) => Effect.Effect<ReadonlyArray<Outcome>>
  /** Has all nodes end themselves. */
  readonly stop: Effect.Effect<void>
  /** Ends a node's process at once. It has no outcome. */
  readonly kill: (nodeId: string) => Effect.Effect<void>
  /** The node that was killed, if one was. */
  readonly killed: Effect.Effect<NodeId | undefined>
  /** The node that ranks best for a digest. */
  readonly designated: (digest: Digest) => NodeId
  /** The pulls from the origin, by the nodes' own records, which are complete once they have stopped. */
  readonly pulls: Effect.Effect<ReadonlyArray<Pull>>
  /** How often each digest went from one node to another. */
  readonly peerTransfers: Effect.Effect<ReadonlyMap<Digest, number>>
}

export interface Options {
  /** What the nodes ask each other about to begin with. */
  readonly digest: Digest
  /** A directory in which the processes leave their compiled code to each other. */
  readonly compileCache: string
  readonly starts: ReadonlyArray<Start>
  /** Sees how far the nodes are, whenever that changes, and which of them changed. */
  readonly onProgress: (
    nodes: ReadonlyArray<Progress.NodeProgress>,
    changed: Progress.NodeProgress
  ) => Effect.Effect<void>
  /** Takes the lines of the nodes' logs. */
  readonly onLog: (line: string) => Effect.Effect<void>
}

/** How many processes start at once: more would only wait for each other's processor. */
const startsAtOnce = 4

/** How long a process may take until it serves, on a machine that does nothing else. */
const startDeadline = "60 seconds"

/** How long nothing at all may happen before a run is given up. */
const stallLimit = "2 minutes"

/** How long the nodes may take to end. */
const stopDeadline = "20 seconds"

/** Starts the nodes, tells each of all, and has each ask another about a digest. Their scope ends them, all at once. */
export const start = Effect.fn("Cluster.start")(function* ({
  compileCache,
  digest,
  onLog,
  onProgress,
  starts
}: Options): Effect.fn.Return<
  Cluster,
  NodeProcess.NodeProcessError,
  ChildProcessSpawner.ChildProcessSpawner | Scope.Scope
> {
  const processes = yield* Scope.fork(yield* Effect.scope, "parallel")
  const progress = new Map(starts.map(({ nodeId }) => [nodeId, starting(nodeId)]))
  const killed = new Set<NodeId>()
  const pulls: Array<Pull> = []
  const transfers = new Map<Digest, number>()
  let events = 0

  const change = (nodeId: NodeId, changes: Partial<Progress.NodeProgress>) =>
    Effect.suspend(() => {
      const changed = { ...(progress.get(nodeId) ?? starting(nodeId)), ...changes }
      progress.set(nodeId, changed)
      return onProgress([...progress.values()], changed)
    })

  const take = (nodeId: NodeId, event: Event): Effect.Effect<void> => {
    events++
    switch (event._tag) {
      case "Ready":
        return change(nodeId, { phase: "ready" })
      case "Joined":
      case "Greeted":
        return Effect.void
      case "Progress": {
        const { _tag, ...figures } = event
        return change(nodeId, figures)
      }
      case "Obtained": {
        if (event.from === "Peer") transfers.set(event.digest, (transfers.get(event.digest) ?? 0) + 1)
        return Effect.void
      }
      case "Pulled": {
        const { bytes, digest, stored } = event
        if (bytes > 0) pulls.push({ account: nodeId, digest, bytes })
        return stored ? change(nodeId, { fromOrigin: (progress.get(nodeId)?.fromOrigin ?? 0) + 1 }) : Effect.void
      }
      case "Finished":
        return change(nodeId, { phase: "done" })
      case "Failed":
        return change(nodeId, { phase: "failed" })
    }
  }

  const spawn = Effect.fnUntraced(function* (start: Start) {
    const { nodeId } = start
    const node = yield* NodeProcess.spawn({
      start,
      compileCache,
      onEvent: (event) => take(nodeId, event),
      onLog: (line) => onLog(`${nodeId}: ${line}`)
    }).pipe(Scope.provide(yield* Scope.fork(processes)))
    const member = yield* Effect.timeoutOrElse(node.ready, {
      duration: startDeadline,
      orElse: () =>
        Effect.fail(
          new NodeProcess.NodeProcessError({
            reason: "Failed",
            nodeId,
            detail: `does not serve after ${startDeadline}`
          })
        )
    })
    return { member, node }
  })

  const started = yield* Effect.forEach(starts, spawn, { concurrency: startsAtOnce })
  const nodes = started.map(({ node }) => node)
  const members = started.map(({ member }) => member)
  const view = MembersView.make(members)
  yield* Effect.forEach(nodes, (node) => node.send({ _tag: "Join", members }), { discard: true })
  yield* Effect.forEach(nodes, (node) => node.joined, { discard: true })
  // Each its neighbour, all around: a node that cannot be reached shows now, and nobody takes its first steps against the clock.
  yield* Effect.forEach(
    nodes,
    (node, index) =>
      node.send({ _tag: "Greet", nodeId: nodes[(index + 1) % nodes.length]?.nodeId ?? node.nodeId, digest }),
    { discard: true }
  )
  yield* Effect.forEach(nodes, (node) => node.greeted, { discard: true })

  const outcomeOf = (node: NodeProcess.NodeProcess, stalled: Effect.Effect<never, string>) =>
    Effect.raceFirst(
      Effect.mapError(node.finished, ({ detail }) => detail),
      stalled
    ).pipe(
      Effect.as<string | undefined>(undefined),
      Effect.catch((detail) =>
        killed.has(node.nodeId) ? Effect.succeed(detail) : Effect.as(change(node.nodeId, { phase: "failed" }), detail)
      ),
      Effect.map((failure): Outcome => ({ nodeId: node.nodeId, failure }))
    )

  /** Fails the deferred once no event has come for the limit. */
  const watch = Effect.fnUntraced(function* (stalled: Deferred.Deferred<never, string>) {
    let seen = -1
    yield* Effect.suspend(() => {
      if (events === seen) return Deferred.fail(stalled, `nothing happened for ${stallLimit}`)
      seen = events
      return Effect.void
    }).pipe(Effect.repeat(Schedule.spaced(stallLimit)))
  })

  const pull = Effect.fn("Cluster.pull")(function* (image: Image) {
    const stalled = yield* Deferred.make<never, string>()
    yield* Effect.forEach(nodes, ({ nodeId }) => change(nodeId, { phase: "pulling" }), { discard: true })
    yield* Effect.forEach(nodes, (node) => node.send({ _tag: "Pull", image }), { discard: true })
    yield* Effect.forkScoped(watch(stalled))
    const outcomes = yield* Effect.forEach(nodes, (node) => outcomeOf(node, Deferred.await(stalled)), {
      concurrency: "unbounded"
    })
    return outcomes.filter(({ nodeId }) => !killed.has(nodeId))
  }, Effect.scoped)

  const stop = Effect.forEach(nodes, (node) => node.stop, { concurrency: "unbounded", discard: true })

  return {
    pull,
    stop: Effect.asVoid(Effect.timeoutOption(stop, stopDeadline)),
    kill: (nodeId) =>
      Effect.forEach(
        nodes.filter((node) => node.nodeId === nodeId),
        (node) => {
          killed.add(node.nodeId)
          return Effect.andThen(change(node.nodeId, { phase: "killed" }), node.kill)
        },
        { discard: true }
      ),
    killed: Effect.sync(() => killed.values().next().value),
    designated: (digest) => view.ranking(digest)[0] as NodeId,
    pulls: Effect.sync(() => [...pulls]),
    peerTransfers: Effect.sync(() => new Map(transfers))
  }
})
