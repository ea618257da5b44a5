/**
 * The server under fuzzing: the real one, on streams that come from inputs.
 */
import * as CoordConfig from "@gantry/coord/CoordConfig"
import * as CoordServer from "@gantry/coord/CoordServer"
import * as Inflight from "@gantry/coord/Inflight"
import * as Members from "@gantry/coord/Members"
import * as MembersView from "@gantry/coord/MembersView"
import type { Metrics, StreamErrorReason } from "@gantry/coord/Metrics"
import * as NegativeCache from "@gantry/coord/NegativeCache"
import { type PullRequest, Pump, PumpResult } from "@gantry/coord/Pump"
import { Store, StoreError } from "@gantry/coord/Store"
import { type DuplexStream, StreamTransport } from "@gantry/coord/StreamTransport"
import {
  type Digest,
  decodeMessage,
  encodeFrame,
  encodeMessage,
  isDigest,
  isRegistry,
  isRepository,
  type Message,
  makeFrameReader,
  timestampFromMillis
} from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as RecordingMetrics from "@gantry/testkit/RecordingMetrics"
import * as VirtualTime from "@gantry/testkit/simulation/VirtualTime"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { type Input, parse, type Situation } from "./Input.ts"
import type { Reading } from "./Protocol.ts"
import * as ScriptedStream from "./ScriptedStream.ts"
import { check } from "./Violation.ts"

/** What a server needs, and so what a broken one gets in a test. */
type Ports =
  | CoordConfig.CoordConfig
  | Inflight.Inflight
  | Members.Members
  | Metrics
  | NegativeCache.NegativeCache
  | Pump
  | Store
  | StreamTransport

/** A server by its layer: registers its handler with the transport. */
export type ServerLayer = Layer.Layer<never, never, Ports> | Layer.Layer<CoordServer.CoordServer, never, Ports>

/** Small, so that an input need not be long to go beyond it. */
export const maxDigests = 8

/** Longer than any deadline and any pull: after so much time everything is over. */
const everythingIsOver = "1 minute"

const cooldown = { cooldownUntil: timestampFromMillis(600_000), failureClass: "rate_limited" as const }

const self = Fixtures.nodeIdOf(0)
const member = Fixtures.peerIdOf(1)
const stranger = Fixtures.peerIdOf(9)
const view = MembersView.make(Fixtures.members(3))
const anonymous = MembersView.make(
  view.members.map(({ nodeId }) => Fixtures.memberOf(0, { nodeId, peerId: Option.none() }))
)
const ordinary = parse(new Uint8Array(0)).situation
const honestQuery = encodeFrame(encodeMessage({ _tag: "PullIntentRequest", digest: Fixtures.A }))

const has =
  (store: Situation["store"]) =>
  (digest: Digest): Effect.Effect<boolean, StoreError> => {
    const fail = (reason: StoreError["reason"]) =>
      Effect.fail(new StoreError({ reason, digest, cause: new Error("as the input says") }))
    switch (store) {
      case "lacks":
        return Effect.succeed(false)
      case "has":
        return Effect.succeed(true)
      case "is unavailable":
        return fail("Unavailable")
      case "fails":
        return fail("Failed")
      case "hangs":
        return Effect.never
      case "dies":
        return Effect.die(new Error("as the input says"))
    }
  }

/** Claims the digest, and pulls for ten seconds. */
const start = Effect.fnUntraced(function* ({ kind, ref }: PullRequest, inflight: Inflight.Inflight["Service"]) {
  const running = yield* Scope.make()
  const { entry, owned } = yield* Scope.provide(inflight.start(ref.digest, kind, Option.none()), running)
  yield* Effect.forkDetach(Effect.onExit(Effect.sleep("10 seconds"), (exit) => Scope.close(running, exit)))
  return owned ? PumpResult.Started(entry) : PumpResult.AlreadyPulling(entry)
}, Effect.uninterruptible)

const pull =
  (pump: Situation["pump"], inflight: Inflight.Inflight["Service"]) =>
  (request: PullRequest): Effect.Effect<PumpResult> => {
    switch (pump) {
      case "starts":
        return start(request, inflight)
      case "failed recently":
        return Effect.succeed(PumpResult.RecentlyFailed(cooldown))
      case "declines":
        return Effect.succeed(PumpResult.Declined())
      case "pulls nothing":
        return Effect.succeed(PumpResult.NoPump())
      case "is slow":
        return Effect.delay(start(request, inflight), "700 millis")
      case "hangs":
        return Effect.never
      case "dies":
        return Effect.die(new Error("as the input says"))
    }
  }

/** How a stream must end: with a reply, without one that is counted as an error, or as a stranger's. */
type Ending = "intent" | "batch" | "refused" | StreamErrorReason

/** What the protocol's section 4 wants, from what the stream holds. */
const expected = (reading: Reading, situation: Situation): Ending => {
  if (reading._tag === "NoFrame") {
    return reading.refused || situation.ending !== "falls silent" ? "read" : "deadline"
  }
  if (reading._tag === "Malformed") return "decode"
  if (situation.standing !== "member" && situation.authorization === "enforce") return "refused"
  const answered = answerTo(reading.message, situation)
  if (answered !== "intent" && answered !== "batch") return answered
  return { arrives: answered, fails: "write" as const, "is stuck": "deadline" as const }[situation.writing]
}

const answerTo = (message: Message, { store }: Situation): Ending => {
  if (message._tag === "PullIntentRequest") {
    if (!isDigest(message.digest)) return "request"
    return store === "dies" ? "defect" : "intent"
  }
  if (message._tag !== "PleasePullRequest") return "request"
  const { digests, registry, repository } = message
  return isRegistry(registry) && isRepository(repository) && digests.length <= maxDigests ? "batch" : "request"
}

