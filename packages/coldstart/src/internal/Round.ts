/**
 * One parallel round of questions about a digest.
 */
import { CoordClient } from "@gantry/coord/CoordClient"
import { CoordServer } from "@gantry/coord/CoordServer"
import { Members } from "@gantry/coord/Members"
import type { Digest, NodeId, PullIntent } from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Settings } from "./settings.ts"

/** The answer of each node; none from one that did not answer. A node that the round did not wait for is not in it. */
export type Answers = ReadonlyMap<NodeId, Option.Option<PullIntent>>

/** A peer at its stream limit resets a stream before it reads: asked a little later, it answers. */
export const resetBackoff = Schedule.exponential("50 millis").pipe(Schedule.jittered)

/**
 * Asks nodes in parallel; ourselves we ask in process. Once an answer settles
 * what comes next the others are given a short grace only, so that one dead
 * node does not slow everybody down.
 */
export const make = Effect.fnUntraced(function* (settings: Settings) {
  const client = yield* CoordClient
  const server = yield* CoordServer
  const { self } = yield* Members

  const secondTry = Duration.times(settings.roundTimeout, 0.5)

  /** One reply may be lost: a peer that is silent for half of the round is asked again. */
  const queryPeer = (node: NodeId, digest: Digest) => {
    const query = Effect.retry(client.pullIntentQuery(node, digest), {
      while: (error) => error.reason === "Reset",
      schedule: resetBackoff
    })
    const queryAgain = Effect.delay(query, secondTry)
    return Effect.tapError(Effect.raceFirst(query, queryAgain), (error) => Effect.logDebug(error.message))
  }

  const query = (node: NodeId, digest: Digest): Effect.Effect<Option.Option<PullIntent>> =>
    (node === self ? server.localPullIntent(digest) : queryPeer(node, digest)).pipe(
      Effect.timeoutOption(settings.roundTimeout),
      Effect.orElseSucceed(() => Option.none())
    )

  return Effect.fnUntraced(function* (
    nodes: Iterable<NodeId>,
    digest: Digest,
    settles: (node: NodeId, intent: PullIntent) => boolean
  ) {
    const answers = new Map<NodeId, Option.Option<PullIntent>>()
    const settled = yield* Deferred.make<void>()
    const ask = Effect.fnUntraced(function* (node: NodeId) {
      const answer = yield* query(node, digest)
      answers.set(node, answer)
      if (Option.isSome(answer) && settles(node, answer.value)) yield* Deferred.succeed(settled, undefined)
    })
    yield* Effect.forEach(nodes, ask, { concurrency: "unbounded", discard: true }).pipe(
      Effect.raceFirst(Effect.andThen(Deferred.await(settled), Effect.sleep(settings.roundGrace)))
    )
    return answers as Answers
  })
})
