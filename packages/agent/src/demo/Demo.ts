/**
 * The demonstration: a cluster of processes on this machine takes an image from
 * a registry, and a report says how often it left there.
 */
import { availableParallelism } from "node:os"
import type { Image } from "@gantry/node/ImagePull"
import { type Digest, NodeId } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Cluster from "./Cluster.ts"
import type { LayerSource } from "./ImagePacker.ts"
import type { Start } from "./NodeMessage.ts"
import * as Origin from "./Origin.ts"
import * as Progress from "./Progress.ts"
import * as Report from "./Report.ts"
import { Screen } from "./Screen.ts"
import * as Verification from "./Verification.ts"
import * as Workspace from "./Workspace.ts"

/** Where the image comes from. */
export type Source = Data.TaggedEnum<{
  /** Packed on the spot, and served by a registry of the demo's own. */
  Embedded: {
    readonly layers: ReadonlyArray<LayerSource>
    /** Kill the node that pulls the largest layer when it has half of it. */
    readonly killPuller: boolean
  }
  /** A registry that is there. */
  External: { readonly image: Origin.ExternalImage }
}>
export const Source = Data.taggedEnum<Source>()

export interface Options {
  /** How many, from 2. */
  readonly nodes: number
  readonly source: Source
  /** Where to leave the nodes' image layouts: a directory that is empty or does not exist. */
  readonly keep: Option.Option<string>
}

/** Runs the demonstration. What goes wrong among the nodes is in the report; what keeps it from running is an error. */
export const run = Effect.fn("Demo.run")(function* (options: Options) {
  const workspace = yield* Workspace.make(options.keep)
  const nodeIds = Array.from({ length: options.nodes }, (_, index) => NodeId.make(`node-${index + 1}`))
  const origin = yield* Source.$match(options.source, {
    Embedded: ({ layers }) => Origin.embedded(layers, nodeIds, workspace),
    External: ({ image }) => Origin.external(image)
  })
  if (Option.isSome(origin.blobs)) yield* workspace.ensureSpace(options.nodes * Report.totalSize(origin.blobs.value))

  const course = yield* Effect.scoped(rollOut(options, origin, nodeIds, workspace))
  const nodes = yield* examine(course.outcomes, origin.image, workspace)
  if (Option.isSome(options.keep)) yield* warnOfDocker(nodes)
  const blobs = Option.getOrElse(origin.blobs, () => named(nodes))
  return Report.make({ ...course, blobs, nodes })
}, Effect.scoped)

/** So many nodes more on a processor make each as slow again as the first of them was. */
const nodesPerSlowdown = 4

/** From the start of the nodes to the moment when the last of them is through. */
const rollOut = Effect.fnUntraced(function* (
  { source }: Options,
  origin: Origin.Origin,
  nodeIds: ReadonlyArray<NodeId>,
  workspace: Workspace.Workspace
) {
  const screen = yield* Screen
  yield* screen.print(`starting ${nodeIds.length} nodes, a process each`)
  const display = yield* makeDisplay(nodeIds)
  const cluster = yield* Cluster.start({
    compileCache: workspace.compileCache,
    digest: origin.image.root,
    starts: nodeIds.map(
      (nodeId): Start => ({
        _tag: "Start",
        nodeId,
        directory: workspace.layoutOf(nodeId),
        identityFile: workspace.secretOf(nodeId, "key"),
        dockerConfig: Option.getOrNull(origin.dockerConfigOf(nodeId)),
        upstreams: origin.upstreams,
        slowness: 1 + nodeIds.length / availableParallelism() / nodesPerSlowdown
      })
    ),
    onProgress: display.show,
    onLog: screen.print
  })
  if (source._tag === "Embedded" && source.killPuller) yield* killPuller(origin, cluster)

  yield* screen.print("all nodes know each other; all ask for the image now")
  const askedAt = yield* Clock.currentTimeMillis
  yield* display.begin
  const outcomes = yield* cluster.pull(origin.image)
  const secondsToLastNode = ((yield* Clock.currentTimeMillis) - askedAt) / 1000
  yield* display.end
  yield* cluster.stop
  return {
    outcomes,
    secondsToLastNode,
    killed: yield* cluster.killed,
    designated: cluster.designated,
    originPulls: yield* Option.getOrElse(origin.pulls, () => cluster.ledger.pulls),
    peerTransfers: yield* cluster.ledger.peerTransfers
  }
})

