/**
 * Services against models of them that are too simple to be wrong, for any
 * course of events.
 */
import { assert, describe, it } from "@effect/vitest"
import { Inflight, MembersView, Metrics, NegativeCache } from "@gantry/coord"
import { Member, NodeId, OriginRef, type PeerId, Registry, Rendezvous, Repository } from "@gantry/protocol"
import { digestOf, members as membersOf, peerIdOf } from "@gantry/testkit/Fixtures"
import { Clock, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Slots from "../src/internal/slots.ts"

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

const digests = Array.from({ length: 3 }, (_, index) => digestOf(`digest ${index}`))
const anyDigest = Schema.Literals(digests)

describe("Inflight does what a list of claims says", () => {
  const Events = Schema.Array(
    Schema.Union([
      Schema.TaggedStruct("Start", { digest: anyDigest }),
      /** Ends one of the claims, by its number. */
      Schema.TaggedStruct("End", { claim: upTo(20) }),
      Schema.TaggedStruct("Wait", { millis: upTo(1_000) })
    ])
  )
  const layer = Inflight.layer.pipe(Layer.provide(Metrics.layerNoop))

  it.effect.prop("after any starts and ends", [Events], ([events]) =>
    Effect.gen(function* () {
      const inflight = yield* Inflight.Inflight
      const claims: Array<{ digest: string; owned: boolean; ended: boolean; at: bigint; scope: Scope.Closeable }> = []
      const ownerOf = (digest: string) => claims.find((claim) => claim.digest === digest && claim.owned && !claim.ended)

      for (const event of events) {
        switch (event._tag) {
          case "Start": {
            const scope = yield* Scope.make()
            const owner = ownerOf(event.digest)
            const claim = yield* Scope.provide(inflight.start(event.digest, "layer", Option.none()), scope)
            assert.strictEqual(claim.owned, owner === undefined)
            const at = yield* Clock.currentTimeNanos
            claims.push({ digest: event.digest, owned: claim.owned, ended: false, at, scope })
            assert.strictEqual(claim.entry.startedAt as bigint, owner?.at ?? at)
            break
          }
          case "End": {
            const claim = claims[event.claim]
            if (claim === undefined) break
            yield* Scope.close(claim.scope, Exit.void)
            claim.ended = true
            break
          }
          case "Wait":
            yield* TestClock.adjust(event.millis)
        }
        for (const digest of digests) {
          const entry = yield* inflight.lookup(digest)
          assert.strictEqual(Option.getOrUndefined(entry)?.startedAt as bigint | undefined, ownerOf(digest)?.at)
        }
        assert.strictEqual(yield* inflight.size, digests.filter(ownerOf).length)
      }
    }).pipe(Effect.provide(layer))
  )
})

describe("NegativeCache does what a list of failures says", () => {
  const refs = digests.slice(0, 2).flatMap((digest) =>
    ["library/a", "library/b"].map(
      (repository) =>
        new OriginRef({
          registry: Registry.make("registry.example.com"),
          repository: Repository.make(repository),
          digest
        })
    )
  )
  const Events = Schema.Array(
    Schema.Union([
      Schema.TaggedStruct("Fail", {
        ref: upTo(refs.length - 1),
        failureClass: Schema.Literals(["auth", "transient"]),
        retryAfterSeconds: Schema.Literals([0, 5, 40])
      }),
      Schema.TaggedStruct("Succeed", { ref: upTo(refs.length - 1) }),
      Schema.TaggedStruct("Wait", { seconds: upTo(45) })
    ])
  )
  const [initial, multiplier, cap, capacity] = [2_000, 3, 30_000, 3]

  it.effect.prop("after any failures, successes and waits", [Events], ([events]) =>
    Effect.gen(function* () {
      const cache = yield* NegativeCache.NegativeCache
      /** The longest unchanged first. */
      let model: Array<{ ref: OriginRef; failures: number; until: number; failureClass: string }> = []

      for (const event of events) {
        const now = yield* Clock.currentTimeMillis
        switch (event._tag) {
          case "Fail": {
            const ref = refs[event.ref] as OriginRef
            const last = model.find((entry) => entry.ref === ref && now < entry.until + cap)
            const failures = (last?.failures ?? 0) + 1
            const ladder = initial * multiplier ** (failures - 1)
            const until = now + Math.min(Math.max(ladder, event.retryAfterSeconds * 1_000), cap)
            yield* cache.recordFailure(ref, "layer", event.failureClass, Duration.seconds(event.retryAfterSeconds))
            const others = model.filter((entry) => entry.ref !== ref)
            model = [...others, { ref, failures, until, failureClass: event.failureClass }].slice(-capacity)
            break
          }
          case "Succeed":
            yield* cache.recordSuccess(refs[event.ref] as OriginRef, "layer")
            model = model.filter((entry) => entry.ref !== refs[event.ref])
            break
          case "Wait":
            yield* TestClock.adjust(`${event.seconds} seconds`)
        }
        const then = yield* Clock.currentTimeMillis
        const active = model.filter((entry) => then < entry.until)
        for (const ref of refs) {
          const entry = Option.getOrUndefined(yield* cache.lookupRef(ref, "layer"))
          const expected = active.find((known) => known.ref === ref)
          assert.strictEqual(entry?.failureClass, expected?.failureClass)
          assert.strictEqual(Number((entry?.cooldownUntil ?? 0n) as bigint) / 1e6, expected?.until ?? 0)
        }
        for (const digest of digests) {
          const longest = Math.max(0, ...active.filter(({ ref }) => ref.digest === digest).map(({ until }) => until))
          const entry = Option.getOrUndefined(yield* cache.lookup(digest))
          assert.strictEqual(Number((entry?.cooldownUntil ?? 0n) as bigint) / 1e6, longest)
        }
        assert.isAtMost(yield* cache.size, capacity)
      }
    }).pipe(
      Effect.provide(NegativeCache.layer({ initial, multiplier, cap, capacity }).pipe(Layer.provide(Metrics.layerNoop)))
    )
  )
})

describe("MembersView ranks as a fresh computation does", () => {
  const zones = [Option.none<string>(), Option.some("a"), Option.some("b")]
  const everyone = membersOf(12)
  const AnyMembers = Schema.Array(
    Schema.Struct({ node: upTo(everyone.length - 1), zone: upTo(2), peer: upTo(everyone.length) })
  )

  it.prop("after any changes of the membership", [Schema.Array(AnyMembers)], ([changes]) => {
    let view = MembersView.make([])
    for (const listed of changes) {
      const members = listed.map(
        ({ node, peer, zone }) =>
          new Member({
            ...(everyone[node] as Member),
            zone: zones[zone] ?? Option.none(),
            // One in a while has none yet.
            peerId: peer === everyone.length ? Option.none() : Option.some(peerIdOf(peer))
          })
      )
      view = view.update(members)
      const nodes = [...new Set(members.map(({ nodeId }) => nodeId))]
      const first = nodes.map((nodeId) => {
        const entries = members.filter((member) => member.nodeId === nodeId)
        return (entries.find(({ peerId }) => Option.isSome(peerId)) ?? entries[0]) as Member
      })
      const published = members.flatMap(({ peerId }) => Option.toArray(peerId))
      for (let peer = 0; peer < everyone.length; peer++) {
        const otherwise = published.length === 0 ? "unevaluable" : "unrecognized"
        assert.strictEqual(view.standingOf(peerIdOf(peer)), published.includes(peerIdOf(peer)) ? "member" : otherwise)
      }
      assert.deepStrictEqual(view.members, first)
      for (const digest of digests) {
        for (const { nodeId } of everyone) {
          assert.strictEqual(view.rankOf(nodeId, digest), Rendezvous.rankOf(nodes, nodeId, digest))
        }
        assert.strictEqual(view.rankOf(NodeId.make("a stranger"), digest), -1)
        for (const zone of zones) {
          const inZone = first.filter((member) => Option.getOrNull(member.zone) === Option.getOrNull(zone))
          const candidates = Option.isSome(zone) && inZone.length > 0 ? inZone.map(({ nodeId }) => nodeId) : nodes
          assert.deepStrictEqual(view.best(digest, 3, zone), Rendezvous.topK(candidates, digest, 3))
        }
      }
    }
  })
})

describe("Slots are taken and given back as a list of streams says", () => {
  const peers = [peerIdOf(0), peerIdOf(1)]
  const endings = {
    success: Effect.void,
    failure: Effect.fail("failed"),
    defect: Effect.die("a defect"),
    interrupt: Effect.interrupt
  }
  const Events = Schema.Array(
    Schema.Union([
      Schema.TaggedStruct("Open", { peer: upTo(peers.length - 1) }),
      /** Ends one of those that are served, by its number among them. */
      Schema.TaggedStruct("End", {
        served: upTo(2),
        how: Schema.Literals(["success", "failure", "defect", "interrupt", "from outside"])
      })
    ])
  ).check(Schema.isMinLength(8))
  const [total, perPeer] = [3, 2]

  it.effect.prop("after any streams, however they end", [Events], ([events]) =>
    Effect.gen(function* () {
      const slots = Slots.make(total, perPeer)
      const served: Array<{
        readonly peer: number
        readonly ended: Deferred.Deferred<void, string>
        readonly fiber: Fiber.Fiber<unknown, string>
      }> = []

      for (const event of events) {
        if (event._tag === "Open") {
          const { peer } = event
          const ofPeer = served.filter((stream) => stream.peer === peer)
          const expected =
            ofPeer.length === perPeer ? "peer_stream_limit" : served.length === total ? "stream_limit" : "served"
          const told: Array<string> = []
          const tell = (what: string) => Effect.sync(() => void told.push(what))
          const ended = yield* Deferred.make<void, string>()
          const fiber = yield* Effect.forkChild(
            slots.withSlot(peers[peer] as PeerId, Effect.andThen(tell("served"), Deferred.await(ended)), tell),
            { startImmediately: true }
          )
          assert.deepStrictEqual(told, [expected])
          if (expected === "served") served.push({ peer, ended, fiber })
        } else {
          const [stream] = served.splice(event.served, 1)
          if (stream === undefined) continue
          if (event.how === "from outside") yield* Fiber.interrupt(stream.fiber)
          else yield* Deferred.complete(stream.ended, endings[event.how])
          yield* Fiber.await(stream.fiber)
        }
      }
    })
  )
})
