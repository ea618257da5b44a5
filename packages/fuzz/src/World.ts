/**
 * What stands around the server: the services that it asks, each as the
 * situation of the input has it.
 */
import * as CoordConfig from "@gantry/coord/CoordConfig"
import * as Inflight from "@gantry/coord/Inflight"
import * as Members from "@gantry/coord/Members"
import * as MembersView from "@gantry/coord/MembersView"
import * as NegativeCache from "@gantry/coord/NegativeCache"
import { type PullRequest, Pump, PumpResult } from "@gantry/coord/Pump"
import { Store, StoreError } from "@gantry/coord/Store"
import { type Digest, type PeerId, timestampFromMillis } from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Situation } from "./Input.ts"

/** Small, so that an input need not be long to go beyond it. */
export const maxDigests = 8

const cooldown = { cooldownUntil: timestampFromMillis(600_000), failureClass: "rate_limited" as const }

const self = Fixtures.nodeIdOf(0)
const view = MembersView.make(Fixtures.members(3))
const anonymous = MembersView.make(
  view.members.map(({ nodeId }) => Fixtures.memberOf(0, { nodeId, peerId: Option.none() }))
)

/** The peer of a member. */
export const member: PeerId = Fixtures.peerIdOf(1)

/** A peer that no member publishes. */
export const stranger: PeerId = Fixtures.peerIdOf(9)

/** The server's own rank for a digest. */
export const rankOf = (digest: Digest): number => view.rankOf(self, digest)

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

/** The services of a server in a situation that changes with every input. */
export const layer = (situation: () => Situation, peerAuthorization: Situation["authorization"]) =>
  Layer.mergeAll(
    // One slot: one that is not given back is missed at once.
    CoordConfig.layer({ maxConcurrentStreams: 1, maxDigestsPerPleasePull: maxDigests, peerAuthorization }),
    Layer.mock(Members.Members, {
      self,
      view: Effect.sync(() => (situation().standing === "unevaluable" ? anonymous : view))
    }),
    Layer.succeed(Store, { has: (digest) => has(situation().store)(digest) }),
    Layer.effect(
      Pump,
      Effect.map(Inflight.Inflight, (inflight) => ({ pull: (request) => pull(situation().pump, inflight)(request) }))
    ),
    Layer.mock(NegativeCache.NegativeCache, {
      lookup: () => Effect.sync(() => (situation().negativeCache === "empty" ? Option.none() : Option.some(cooldown)))
    })
  )
