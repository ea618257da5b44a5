/**
 * The nodes of a demo run.
 */
import { MembersView } from "@gantry/coord"
import type { Image } from "@gantry/node/ImagePull"
import type { Digest, NodeId } from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { ChildProcessSpawner } from "effect/process"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Ledger from "./Ledger.ts"
import type { Command, Start } from "./NodeMessage.ts"
import * as NodeProcess from "./NodeProcess.ts"

/** How a node fared. */
export interface Outcome {
  readonly nodeId: NodeId
  /** Why it did not bring the image in; undefined if it did. */
  readonly failure: string | undefined
}

/** Nodes that know each other. */
export interface Cluster {
  /** What they have told; complete once they have stopped. */
  readonly ledger: Ledger.Ledger
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
}

export interface Options {
  readonly starts: ReadonlyArray<Start>
  /** A directory in which the processes leave their compiled code to each other. */
  readonly compileCache: string
  /** What the nodes ask each other about to begin with. */
  readonly digest: Digest
  readonly onProgress: Ledger.OnProgress
  /** Takes the lines of the nodes' logs. */
  readonly onLog: (line: string) => Effect.Effect<void>
}

/** How many processes start at once: more would only wait for each other's processor. */
const startsAtOnce = 4

/** How long a process may take to start, and how long all of them to get to know each other. */
const startDeadline = "2 minutes"

/** How long nothing at all may happen before a run is given up. */
const stallLimit = "2 minutes"

/** How long the nodes may take to end. */
const stopDeadline = "20 seconds"

/** Starts the nodes, tells each of all, and has each ask another about a digest. Their scope ends them, all at once. */
export const start = Effect.fn("Cluster.start")(function* (
  options: Options
): Effect.fn.Return<Cluster, NodeProcess.NodeProcessError, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope> {
  const ledger = Ledger.make(
    options.starts.map(({ nodeId }) => nodeId),
    options.onProgress
  )
  const started = yield* spawnAll(options, ledger)
  const nodes = started.map(({ node }) => node)
  const members = started.map(({ member }) => member)
  yield* tellAll(nodes, () => ({ _tag: "Join", members }), "joined")
  // Each its neighbour, all around: a node that cannot be reached shows now, and no first step is taken against the clock.
  const neighbours = new Map(nodes.map(({ nodeId }, index) => [nodeId, nodes.at(index - 1)?.nodeId ?? nodeId]))
  yield* tellAll(
    nodes,
    ({ nodeId }) => ({ _tag: "Greet", nodeId: neighbours.get(nodeId) ?? nodeId, digest: options.digest }),
    "greeted"
  )

  const killed = new Set<NodeId>()
  const view = MembersView.make(members)
  const stop = Effect.forEach(nodes, (node) => node.stop, { concurrency: "unbounded", discard: true })
  return {
    ledger,
    pull: Effect.fn("Cluster.pull")(function* (image) {
      yield* Effect.forEach(nodes, ({ nodeId }) => ledger.enter(nodeId, "pulling"), { discard: true })
      yield* Effect.forEach(nodes, (node) => node.send({ _tag: "Pull", image }), { discard: true })
      const stalled = yield* watch(ledger)
      const conclude = (node: NodeProcess.NodeProcess) =>
        Effect.tap(outcomeOf(node, stalled), ({ failure, nodeId }) =>
          failure === undefined || killed.has(nodeId) ? Effect.void : ledger.enter(nodeId, "failed")
        )
      const outcomes = yield* Effect.forEach(nodes, conclude, { concurrency: "unbounded" })
      return outcomes.filter(({ nodeId }) => !killed.has(nodeId))
    }, Effect.scoped),
    stop: Effect.asVoid(Effect.timeoutOption(stop, stopDeadline)),
    kill: Effect.fnUntraced(function* (nodeId) {
      for (const node of nodes.filter((node) => node.nodeId === nodeId)) {
        killed.add(node.nodeId)
        yield* ledger.enter(node.nodeId, "killed")
        yield* node.kill
      }
    }),
    killed: Effect.sync(() => killed.values().next().value),
    designated: (digest) => view.best(digest, 1)[0] as NodeId
  }
})

/** Starts a few processes at a time, each in a scope that closes beside the others. */
const spawnAll = Effect.fnUntraced(function* ({ compileCache, onLog, starts }: Options, ledger: Ledger.Ledger) {
  const processes = yield* Scope.fork(yield* Effect.scope, "parallel")
  const spawn = Effect.fnUntraced(function* (start: Start) {
    const { nodeId } = start
    const node = yield* NodeProcess.spawn({
      start,
      compileCache,
      onEvent: (event) => ledger.take(nodeId, event),
      onLog: (line) => onLog(`${nodeId}: ${line}`)
    }).pipe(Scope.provide(yield* Scope.fork(processes)))
    return { node, member: yield* inTime(node, node.ready) }
  })
  return yield* Effect.forEach(starts, spawn, { concurrency: startsAtOnce })
})

/** Gives every node a command, and waits until all have obeyed. */
const tellAll = Effect.fnUntraced(function* (
  nodes: ReadonlyArray<NodeProcess.NodeProcess>,
  command: (node: NodeProcess.NodeProcess) => Command,
  milestone: "joined" | "greeted"
) {
  yield* Effect.forEach(nodes, (node) => node.send(command(node)), { discard: true })
  yield* Effect.forEach(nodes, (node) => inTime(node, node[milestone]), { concurrency: "unbounded", discard: true })
})

const inTime = <A>({ nodeId }: NodeProcess.NodeProcess, effect: Effect.Effect<A, NodeProcess.NodeProcessError>) =>
  Effect.timeoutOrElse(effect, {
    duration: startDeadline,
    orElse: () =>
      Effect.fail(new NodeProcess.NodeProcessError({ reason: "Failed", nodeId, detail: "it is not ready in time" }))
  })

/** What it gives fails, with a reason, once nothing has been told for the limit. */
const watch = Effect.fnUntraced(function* (ledger: Ledger.Ledger) {
  const stalled = yield* Deferred.make<never, string>()
  let seen = -1
  yield* Effect.gen(function* () {
    const events = yield* ledger.events
    if (events === seen) yield* Deferred.fail(stalled, `nothing happened for ${stallLimit}`)
    seen = events
  }).pipe(Effect.repeat(Schedule.spaced(stallLimit)), Effect.forkScoped)
  return stalled
})

const outcomeOf = ({ finished, nodeId }: NodeProcess.NodeProcess, stalled: Deferred.Deferred<never, string>) =>
  Effect.raceFirst(
    Effect.mapError(finished, ({ detail }) => detail),
    Deferred.await(stalled)
  ).pipe(
    Effect.match({
      onFailure: (failure): Outcome => ({ nodeId, failure }),
      onSuccess: (): Outcome => ({ nodeId, failure: undefined })
    })
  )
