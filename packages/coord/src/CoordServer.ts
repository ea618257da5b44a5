/**
 * Serves the coordination protocol to peers, and the same answers in process.
 */
import {
  type Digest,
  isDigest,
  isRegistry,
  isRepository,
  type Message,
  type PeerId,
  type PleasePullOutcome,
  PleasePullRequest,
  type PullIntent,
  protocolId
} from "@gantry/protocol"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CoordConfig } from "./CoordConfig.ts"
import type { Inflight } from "./Inflight.ts"
import { makeAnswers } from "./internal/answers.ts"
import { decode, frameOf, readFrame } from "./internal/messages.ts"
import * as Slots from "./internal/slots.ts"
import { makeThrottle } from "./internal/throttle.ts"
import { Members } from "./Members.ts"
import type { MembersView } from "./MembersView.ts"
import { Metrics, type StreamErrorReason } from "./Metrics.ts"
import * as MonotonicClock from "./MonotonicClock.ts"
import type { NegativeCache } from "./NegativeCache.ts"
import type { PullReason, Pump } from "./Pump.ts"
import type { Store } from "./Store.ts"
import { type DuplexStream, StreamTransport } from "./StreamTransport.ts"
import * as Timers from "./Timers.ts"

/** What the server does for callers in the same process. Its layer serves the peers. */
export class CoordServer extends Context.Service<
  CoordServer,
  {
    /** The answer that a peer's query would get, without authorization and without counting as served. */
    readonly localPullIntent: (digest: Digest) => Effect.Effect<PullIntent>
    /**
     * What a peer's please_pull would do: one outcome per digest, in order. Splits
     * by the cap on digests instead of refusing, and never counts as served. A
     * digest that the pump does not decide in time comes back unspecified.
     */
    readonly startLocalPull: (
      request: PleasePullRequest,
      reason: PullReason
    ) => Effect.Effect<ReadonlyArray<PleasePullOutcome>>
  }
>()("@gantry/coord/CoordServer") {}

/** A stream that ends without a reply. The peer is told nothing; `StreamError` counts as one, `Stranger` does not. */
type Dropped = Data.TaggedEnum<{
  StreamError: { readonly reason: StreamErrorReason; readonly detail: string }
  Stranger: {}
}>
const Dropped = Data.taggedEnum<Dropped>()

const drop = (reason: StreamErrorReason) => (error: { readonly message: string }) =>
  Dropped.StreamError({ reason, detail: error.message })

/** Puts its fiber into the set before it begins: one that is put there later could escape the grace period. */
const owned = (fibers: FiberSet.FiberSet<void>, effect: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    FiberSet.addUnsafe(fibers, fiber as Fiber.Fiber<void>)
    return effect
  })

const late = Dropped.StreamError({ reason: "deadline", detail: "the stream's time was up" })

const badRequest = (detail: string) => Effect.fail(Dropped.StreamError({ reason: "request", detail }))

const make: Effect.Effect<
  CoordServer["Service"],
  never,
  Inflight | Members | Metrics | NegativeCache | Pump | Scope.Scope | Store | StreamTransport
