/**
 * The client under fuzzing: the real one, on replies that come from inputs.
 */
import * as CoordClient from "@gantry/coord/CoordClient"
import * as CoordConfig from "@gantry/coord/CoordConfig"
import type { Metrics } from "@gantry/coord/Metrics"
import { PeerResolver } from "@gantry/coord/PeerResolver"
import { type DuplexStream, StreamTransport } from "@gantry/coord/StreamTransport"
import { encodeFrame, encodeMessage } from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as RecordingMetrics from "@gantry/testkit/RecordingMetrics"
import * as VirtualTime from "@gantry/testkit/VirtualTime"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import type { Input, Situation } from "./Input.ts"
import type { Reading } from "./Protocol.ts"
import * as ScriptedStream from "./ScriptedStream.ts"
import { check } from "./Violation.ts"

/** A client by its layer: the real one, or a broken one in a test. */
export type ClientLayer = Layer.Layer<CoordClient.CoordClient, never, Metrics | PeerResolver | StreamTransport>

const target = Fixtures.nodeIdOf(1)
const address = { peerId: Fixtures.peerIdOf(1), addresses: [] }

/** What a batch asks for. */
const request = Fixtures.pleasePull([Fixtures.A, Fixtures.ONE, Fixtures.TWO])

const requests = {
  query: encodeFrame(encodeMessage({ _tag: "PullIntentRequest", digest: Fixtures.A })),
  batch: encodeFrame(encodeMessage({ _tag: "PleasePullRequest", ...request }))
}
const replies = { query: "PullIntentResponse", batch: "PleasePullResponse" }

/** How a call must end, from what the stream holds (protocol, section 7). */
const expected = (reading: Reading, call: "query" | "batch", { ending, writing }: Situation): string => {
  if (writing === "fails") return "Reset"
  if (writing === "is stuck") return "TimedOut"
  if (reading._tag === "Message") return reading.message._tag === replies[call] ? "answered" : "UnexpectedReply"
  if (reading._tag === "Malformed") return "ReplyMalformed"
  if (!reading.refused && ending === "falls silent") return "TimedOut"
  if (!reading.refused && ending === "resets") return "Reset"
  if (reading.reason === "TooLarge") return "ReplyTooLarge"
  return reading.reason === "Missing" ? "NoReply" : "ReplyMalformed"
}

const endingOf = (exit: Exit.Exit<unknown, CoordClient.CoordClientError>): string => {
  if (Exit.isSuccess(exit)) return "answered"
  return Option.match(Cause.findErrorOption(exit.cause), {
    onNone: () => Cause.pretty(exit.cause),
    onSome: (error) => error.reason
  })
}

/** Calls a peer whose replies are inputs. */
export const make = (layer: ClientLayer = CoordClient.layer) => {
  let stream: DuplexStream | undefined

  const ports = Layer.mergeAll(
    Layer.succeed(PeerResolver, { resolve: () => Effect.succeedSome(address) }),
    Layer.succeed(StreamTransport, {
      handle: () => Effect.void,
      open: (_peer, _protocol, first = new Uint8Array()) =>
        Effect.acquireRelease(
          Effect.sync(() => stream as DuplexStream),
          (opened, exit) => (Exit.isSuccess(exit) ? opened.close : opened.reset)
        ).pipe(
          // What was handed over with the opening goes out before our side ends.
          Effect.map((opened) => ({ ...opened, closeWrite: opened.write(first) }))
        )
    })
  )
  const services = Effect.runSync(
    Effect.scoped(Layer.build(layer.pipe(Layer.provide(ports), Layer.provideMerge(RecordingMetrics.layer))))
  )
  const client = Context.get(services, CoordClient.CoordClient)
  const rpcMillis = Duration.toMillis(CoordConfig.defaults.rpcTimeout)

  const run = Effect.fnUntraced(function* ({ chunks, situation }: Input, reading: Reading, call: "query" | "batch") {
    const scripted = ScriptedStream.make(address.peerId, chunks, situation)
    stream = scripted
    const asked = call === "query" ? client.pullIntentQuery(target, Fixtures.A) : client.pleasePull(target, request)
    const exit = yield* Effect.exit(asked as Effect.Effect<unknown, CoordClient.CoordClientError>)

    const ending = endingOf(exit)
    const wanted = expected(reading, call, situation)
    check(ending === wanted, "a call ends as its reply says", () => `${ending}, not ${wanted}`)
    const now = yield* Clock.currentTimeMillis
    check(now <= rpcMillis, "a call ends in time", () => `after ${now} ms`)
    const endings = scripted.endings.join()
    check(
      endings === (ending === "answered" || ending === "UnexpectedReply" ? "close" : "reset"),
      "a call ends its stream once: in peace after an exchange, by reset otherwise",
      () => `${endings || "nothing"} after ${ending}`
    )
    check(
      situation.writing !== "arrives" || Buffer.compare(Buffer.concat(scripted.written), requests[call]) === 0,
      "a request is one frame",
      () => Buffer.concat(scripted.written).toString("hex")
    )
    if (Exit.isSuccess(exit) && call === "batch") {
      const digests = (exit.value as ReadonlyArray<{ readonly digest: string }>).map(({ digest }) => digest)
      check(digests.join() === request.digests.join(), "a batch has one outcome for each digest, in order", () =>
        digests.join()
      )
    }
  })

  return (input: Input, reading: Reading, call: "query" | "batch"): void =>
    Effect.runSync(
      VirtualTime.run(Effect.provideService(run(input, reading, call), References.MinimumLogLevel, "None"))
    )
}
