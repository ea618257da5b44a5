/**
 * The server's process: serves the coordination and the echo, and does what it
 * is told on its standard input until that ends.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Membership } from "@gantry/coord/Members"
import { NegativeCache } from "@gantry/coord/NegativeCache"
import { Host } from "@gantry/libp2p"
import { libp2pOf } from "@gantry/libp2p/internal/libp2pOf"
import { type Member, OriginRef, type PeerId } from "@gantry/protocol"
import { digestOf, memberOf, nodeIdOf, registry, repository } from "@gantry/testkit/Fixtures"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import * as FiberHandle from "effect/FiberHandle"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { counting } from "./Census.ts"
import * as Echo from "./Echo.ts"
import { Command, Event } from "./Message.ts"
import { layerListening, serverId } from "./Node.ts"

/** Part of the membership that is new each second, where it churns. */
const churn = 0.01

/** The server, those who ask it, and others up to a size. */
const membership = (peers: ReadonlyArray<PeerId>, size: number): ReadonlyArray<Member> => [
  memberOf(0, { nodeId: serverId, peerId: Option.none() }),
  ...peers.map((peerId, index) =>
    memberOf(index, { nodeId: nodeIdOf(1_000_000 + index), peerId: Option.some(peerId) })
  ),
  ...Array.from({ length: Math.max(0, size - 1 - peers.length) }, (_, index) => memberOf(index + 1))
]

/** The same membership after a second: those that were longest in it have left for new ones. */
const changed = (members: ReadonlyArray<Member>, staying: number, round: number): ReadonlyArray<Member> => {
  const count = Math.ceil(members.length * churn)
  return [
    ...members.slice(0, staying),
    ...members.slice(staying + count),
    ...Array.from({ length: count }, (_, index) => memberOf(100_000 + round * count + index))
  ]
}

const program = counting(
  Effect.fnUntraced(function* (take) {
    const stdio = yield* Stdio.Stdio
    yield* Effect.gen(function* () {
      const host = yield* Host.Host
      const { multiaddrs, peerId } = host
      const node = libp2pOf(host)
      const failures = yield* NegativeCache
      const { set, update } = yield* Membership
      const churning = yield* FiberHandle.make<void>()
      const delays = monitorEventLoopDelay({ resolution: 1 })
      yield* Effect.promise(() => Echo.serve(node))

      const obey = Effect.fnUntraced(function* (command: Command): Effect.fn.Return<Event> {
        switch (command._tag) {
          case "Join": {
            yield* set(membership(command.peers, command.members))
            let round = 0
            const change = update((members) => changed(members, 1 + command.peers.length, round++))
            yield* FiberHandle.clear(churning)
            if (command.churns)
              yield* FiberHandle.run(churning, Effect.asVoid(Effect.schedule(change, Schedule.spaced("1 second"))))
            return { _tag: "Done" }
          }
          case "Fail":
            for (let index = 0; index < command.references; index++) {
              const ref = new OriginRef({ registry, repository, digest: digestOf(`failed ${index}`) })
              yield* failures.recordFailure(ref, "layer", "transient")
            }
            return { _tag: "Done" }
          case "Count":
            return { _tag: "Counted", census: yield* take(node) }
          case "Report": {
            // Before the collection, which is a stall of our own making.
            const stallMillis = delays.max / 1e6
            globalThis.gc?.()
            const { system, user } = process.cpuUsage()
            yield* Effect.sleep("20 millis")
            // It wakes the process every millisecond: not before somebody asks.
            delays.enable()
            delays.reset()
            return { _tag: "Report", cpuMillis: (user + system) / 1e3, stallMillis }
          }
          case "Weigh": {
            // The collection of one who is about to run out of memory; others keep what they may need again.
            globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" })
            const { external, heapUsed, rss } = process.memoryUsage()
            return { _tag: "Weight", residentBytes: rss, liveBytes: heapUsed + external }
          }
        }
      })

      yield* stdio.stdin.pipe(
        Stream.pipeThroughChannel(Ndjson.decodeSchema(Schema.toCodecJson(Command))({ maxLineBytes: 16 * 1024 * 1024 })),
        Stream.mapEffect(obey),
        (done) => Stream.concat(Stream.succeed<Event>({ _tag: "Ready", peerId, addresses: multiaddrs }), done),
        Stream.pipeThroughChannel(Ndjson.encodeSchema(Schema.toCodecJson(Event))()),
        Stream.run(stdio.stdout({ endOnDone: false }))
      )
    }).pipe(Effect.provide(layerListening))
  }, Effect.scoped)
)

/** Standard output belongs to the messages. */
const logger = Layer.succeed(Logger.LogToStderr, true)

NodeRuntime.runMain(Effect.provide(program, [NodeServices.layer, logger]))