> = Effect.gen(function* () {
  const config = yield* CoordConfig
  const members = yield* Members
  const metrics = yield* Metrics
  const transport = yield* StreamTransport
  const answers = yield* makeAnswers
  const slots = Slots.make(config.maxConcurrentStreams, config.maxConcurrentStreamsPerPeer)
  const warnAboutStranger = makeThrottle(config.unauthorizedWarningInterval)
  const timers = yield* Timers.make(config.streamHandshakeTimeout)
  const handshakeMillis = Duration.toMillis(config.streamHandshakeTimeout)

  /** Step 1: a slot at once, or a reset at once. */
  const admit = (stream: DuplexStream): Effect.Effect<void> =>
    slots.withSlot(stream.remotePeer, serve(stream), (refusal) =>
      Effect.andThen(metrics.streamError(refusal), stream.reset)
    )

  /** Steps 2 to 7 under one deadline; then the stream ends in peace, reply or not. */
  const serve = (stream: DuplexStream): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      let isLate = false
      const stopTimer = timers(fiber, () => {
        isLate = true
        fiber.interruptUnsafe()
      })
      return answer(stream).pipe(
        Effect.catch((dropped) => settle(stream, dropped)),
        Effect.catchDefect((defect) =>
          Effect.andThen(Effect.logError("a defect ended a coordination stream", defect), metrics.streamError("defect"))
        ),
        Effect.andThen(Effect.sync(stopTimer)),
        Effect.andThen(stream.close),
        Effect.onInterrupt(() => {
          stopTimer()
          return isLate
            ? Effect.andThen(settle(stream, late), stream.close)
            : Effect.andThen(metrics.streamError("shutdown"), stream.reset)
        })
      )
    })

  const answer = Effect.fnUntraced(function* (stream: DuplexStream) {
    const openedAt = yield* MonotonicClock.millis
    const body = yield* Effect.mapError(readFrame(stream), drop("read"))
    const message = yield* Effect.mapError(decode(body), drop("decode"))
    const view = yield* members.view
    yield* authorize(stream.remotePeer, view)
    const spent = (yield* MonotonicClock.millis) - openedAt
    // Half of what is left, so that a late request still has time for its reply.
    const budget = Duration.min(config.dispatchTimeout, Duration.millis((handshakeMillis - spent) / 2))
    const { reply, served } = yield* dispatch(message, stream.remotePeer, view, budget)
    yield* Effect.mapError(stream.write(frameOf(reply)), drop("write"))
    yield* served
  })

  /** Protocol, section 6. */
  const authorize = (peerId: PeerId, view: MembersView): Effect.Effect<void, Dropped> => {
    const standing = view.standingOf(peerId)
    const enforced = config.peerAuthorization === "enforce"
    if (standing === "member" || (standing === "unevaluable" && !enforced)) return Effect.void
    const action = enforced ? "refused" : "served, because authorization only observes"
    return metrics
      .unauthorizedPeer(standing)
      .pipe(
        Effect.andThen(
          warnAboutStranger(Effect.logWarning(`peer ${peerId} is not a known member (${standing}): ${action}`))
        ),
        Effect.andThen(enforced ? Effect.fail(Dropped.Stranger()) : Effect.void)
      )
  }

  const dispatch = (
    message: Message,
    peerId: PeerId,
    view: MembersView,
    budget: Duration.Duration
  ): Effect.Effect<{ readonly reply: Message; readonly served: Effect.Effect<void> }, Dropped> => {
    switch (message._tag) {
      case "PullIntentRequest":
        return answerQuery(message.digest, view, budget)
      case "PleasePullRequest":
        return answerBatch(message, peerId, view, budget)
      case "Empty":
        return badRequest("an empty envelope")
      case "PullIntentResponse":
      case "PleasePullResponse":
        return badRequest("a response sent as a request")
    }
  }

  const answerQuery = Effect.fnUntraced(function* (digest: string, view: MembersView, budget: Duration.Duration) {
    if (!isDigest(digest)) return yield* badRequest("a query for a malformed digest")
    const intent = yield* answers.pullIntent(digest, view, budget)
    return { reply: { _tag: "PullIntentResponse" as const, intent }, served: metrics.pullIntentServed }
  })

  const answerBatch = Effect.fnUntraced(function* (
    message: Extract<Message, { readonly _tag: "PleasePullRequest" }>,
    peerId: PeerId,
    view: MembersView,
    budget: Duration.Duration
  ) {
    const { kind, registry, repository } = message
    if (!isRegistry(registry) || !isRepository(repository)) {
      return yield* badRequest("a please_pull without a valid registry and repository")
    }
    if (message.digests.length > config.maxDigestsPerPleasePull) {
      return yield* badRequest(`a please_pull for ${message.digests.length} digests`)
    }
    const digests = message.digests.filter(isDigest)
    for (let malformed = message.digests.length - digests.length; malformed > 0; malformed--) {
      yield* metrics.pleasePullMalformedDigest
    }
    const results = yield* answers.pleasePull(
      new PleasePullRequest({ registry, repository, kind, digests }, { disableChecks: true }),
      (digest) => Effect.map(answers.rank(digest, view), (rank) => ({ rule: "please_pull", requester: peerId, rank })),
      budget
    )
    return { reply: { _tag: "PleasePullResponse" as const, results }, served: metrics.pleasePullServed }
  })

  const settle = (stream: DuplexStream, dropped: Dropped): Effect.Effect<void> =>
    dropped._tag === "Stranger"
      ? Effect.void
      : Effect.andThen(
          metrics.streamError(dropped.reason),
          Effect.logDebug(`dropped a stream of peer ${stream.remotePeer} (${dropped.reason}): ${dropped.detail}`)
        )

  const localPullIntent = Effect.fnUntraced(function* (digest: Digest) {
    return yield* answers.pullIntent(digest, yield* members.view, config.dispatchTimeout)
  })

  const startLocalPull = Effect.fn("CoordServer.startLocalPull")(function* (
    request: PleasePullRequest,
    reason: PullReason
  ) {
    const { kind, registry, repository } = request
    const outcomes = yield* Effect.forEach(Arr.chunksOf(request.digests, config.maxDigestsPerPleasePull), (digests) =>
      answers.pleasePull(
        new PleasePullRequest({ registry, repository, kind, digests }),
        () => Effect.succeed(reason),
        config.dispatchTimeout
      )
    )
    return outcomes.flat()
  })

  // Finalizers run in the reverse order: refuse new streams, let running ones finish, interrupt the rest.
  const streams = yield* FiberSet.make<void>()
  yield* Effect.addFinalizer(() =>
    FiberSet.awaitEmpty(streams).pipe(Effect.timeoutOption(config.shutdownGrace), Effect.interruptible)
  )
  yield* transport.handle(protocolId, (stream) =>
    Effect.asVoid(Effect.forkDetach(owned(streams, admit(stream)), { startImmediately: true }))
  )

  return CoordServer.of({ localPullIntent, startLocalPull })
})

/**
 * Registers the stream handler; the layer's scope removes it, lets running
 * streams finish for the grace period and interrupts the rest (protocol,
 * sections 4 and 9).
 */
export const layer: Layer.Layer<
  CoordServer,
  never,
  Inflight | Members | Metrics | NegativeCache | Pump | Store | StreamTransport
> = Layer.effect(CoordServer, make)