/** Kills the node that pulls the largest layer once it has half of it. The origin keeps the other half back until then. */
const killPuller = Effect.fnUntraced(function* ({ blobs, hold }: Origin.Origin, cluster: Cluster.Cluster) {
  const screen = yield* Screen
  const layers = Option.getOrElse(blobs, () => []).filter(({ kind }) => kind === "layer")
  const [largest] = layers.sort((a, b) => b.size - a.size)
  if (Option.isNone(hold) || largest === undefined) return
  const { reached, release } = yield* hold.value(largest.digest)
  yield* Effect.gen(function* () {
    const puller = yield* reached
    yield* screen.print(`killing ${puller}, which has half of the layer ${Report.shortDigest(largest.digest)}`)
    yield* cluster.kill(puller)
    yield* release
  }).pipe(Effect.forkScoped)
})

/** How often a terminal is redrawn. */
const redrawInterval = "100 millis"

/** How often a log gets a line about all nodes, once they have asked. */
const logInterval = "2 seconds"

/** Shows how far the nodes are: in a terminal all of them all the time, in a log each that gets somewhere. */
const makeDisplay = Effect.fnUntraced(function* (nodeIds: ReadonlyArray<NodeId>) {
  const screen = yield* Screen
  const nodes = yield* Ref.make<ReadonlyArray<Progress.NodeProgress>>(nodeIds.map(Progress.starting))
  const beganAt = yield* Ref.make(Option.none<number>())

  const current = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const began = Option.getOrElse(yield* Ref.get(beganAt), () => now)
    return { nodes: yield* Ref.get(nodes), elapsedMillis: now - began }
  })
  const draw = Effect.flatMap(current, (progress) => screen.redraw((style) => Progress.lines(progress, style)))
  const log = Effect.flatMap(current, (progress) => screen.print(Progress.line(progress)))

  const painter = yield* FiberHandle.make<void, never>()
  if (screen.interactive) yield* FiberHandle.run(painter, every(draw, redrawInterval))

  return {
    show: Effect.fnUntraced(function* (all: ReadonlyArray<Progress.NodeProgress>, changed: Progress.NodeProgress) {
      const before = yield* Ref.getAndSet(nodes, all)
      const isNews = before.find(({ nodeId }) => nodeId === changed.nodeId)?.phase !== changed.phase
      const text = Progress.news(changed, (yield* current).elapsedMillis)
      if (isNews && !screen.interactive && Option.isSome(text)) yield* screen.print(text.value)
    }),
    begin: Effect.gen(function* () {
      yield* Ref.set(beganAt, Option.some(yield* Clock.currentTimeMillis))
      if (!screen.interactive) yield* FiberHandle.run(painter, Effect.delay(every(log, logInterval), logInterval))
    }),
    /** The last picture stays. */
    end: Effect.all([FiberHandle.clear(painter), draw, screen.settle], { discard: true })
  }
})

const every = (effect: Effect.Effect<void>, interval: Duration.Input) =>
  Effect.asVoid(Effect.repeat(effect, Schedule.spaced(interval)))

/** How many layouts are hashed at once: hashing keeps a processor busy. */
const concurrentVerifications = 2

/** Reads what the nodes left on disk. */
const examine = Effect.fnUntraced(function* (
  outcomes: ReadonlyArray<Cluster.Outcome>,
  image: Image,
  workspace: Workspace.Workspace
) {
  const screen = yield* Screen
  yield* screen.print("hashing every blob of every node")
  return yield* Effect.forEach(
    outcomes,
    (outcome) =>
      Effect.map(Verification.verify(workspace.layoutOf(outcome.nodeId), image), (verification) => ({
        ...outcome,
        ...verification
      })),
    { concurrency: concurrentVerifications }
  )
})

/** Converted to OCI's types the image would have another digest: nodes keep what the registry served. */
const warnOfDocker = Effect.fnUntraced(function* (nodes: ReadonlyArray<Verification.Verification>) {
  const screen = yield* Screen
  if (!nodes.some(({ mediaType }) => Option.exists(mediaType, (type) => type.startsWith("application/vnd.docker."))))
    return
  yield* screen.print("the layouts hold Docker's manifests: crane and oras read them, skopeo and umoci read OCI's only")
})

/** What the image consists of, by the manifests that any node has. */
const named = (nodes: ReadonlyArray<Verification.Verification>): ReadonlyArray<Report.ExpectedBlob> => {
  const blobs = new Map<Digest, Report.ExpectedBlob>()
  for (const node of nodes) {
    for (const blob of node.named) blobs.set(blob.digest, blob)
  }
  return [...blobs.values()]
}
