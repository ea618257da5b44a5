/**
 * What a node process of the demo runs: a node, on the word of whoever started
 * the process.
 */
import { flushCompileCache } from "node:module"
import { CoordClient, Members, PullLog } from "@gantry/coord"
import * as ImagePull from "@gantry/node/ImagePull"
import * as Node from "@gantry/node/Node"
import { BlobStore, ImageLayout } from "@gantry/oci"
import type { Digest, NodeId } from "@gantry/protocol"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Ndjson from "effect/encoding/Ndjson"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { PlatformError } from "effect/PlatformError"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Arrivals from "./Arrivals.ts"
import { type Command, commandLine, type Event, eventLine, maxLineBytes, type Start } from "./NodeMessage.ts"
import * as SlowClock from "./SlowClock.ts"

type Tell = (event: Event) => Effect.Effect<void>

type Commands = Queue.Dequeue<Command, Ndjson.NdjsonError | Schema.SchemaError | PlatformError | Cause.Done>

/** Reads commands from standard input, tells events on standard output, and ends when its input does. */
export const run = Effect.gen(function* () {
  const stdio = yield* Stdio.Stdio
  const events = yield* Queue.unbounded<Event, Cause.Done>()
  const output = yield* Stream.fromQueue(events).pipe(
    Stream.pipeThroughChannel(Ndjson.encodeSchema(eventLine)()),
    Stream.run(stdio.stdout({ endOnDone: false })),
    Effect.forkScoped
  )
  const commands: Commands = yield* stdio.stdin.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(commandLine)({ maxLineBytes })),
    Stream.toQueue({ capacity: "unbounded" })
  )
  yield* Queue.take(commands).pipe(
    Effect.flatMap((first) =>
      first._tag === "Start"
        ? serve(first, commands, (event) => Effect.asVoid(Queue.offer(events, event)))
        : Effect.die(new Error(`told to ${first._tag} before Start`))
    ),
    Effect.catchIf(Cause.isDone, () => Effect.void)
  )
  yield* Queue.end(events)
  yield* Fiber.join(output)
}).pipe(Effect.scoped)

/** Runs the node until there are no more commands. What the pump has yet to record is told after the node has stopped. */
const serve = Effect.fnUntraced(
  function* (start: Start, commands: Commands, tell: Tell) {
    const arrivals = Arrivals.make()
    const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    const services = yield* Layer.buildWithScope(nodeLayer(start, arrivals), scope)
    const { pulls } = Context.get(services, PullLog.PullLog)
    const telling = yield* Effect.forkScoped(Stream.runForEach(pulls, tellPull(tell)), { startImmediately: true })
    yield* Effect.gen(function* () {
      yield* Effect.forkScoped(tellProgress(arrivals, tell, start.slowness))
      yield* tell({ _tag: "Ready", member: yield* Node.self })
      // Otherwise those that start later would have to wait for this one's end to profit from it.
      yield* Effect.sync(flushCompileCache)
      yield* Stream.runForEach(Stream.fromQueue(commands), (command) => obey(command, arrivals, tell))
    }).pipe(Effect.provideContext(services), Effect.scoped)
    yield* Scope.close(scope, Exit.void)
    yield* Fiber.join(telling)
  },
  (effect, start) => Effect.provide(effect, SlowClock.layer(start.slowness))
)

/**
 * How long nodes wait for each other's answers. Those of a demo share the
 * processors of one machine: late answers are its fault. A node that is gone is
 * noticed at once all the same, because its connections break.
 */
const patience = "30 seconds"

const nodeLayer = ({ dockerConfig, directory, identityFile, nodeId, upstreams }: Start, arrivals: Arrivals.Arrivals) =>
  Node.layer({
    identityFile,
    listen: ["/ip4/127.0.0.1/tcp/0"],
    dockerConfig: dockerConfig ?? undefined,
    // Docker would run the programs that the config of whoever runs the demo names.
    credentials: { helpers: dockerConfig === null ? "any" : [] },
    registries: { upstreams, responseTimeout: patience },
    pump: { storeTimeout: patience },
    transfer: { connectTimeout: patience },
    coord: {
      streamHandshakeTimeout: patience,
      dispatchTimeout: patience,
      dialTimeout: patience,
      rpcTimeout: patience
    },
    coldStart: { roundTimeout: patience, pleasePullTimeout: patience }
  }).pipe(
    Layer.updateService(BlobStore.BlobStore, arrivals.watch),
    Layer.provideMerge([ImageLayout.layer({ directory }), Members.layerDynamic(nodeId)])
  )

const obey = Effect.fnUntraced(function* (command: Command, arrivals: Arrivals.Arrivals, tell: Tell) {
  switch (command._tag) {
    case "Start":
      return yield* Effect.die(new Error("told to start twice"))
    case "Join":
      yield* Members.Membership.use(({ set }) => set(command.members))
      return yield* tell({ _tag: "Joined" })
    case "Greet":
      return yield* greet(command.nodeId, command.digest, tell)
    case "Pull":
      yield* Effect.forkScoped(pull(command.image, arrivals, tell))
  }
})

const greet = (nodeId: NodeId, digest: Digest, tell: Tell) =>
  CoordClient.CoordClient.use((client) => client.pullIntentQuery(nodeId, digest)).pipe(
    Effect.matchEffect({
      onFailure: ({ message }) => tell({ _tag: "Failed", detail: message }),
      onSuccess: () => tell({ _tag: "Greeted" })
    })
  )

const pull = (image: ImagePull.Image, arrivals: Arrivals.Arrivals, tell: Tell) => {
  const observer: ImagePull.Observer = {
    named: (entries) => Effect.sync(() => arrivals.expect(entries)),
    obtained: ({ digest }, { _tag }) =>
      Effect.andThen(
        Effect.sync(() => arrivals.complete(digest)),
        tell({ _tag: "Obtained", digest, from: _tag })
      )
  }
  return ImagePull.pull(image, observer).pipe(
    Effect.andThen(Effect.suspend(() => tell({ _tag: "Progress", ...arrivals.figures() }))),
    Effect.matchCauseEffect({
      onFailure: (cause) => tell({ _tag: "Failed", detail: describe(cause) }),
      onSuccess: () => tell({ _tag: "Finished" })
    })
  )
}

/** What went wrong, in a sentence if it says so itself. */
const describe = (cause: Cause.Cause<Error>): string => {
  const error = Cause.squash(cause)
  return error instanceof Error && error.message !== "" ? error.message : Cause.pretty(cause)
}

const tellPull =
  (tell: Tell) =>
  ({ bytes, outcome, ref }: PullLog.PullRecord) =>
    tell({ _tag: "Pulled", digest: ref.digest, bytes, stored: outcome._tag === "Stored" })

/** How often a node tells how far it is, if it got further; by the clock on the wall. */
const progressInterval = Duration.millis(200)

const tellProgress = (arrivals: Arrivals.Arrivals, tell: Tell, slowness: number) => {
  let told = arrivals.figures()
  return Effect.suspend(() => {
    const figures = arrivals.figures()
    if (Equal.equals(figures, told)) return Effect.void
    told = figures
    return tell({ _tag: "Progress", ...figures })
  }).pipe(Effect.repeat(Schedule.spaced(Duration.times(progressInterval, 1 / slowness))))
}
