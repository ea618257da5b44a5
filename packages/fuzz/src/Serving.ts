/**
 * The server under fuzzing: the real one, on streams that come from inputs.
 */
import * as CoordServer from "@gantry/coord/CoordServer"
import * as Inflight from "@gantry/coord/Inflight"
import type { Members } from "@gantry/coord/Members"
import type { Metrics } from "@gantry/coord/Metrics"
import type { NegativeCache } from "@gantry/coord/NegativeCache"
import type { Pump } from "@gantry/coord/Pump"
import type { Store } from "@gantry/coord/Store"
import { type DuplexStream, StreamTransport } from "@gantry/coord/StreamTransport"
import { encodeFrame, encodeMessage } from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as RecordingMetrics from "@gantry/testkit/RecordingMetrics"
import * as VirtualTime from "@gantry/testkit/VirtualTime"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Expectation from "./Expectation.ts"
import { type Input, parse, type Situation } from "./Input.ts"
import type { Reading } from "./Protocol.ts"
import * as ScriptedStream from "./ScriptedStream.ts"
import { check } from "./Violation.ts"
import * as World from "./World.ts"

/** What a server needs, and so what a broken one gets in a test. */
type Ports = Inflight.Inflight | Members | Metrics | NegativeCache | Pump | Store | StreamTransport

/** A server by its layer: registers its handler with the transport. */
export type ServerLayer = Layer.Layer<never, never, Ports> | Layer.Layer<CoordServer.CoordServer, never, Ports>

/** Longer than any deadline and any pull: after so much time everything is over. */
const everythingIsOver = "1 minute"

const ordinary = parse(new Uint8Array(0)).situation
const honestQuery = encodeFrame(encodeMessage({ _tag: "PullIntentRequest", digest: Fixtures.A }))

const observed = (before: Record<string, number>, after: Record<string, number>): ReadonlyArray<string> =>
  Object.keys(after).flatMap((event) => new Array<string>((after[event] ?? 0) - (before[event] ?? 0)).fill(event))

const makeServer = (layer: ServerLayer, peerAuthorization: Situation["authorization"]) => {
  let situation = ordinary
  let handler: (stream: DuplexStream) => Effect.Effect<void> = () => Effect.void

  const transport = Layer.succeed(StreamTransport, {
    handle: (_protocol, registered) =>
      Effect.sync(() => {
        handler = registered
      }),
    open: () => Effect.die(new Error("a server opens no streams"))
  })
  const ports = Layer.merge(
    transport,
    World.layer(() => situation, peerAuthorization)
  )
  // The scope stays open, as long as the process lives.
  const services = Effect.runSync(
    Layer.buildWithScope(
      (layer as Layer.Layer<never, never, Ports>).pipe(
        Layer.provideMerge(ports),
        Layer.provideMerge(Inflight.layer),
        Layer.provideMerge(RecordingMetrics.layer)
      ),
      Scope.makeUnsafe()
    )
  )
  const inflight = Context.get(services, Inflight.Inflight)
  const { counts } = Context.get(services, RecordingMetrics.RecordingMetrics)

  /** Serves a stream until everything is over; gives the events that fired. */
  const serve = Effect.fnUntraced(function* (stream: DuplexStream, next: Situation) {
    situation = next
    const before = yield* counts
    yield* handler(stream)
    yield* Effect.sleep(everythingIsOver)
    return observed(before, yield* counts)
  })

  return { serve, inflight }
}

/** Serves inputs with one server that observes strangers, and one that refuses them. */
export const make = (layer: ServerLayer = CoordServer.layer) => {
  const servers = { observe: makeServer(layer, "observe"), enforce: makeServer(layer, "enforce") }

  const serve = Effect.fnUntraced(function* ({ chunks, situation }: Input, reading: Reading) {
    const { inflight, serve } = servers[situation.authorization]
    const stream = ScriptedStream.make(
      situation.standing === "member" ? World.member : World.stranger,
      chunks,
      situation
    )
    const events = yield* serve(stream, situation)

    const ending = Expectation.endingOf(reading, situation)
    const endings = stream.endings.join()
    check(endings === "close", "a stream that is served ends once, in peace", () => endings || "it never ended")

    const outcomes = events.filter((event) => /^streamError|Served$/.test(event)).join()
    const wanted = Expectation.eventOf(ending)
    check(
      outcomes === wanted,
      "each stream counts once, by how it ended",
      () => `${outcomes || "nothing"} was counted, not ${wanted || "nothing"}`
    )
    const strangers = events.filter((event) => event.startsWith("unauthorizedPeer")).join()
    check(
      strangers === (reading._tag === "Message" ? Expectation.strangerEventOf(situation) : ""),
      "a stranger who asks is counted",
      () => `${strangers || "nobody"} was counted, a peer that is ${situation.standing}`
    )

    if (reading._tag === "Message" && (ending === "intent" || ending === "batch")) {
      check(
        Expectation.isGoodReply(reading.message, situation, stream.written),
        "a good request has the reply that the protocol wants",
        () => `${stream.written.map((bytes) => Buffer.from(bytes).toString("hex")).join()} to ${reading.message._tag}`
      )
    } else {
      check(stream.written.length === 0, "no bytes without an answer", () => `${stream.written.length} writes`)
    }

    check((yield* inflight.size) === 0, "no claim is left behind", () => "Inflight is not empty")
    const honest = ScriptedStream.make(World.member, [honestQuery], ordinary)
    const honestEvents = yield* serve(honest, ordinary)
    check(
      honestEvents.join() === "pullIntentServed" && honest.written.length === 1,
      "an honest peer is served afterwards",
      () => honestEvents.join()
    )
  })

  return (input: Input, reading: Reading): void =>
    Effect.runSync(VirtualTime.run(Effect.provideService(serve(input, reading), References.MinimumLogLevel, "None")))
}
