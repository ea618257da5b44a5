/**
 * What a node process of the demo runs: a node, on the word of whoever started
 * the process.
 */
import { Members, MembersView } from "@gantry/coord"
import { BlobStore, ImageLayout, type Manifest } from "@gantry/oci"
import * as OriginPump from "@gantry/oci/OriginPump"
import type { Digest } from "@gantry/protocol"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { PlatformError } from "effect/PlatformError"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as ImagePull from "../ImagePull.ts"
import * as Node from "../Node.ts"
import { type Command, commandLine, type Event, eventLine, maxLineBytes, type Start } from "./NodeMessage.ts"

type Tell = (event: Event) => Effect.Effect<void>

/** How often a node tells how far it is, if it got further. */
const progressInterval = "200 millis"

/**
 * How long nodes wait for each other. Those of a demo share the processors of
 * one machine: late answers are its fault. A node that is gone is noticed at
 * once all the same, because its connections break.
 */
const patience = "30 seconds"

/** Reads commands from standard input, tells events on standard output, and ends when its input does. */
export const run = Effect.gen(function* () {
  const stdio = yield* Stdio.Stdio
  const events = yield* Queue.unbounded<Event, Cause.Done>()
  const tell: Tell = (event) => Effect.asVoid(Queue.offer(events, event))
  const output = yield* Stream.fromQueue(events).pipe(
    Stream.pipeThroughChannel(Ndjson.encodeSchema(eventLine)()),
    Stream.run(stdio.stdout({ endOnDone: false })),
    Effect.forkScoped
  )
  const commands = yield* stdio.stdin.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(commandLine)({ maxLineBytes })),
    Stream.toQueue({ capacity: "unbounded" })
  )
  yield* Queue.take(commands).pipe(
    Effect.flatMap((first) =>
      first._tag === "Start"
        ? serve(first, commands, tell)
        : Effect.die(new Error(`told to ${first._tag} before Start`))
    ),
    Effect.catchIf(Cause.isDone, () => Effect.void)
  )
  yield* Queue.end(events)
  yield* Fiber.join(output)
}).pipe(Effect.scoped)

/** Runs the node until there are no more commands. What the pump has yet to record is told after the node has stopped. */
const serve = Effect.fnUntraced(function* (
  start: Start,
  commands: Queue.Dequeue<Command, Ndjson.NdjsonError | Schema.SchemaError | PlatformError | Cause.Done>,
  tell: Tell
) {
  const view = yield* SubscriptionRef.make(MembersView.make([]))
  const arrivals = makeArrivals()
  const node = Node.layer({
    identityFile: start.identityFile,
    listen: ["/ip4/127.0.0.1/tcp/0"],
    dockerConfig: start.dockerConfig ?? undefined,
    registries: { plainHttp: start.plainHttp, responseTimeout: patience },
    pump: { storeTimeout: patience },
    coord: {
      streamHandshakeTimeout: patience,
      dispatchTimeout: patience,
      dialTimeout: patience,
      rpcTimeout: patience
    },
    coldStart: { roundTimeout: patience, pleasePullTimeout: patience }
  }).pipe(
    Layer.updateService(BlobStore.BlobStore, arrivals.watch),
    Layer.provideMerge([ImageLayout.layer({ directory: start.directory }), Members.layerRef(start.nodeId, view)])
  )

  const reportPull = ({ bytes, outcome, ref }: OriginPump.PullRecord) =>
    tell({ _tag: "Pulled", digest: ref.digest, bytes, stored: outcome._tag === "Stored" })

  const observer: ImagePull.Observer = {
    named: (entries) => Effect.sync(() => arrivals.expect(entries)),
    obtained: ({ digest }, { _tag }) =>
      Effect.andThen(
        Effect.sync(() => arrivals.complete(digest)),
        tell({ _tag: "Obtained", digest, from: _tag })
      )
  }

  const pull = (image: ImagePull.Image) =>
    ImagePull.pull(image, observer).pipe(
      Effect.andThen(Effect.suspend(() => tell(arrivals.figures()))),
      Effect.matchCauseEffect({
        onFailure: (cause) =>
          tell({
            _tag: "Failed",
            detail: Cause.squash(cause) instanceof Error ? (Cause.squash(cause) as Error).message : Cause.pretty(cause)
          }),
        onSuccess: () => tell({ _tag: "Finished" })
      })
    )

  const obey = (command: Command) => {
    switch (command._tag) {
      case "Start":
        return Effect.die(new Error("told to start twice"))
      case "Join":
        return Effect.andThen(
          SubscriptionRef.update(view, ({ version }) => MembersView.make(command.members, version + 1)),
          tell({ _tag: "Joined" })
        )
      case "Pull":
        return Effect.forkScoped(pull(command.image))
    }
  }

  const telling = yield* Effect.scoped(
    Effect.gen(function* () {
      const services = yield* Layer.build(node)
      return yield* Effect.gen(function* () {
        const { pulls } = yield* OriginPump.PullLog
        const telling = yield* Effect.forkDetach(Stream.runForEach(pulls, reportPull), { startImmediately: true })
        yield* Effect.forkScoped(tellProgress(arrivals, tell))
        yield* tell({ _tag: "Ready", member: yield* Node.self })
        yield* Stream.runForEach(Stream.fromQueue(commands), obey)
        return telling
      }).pipe(Effect.provideContext(services))
    })
  )
  yield* Fiber.join(telling)
})

/** Tells how much has arrived, whenever that has changed. */
const tellProgress = Effect.fnUntraced(function* (arrivals: Arrivals, tell: Tell) {
  let told = arrivals.figures()
  yield* Effect.suspend(() => {
    const now = arrivals.figures()
    if (now.bytes === told.bytes && now.totalBytes === told.totalBytes && now.digests === told.digests)
      return Effect.void
    told = now
    return tell(now)
  }).pipe(Effect.repeat(Schedule.spaced(progressInterval)))
})

type Arrivals = ReturnType<typeof makeArrivals>

/** How much of an image has arrived. */
const makeArrivals = () => {
  const sizes = new Map<Digest, number>()
  const arrived = new Map<Digest, number>()
  const completed = new Set<Digest>()

  const watchWriter = (digest: Digest, writer: BlobStore.BlobWriter): BlobStore.BlobWriter => ({
    ...writer,
    append: (chunk) =>
      Effect.tap(writer.append(chunk), () => Effect.map(writer.offset, (offset) => arrived.set(digest, offset)))
  })

  return {
    /** The store, with an eye on what is written to it. */
    watch: (store: BlobStore.BlobStore["Service"]): BlobStore.BlobStore["Service"] => ({
      ...store,
      writer: (digest, options) => Effect.map(store.writer(digest, options), (writer) => watchWriter(digest, writer))
    }),
    expect(entries: ReadonlyArray<Manifest.Entry>) {
      for (const { digest, size } of entries) sizes.set(digest, size)
    },
    complete(digest: Digest) {
      completed.add(digest)
    },
    figures(): Extract<Event, { readonly _tag: "Progress" }> {
      let bytes = 0
      let totalBytes = 0
      for (const [digest, size] of sizes) {
        totalBytes += size
        bytes += completed.has(digest) ? size : Math.min(arrived.get(digest) ?? 0, size)
      }
      return { _tag: "Progress", bytes, totalBytes, digests: completed.size, totalDigests: sizes.size }
    }
  }
}