const observed = (before: Record<string, number>, after: Record<string, number>): ReadonlyArray<string> =>
  Object.keys(after).flatMap((event) => new Array<string>((after[event] ?? 0) - (before[event] ?? 0)).fill(event))

const eventOf = (ending: Ending): ReadonlyArray<string> => {
  if (ending === "refused") return []
  if (ending === "intent") return ["pullIntentServed"]
  return ending === "batch" ? ["pleasePullServed"] : [`streamError:${ending}`]
}

const strangerEvent = ({ authorization, standing }: Situation): string =>
  standing === "member" || (standing === "unevaluable" && authorization === "observe")
    ? ""
    : `unauthorizedPeer:${standing}`

/** The one message of a reply. */
const replyIn = (written: ReadonlyArray<Uint8Array>): Message | undefined => {
  const [frame] = written
  if (frame === undefined || written.length > 1) return undefined
  const pushed = makeFrameReader().push(frame)
  if (Result.isFailure(pushed) || Option.isNone(pushed.success)) return undefined
  const body = pushed.success.value
  const decoded = decodeMessage(body)
  return encodeFrame(body).length === frame.length && Result.isSuccess(decoded) ? decoded.success : undefined
}

const isGoodIntent = (digest: Digest, { negativeCache, store }: Situation, reply: Message): boolean => {
  if (reply._tag !== "PullIntentResponse") return false
  const { intent } = reply
  const failed = store !== "has" && negativeCache === "failed recently"
  return (
    intent.hasCached === (store === "has") &&
    intent.inFlight === Option.isSome(intent.startedAt) &&
    intent.hrwRank === view.rankOf(self, digest) &&
    intent.recentlyFailed === failed &&
    Option.isSome(intent.cooldownUntil) === failed &&
    (intent.failureClass === "unspecified") !== failed
  )
}

const isGoodBatch = (digests: ReadonlyArray<string>, reply: Message): boolean => {
  if (reply._tag !== "PleasePullResponse") return false
  const wellFormed = digests.filter(isDigest)
  return (
    reply.results.length === wellFormed.length &&
    reply.results.every(({ digest, verdict }, index) => {
      if (digest !== wellFormed[index]) return false
      if (verdict._tag === "Unspecified") return true
      return Option.isSome(verdict._tag === "RecentlyFailed" ? verdict.cooldownUntil : verdict.startedAt)
    })
  )
}

const isGoodReply = (message: Message, situation: Situation, reply: Message | undefined): boolean => {
  if (reply === undefined) return false
  if (message._tag === "PullIntentRequest") return isGoodIntent(message.digest as Digest, situation, reply)
  return message._tag === "PleasePullRequest" && isGoodBatch(message.digests, reply)
}

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
  const ports = Layer.mergeAll(
    transport,
    // One slot: one that is not given back is missed at once.
    CoordConfig.layer({ maxConcurrentStreams: 1, maxDigestsPerPleasePull: maxDigests, peerAuthorization }),
    Layer.mock(Members.Members, {
      self,
      view: Effect.sync(() => (situation.standing === "unevaluable" ? anonymous : view))
    }),
    Layer.succeed(Store, { has: (digest) => has(situation.store)(digest) }),
    Layer.effect(
      Pump,
      Effect.map(Inflight.Inflight, (inflight) => ({ pull: (request) => pull(situation.pump, inflight)(request) }))
    ),
    Layer.mock(NegativeCache.NegativeCache, {
      lookup: () => Effect.sync(() => (situation.negativeCache === "empty" ? Option.none() : Option.some(cooldown)))
    })
  )
  const services = Effect.runSync(
    Effect.scope.pipe(
      Effect.flatMap((scope) =>
        Layer.buildWithScope(
          (layer as Layer.Layer<never, never, Ports>).pipe(
            Layer.provideMerge(ports),
            Layer.provideMerge(Inflight.layer),
            Layer.provideMerge(RecordingMetrics.layer)
          ),
          scope
        )
      ),
      Effect.provideService(Scope.Scope, Scope.makeUnsafe())
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
    const stream = ScriptedStream.make(situation.standing === "member" ? member : stranger, chunks, situation)
    const events = yield* serve(stream, situation)

    const ending = expected(reading, situation)
    const endings = stream.endings.join()
    check(endings === "close", "a stream that is served ends once, in peace", () => endings || "it never ended")

    const outcomes = events.filter((event) => /^streamError|Served$/.test(event)).join()
    check(outcomes === eventOf(ending).join(), "each stream counts once, by how it ended", () => {
      return `${outcomes || "nothing"} was counted, not ${eventOf(ending).join() || "nothing"}`
    })
    const strangers = events.filter((event) => event.startsWith("unauthorizedPeer")).join()
    check(
      strangers === (reading._tag === "Message" ? strangerEvent(situation) : ""),
      "a stranger who asks is counted",
      () => `${strangers || "nobody"} was counted, a peer that is ${situation.standing}`
    )

    if (reading._tag === "Message" && (ending === "intent" || ending === "batch")) {
      check(
        isGoodReply(reading.message, situation, replyIn(stream.written)),
        "a good request has the reply that the protocol wants",
        () => `${stream.written.map((bytes) => Buffer.from(bytes).toString("hex")).join()} to ${reading.message._tag}`
      )
    } else {
      check(stream.written.length === 0, "no bytes without an answer", () => `${stream.written.length} writes`)
    }

    check((yield* inflight.size) === 0, "no claim is left behind", () => "Inflight is not empty")
    const honest = ScriptedStream.make(member, [honestQuery], ordinary)
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
