/**
 * A Go client, and our server (protocol, sections 1 to 6).
 */
import { assert, describe } from "@effect/vitest"
import type * as CoordConfig from "@gantry/coord/CoordConfig"
import type { Inflight } from "@gantry/coord/Inflight"
import type { MembersView } from "@gantry/coord/MembersView"
import * as MembersViews from "@gantry/coord/MembersView"
import { type PullRequest, PumpResult } from "@gantry/coord/Pump"
import { StoreError } from "@gantry/coord/Store"
import { type FailureClass, maxMessageBytes, NodeId, protocolId, Rendezvous, Timestamp } from "@gantry/protocol"
import {
  ioTurn,
  memberOf,
  type ServerOptions,
  serverNode,
  startServer,
  whileTimePasses
} from "@gantry/testkit/suites/CoordFixture"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { bytesField, concat, frame, numberField } from "./bytes.ts"
import {
  ask,
  batch,
  instant,
  instantText,
  manyDigests,
  nothing,
  other,
  query,
  startOurServer,
  talk,
  test,
  wanted
} from "./calls.ts"
import {
  close,
  closeWrite,
  isBuilt,
  type Json,
  type Outcome,
  read,
  readAll,
  reset,
  type Step,
  spawn,
  write,
  writeBytes
} from "./ForeignPeer.ts"
import * as OurPeers from "./OurPeers.ts"

describe.skipIf(!isBuilt("go"))("A Go client of our server", () => {
  describe("asking what we know", () => {
    const learns = (
      title: string,
      options: ServerOptions,
      intent: Json,
      counts: Record<string, number> = {},
      prepare: (inflight: Inflight["Service"]) => Effect.Effect<unknown, never, Scope.Scope> = () => Effect.void
    ) =>
      test(
        title,
        Effect.gen(function* () {
          const { counts: counted, foreign: go, inflight, peer } = yield* startOurServer("go", options)
          yield* prepare(inflight)
          assert.deepStrictEqual(yield* ask(go, peer, query), { message: { pullIntentResponse: intent } })
          assert.deepStrictEqual(yield* counted, { pullIntentServed: 1, ...counts })
        })
      )
    const membersOf = (...names: ReadonlyArray<string>) =>
      Effect.succeed(MembersViews.make(names.map((name) => memberOf(NodeId.make(name)))))
    const fails = (reason: StoreError["reason"]) => () =>
      new StoreError({ reason, digest: wanted, cause: new Error("gone") })
    const failed = (failureClass: FailureClass) => ({ cooldownUntil: instant, failureClass })
    const claim = (inflight: Inflight["Service"]) => inflight.start(wanted, "layer", Option.none())

    learns("learns of rank -1 from a node that is no member", {}, { hrwRank: -1 })
    learns("learns of rank 0", { view: membersOf("server") }, {})

    const betterNodes = Array.from({ length: 100 }, (_, index) => NodeId.make(`node-${index}`))
      .filter((node) => Rendezvous.rankOf([node, serverNode], serverNode, wanted) === 1)
      .slice(0, 3)
    learns("learns of a rank behind others", { view: membersOf("server", ...betterNodes) }, { hrwRank: 3 })

    learns("learns of a cached digest", { has: () => Effect.succeed(true) }, { hasCached: true, hrwRank: -1 })
    learns(
      "never learns yes from a store that cannot be reached",
      { has: fails("Unavailable") },
      { hrwRank: -1 },
      {
        pullIntentStorageUnavailable: 1
      }
    )
    learns("never learns yes from a store that fails", { has: fails("Failed") }, { hrwRank: -1 })
    learns(
      "learns of a running pull and its start, to the millisecond of our clock",
      {},
      { inFlight: true, startedAt: "2025-06-15T15:06:40.123Z", hrwRank: -1 },
      { inflightPulls: 1 },
      (inflight) => Effect.andThen(TestClock.setTime(1_750_000_000_123), claim(inflight))
    )
    learns(
      "tells a pull that began at the beginning of time from one without a start",
      {},
      { inFlight: true, startedAt: "1970-01-01T00:00:00Z", hrwRank: -1 },
      { inflightPulls: 1 },
      claim
    )
    learns(
      "learns of a running pull of a cached digest",
      { has: () => Effect.succeed(true) },
      { hasCached: true, inFlight: true, startedAt: "1970-01-01T00:00:00Z", hrwRank: -1 },
      { inflightPulls: 1 },
      claim
    )
    for (const [failureClass, wire] of [
      ["auth", "FAILURE_CLASS_AUTH"],
      ["not_found", "FAILURE_CLASS_NOT_FOUND"],
      ["rate_limited", "FAILURE_CLASS_RATE_LIMITED"],
      ["transient", "FAILURE_CLASS_TRANSIENT"]
    ] as const) {
      learns(
        `learns of a recent failure of class ${failureClass}, to the nanosecond`,
        { failed: failed(failureClass) },
        { recentlyFailed: true, cooldownUntil: instantText, failureClass: wire, hrwRank: -1 }
      )
    }
    learns(
      "learns of a recent failure without a class",
      { failed: failed("unspecified") },
      { recentlyFailed: true, cooldownUntil: instantText, hrwRank: -1 }
    )
    learns(
      "learns of no failure once the bytes are there",
      { has: () => Effect.succeed(true), failed: failed("not_found") },
      { hasCached: true, hrwRank: -1 }
    )
  })

  describe("asking us to pull", () => {
    const decides = (title: string, result: PumpResult | undefined, verdict: Record<string, Json>, counts = {}) =>
      test(
        title,
        Effect.gen(function* () {
          const pull = result === undefined ? {} : { pull: () => Effect.succeed(result) }
          const { counts: counted, foreign: go, peer } = yield* startOurServer("go", pull)
          assert.deepStrictEqual(yield* ask(go, peer, batch([wanted])), {
            message: { pleasePullResponse: { results: [{ digest: wanted, ...verdict }] } }
          })
          assert.deepStrictEqual(yield* counted, { pleasePullServed: 1, ...counts })
        })
      )
    decides(
      "learns that the pull started, and when",
      PumpResult.Started({ startedAt: instant }),
      { outcome: "OUTCOME_STARTED", startedAt: instantText },
      { pleasePullStarted: 1 }
    )
    decides(
      "learns of a start at the beginning of time",
      PumpResult.Started({ startedAt: Timestamp.make(0n) }),
      { outcome: "OUTCOME_STARTED", startedAt: "1970-01-01T00:00:00Z" },
      { pleasePullStarted: 1 }
    )
    decides(
      "learns of a start before the beginning of time",
      PumpResult.Started({ startedAt: Timestamp.make(-1n) }),
      { outcome: "OUTCOME_STARTED", startedAt: "1969-12-31T23:59:59.999999999Z" },
      { pleasePullStarted: 1 }
    )
    decides("learns of a pull that runs, and since when", PumpResult.AlreadyPulling({ startedAt: instant }), {
      outcome: "OUTCOME_ALREADY_PULLING",
      startedAt: instantText
    })
    decides(
      "learns of a recent failure, its cooldown and class",
      PumpResult.RecentlyFailed({ cooldownUntil: instant, failureClass: "rate_limited" }),
      { outcome: "OUTCOME_RECENTLY_FAILED", cooldownUntil: instantText, failureClass: "FAILURE_CLASS_RATE_LIMITED" }
    )
    decides(
      "gets an unspecified outcome from a pump that declines",
      PumpResult.Declined(),
      {},
      { pleasePullDeclined: 1 }
    )
    decides("gets an unspecified outcome from a node without a pump", undefined, {})

    /** A pump that starts everything, and what it was asked for. */
    const recordingPump = () => {
      const requests: Array<PullRequest> = []
      const pull = (request: PullRequest) =>
        Effect.sync(() => {
          requests.push(request)
          return PumpResult.Started({ startedAt: instant })
        })
      return { requests, pull }
    }
    const started = (digest: string) => ({ digest, outcome: "OUTCOME_STARTED", startedAt: instantText })

    test(
      "has the pump learn of the reference, of every kind, and of who asked",
      Effect.gen(function* () {
        const { pull, requests } = recordingPump()
        const { foreign: go, peer } = yield* startOurServer("go", { pull })
        for (const kind of ["KIND_BLOB", "KIND_MANIFEST", "KIND_CONFIG", "KIND_UNSPECIFIED", 4, 2_147_483_647, -1]) {
          yield* ask(go, peer, batch([wanted], { kind }))
        }
        assert.deepStrictEqual(
          requests.map(({ kind }) => kind),
          ["layer", "manifest", "config", "layer", "layer", "layer", "layer"]
        )
        assert.strictEqual(requests[0]?.ref.toString(), `registry.example.com/library/nginx@${wanted}`)
        assert.deepInclude(requests[0]?.reason, { rule: "please_pull", requester: go.address.peerId, rank: -1 })
      })
    )

    for (const count of [1, 256]) {
      test(
        `gets ${count} outcomes in the order of its request`,
        Effect.gen(function* () {
          const { pull } = recordingPump()
          const { counts, foreign: go, peer } = yield* startOurServer("go", { pull })
          const digests = manyDigests(count)
          assert.deepStrictEqual(yield* ask(go, peer, batch(digests)), {
            message: { pleasePullResponse: { results: digests.map(started) } }
          })
          assert.deepStrictEqual(yield* counts, { pleasePullServed: 1, pleasePullStarted: count })
        })
      )
    }

    test(
      "gets an empty response to an empty batch",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        assert.deepStrictEqual(yield* ask(go, peer, batch([])), { message: { pleasePullResponse: {} } })
        assert.deepStrictEqual(yield* counts, { pleasePullServed: 1 })
      })
    )

    test(
      "gets outcomes for the digests that are digests",
      Effect.gen(function* () {
        const { pull } = recordingPump()
        const { counts, foreign: go, peer } = yield* startOurServer("go", { pull })
        const digests = [` ${wanted}`, wanted, "sha256:ABC", other, wanted.toUpperCase(), ""]
        assert.deepStrictEqual(yield* ask(go, peer, batch(digests)), {
          message: { pleasePullResponse: { results: [started(wanted), started(other)] } }
        })
        assert.deepStrictEqual(yield* counts, {
          pleasePullServed: 1,
          pleasePullStarted: 2,
          pleasePullMalformedDigest: 4
        })
      })
    )

    test(
      "gets the outcomes that there are when the time for dispatch is up",
      Effect.gen(function* () {
        const stuck = yield* Deferred.make<void>()
        const {
          counts,
          foreign: go,
          peer
        } = yield* startOurServer("go", {
          pull: ({ ref }) =>
            ref.digest === wanted
              ? Effect.succeed(PumpResult.Started({ startedAt: instant }))
              : Effect.andThen(Deferred.succeed(stuck, undefined), Effect.never)
        })
        const reply = yield* Effect.forkChild(ask(go, peer, batch([wanted, other])))
        yield* Deferred.await(stuck)
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* Fiber.join(reply), {
          message: { pleasePullResponse: { results: [started(wanted), { digest: other }] } }
        })
        assert.deepStrictEqual(yield* counts, { pleasePullServed: 1, pleasePullStarted: 1 })
      })
    )
  })

  describe("refused", () => {
    const isDropped = (title: string, sent: ReadonlyArray<Step>, reason: string) =>
      test(
        title,
        Effect.gen(function* () {
          let calls = 0
          const {
            counts,
            foreign: go,
            peer
          } = yield* startOurServer("go", {
            pull: () =>
              Effect.sync(() => {
                calls++
                return PumpResult.Declined()
              })
          })
          const outcomes = yield* talk(go, peer, ...sent, closeWrite, readAll, close)
          assert.deepStrictEqual(
            outcomes,
            outcomes.map(() => nothing)
          )
          assert.deepStrictEqual(yield* counts, { [`streamError:${reason}`]: 1 })
          assert.strictEqual(calls, 0)
        })
      )
    const isDroppedFor = (what: string, message: Json) =>
      isDropped(`for ${what}, gets an end without a byte`, [write(message)], "request")
    const isDroppedAfter = (what: string, bytes: Uint8Array, reason: string) =>
      isDropped(`for ${what}, gets an end without a byte`, [writeBytes(bytes)], reason)
    const queryBody = bytesField(1, bytesField(1, wanted))

    isDroppedFor("an empty envelope", {})
    isDroppedFor("an answer in place of a question", { pullIntentResponse: { hasCached: true } })
    isDroppedFor("outcomes in place of a request", { pleasePullResponse: {} })
    isDroppedFor("a digest in capitals", { pullIntentRequest: { digest: wanted.toUpperCase() } })
    isDroppedFor("no digest", { pullIntentRequest: {} })
    isDroppedFor("257 digests", batch(manyDigests(257)))
    isDroppedFor("no registry", batch([wanted], { upstreamRegistry: "" }))
    isDroppedFor("no repository", batch([wanted], { repository: "" }))
    isDroppedFor("neither registry nor digests", batch([], { upstreamRegistry: "" }))
    isDroppedFor("a repository that climbs out", batch([wanted], { repository: "../../etc/passwd" }))

    isDropped("for silence, gets an end without a byte", [], "read")
    isDroppedAfter("half a length", Uint8Array.of(0x80), "read")
    isDroppedAfter("half a body", frame(queryBody).subarray(0, 20), "read")
    isDroppedAfter("an announcement of 1 MiB + 1", Uint8Array.of(0x81, 0x80, 0x40), "read")
    isDroppedAfter("a length that is not minimal", concat(Uint8Array.of(0xcc, 0x00), queryBody), "read")
    isDroppedAfter("a length of ten bytes", new Uint8Array(10).fill(0xff), "read")
    isDroppedAfter("a body that is not protobuf", frame(Uint8Array.of(0x0a, 0x7f)), "decode")
    isDroppedAfter("text that is not UTF-8", frame(bytesField(1, bytesField(1, Uint8Array.of(0xff)))), "decode")

    test(
      "while it sends a body of 1 MiB + 1, gets a reset a second later",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        const stream = yield* go.open(peer.address)
        const sending = yield* Effect.forkChild(stream.run(writeBytes(frame(new Uint8Array(maxMessageBytes + 1)))), {
          startImmediately: true
        })
        while ((yield* counts)["streamError:read"] === undefined) yield* ioTurn
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(sending), [{ error: "reset" }])
        assert.deepStrictEqual(yield* counts, { "streamError:read": 1 })
      })
    )

    test(
      "for stopping in the middle of a frame, gets an end without a byte when its time is up",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        const stream = yield* go.open(peer.address)
        yield* stream.run(writeBytes(frame(queryBody).subarray(0, 20)))
        const ending = yield* Effect.forkChild(stream.run(readAll))
        assert.deepStrictEqual(yield* whileTimePasses(Fiber.join(ending)), [nothing])
        assert.deepStrictEqual(yield* counts, { "streamError:deadline": 1 })
      })
    )
  })

  describe("in its streams", () => {
    const served = { message: { pullIntentResponse: { hrwRank: -1 } } }

    test(
      "uses Noise and Yamux, and gets no word about us by identify",
      Effect.gen(function* () {
        const { foreign: go, peer } = yield* startOurServer("go")
        const stream = yield* go.open(peer.address, { lazy: false })
        assert.deepInclude(stream, {
          peer: peer.address.peerId,
          protocol: protocolId,
          security: "/noise",
          muxer: "/yamux/1.0.0"
        })
        assert.deepStrictEqual((yield* stream.run(write(query), closeWrite, read, close))[2], served)
        yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
      })
    )

    test(
      "may send header, protocol and request together, before we agreed to anything",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        for (let calls = 0; calls < 3; calls++) assert.deepStrictEqual(yield* ask(go, peer, query), served)
        assert.deepStrictEqual(yield* counts, { pullIntentServed: 3 })
      })
    )

    test(
      "that took us for a coordination server wrongly, gets an error at the first read",
      Effect.gen(function* () {
        const go = yield* spawn("go")
        const peer = yield* OurPeers.join
        assert.isString((yield* ask(go, peer, query))?.error)
        yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
        const refusal = yield* Effect.flip(go.open(peer.address, { protocols: ["/gantry/coord/9.0.0"], lazy: false }))
        assert.include(refusal, "protocols not supported")
      })
    )

    test(
      "that speaks a newer version too, agrees with us on ours",
      Effect.gen(function* () {
        const { foreign: go, peer } = yield* startOurServer("go")
        const protocols = ["/gantry/coord/1.1.0", protocolId]
        const stream = yield* go.open(peer.address, { protocols, lazy: false })
        assert.strictEqual(stream.protocol, protocolId)
        assert.deepStrictEqual((yield* stream.run(write(query), closeWrite, read, close))[2], served)
      })
    )

    test(
      "may end its side before or after it reads, or not at all",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        for (const steps of [
          [write(query), closeWrite, read, close],
          [write(query), read, closeWrite, close],
          [write(query), read, close],
          [write(query), read, reset],
          [write(query), closeWrite, read, reset]
        ]) {
          const outcomes = yield* talk(go, peer, ...steps)
          const failures = outcomes.filter(({ error }) => error !== undefined)
          assert.deepStrictEqual([outcomes.find(({ message }) => message !== undefined), failures], [served, []])
        }
        yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
        assert.deepStrictEqual(yield* counts, { pullIntentServed: 5 })
      })
    )

    test(
      "that it never closes, is forgotten by us a second later; its slot is free at once",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go", { config: { maxConcurrentStreams: 1 } })
        const held = yield* go.open(peer.address)
        assert.deepStrictEqual(yield* held.run(write(query), read), [nothing, served])
        assert.deepStrictEqual(yield* ask(go, peer, query), served)
        yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 1)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(OurPeers.openStreams(peer), 0)
        // What comes behind the reset tells that it has arrived.
        assert.deepStrictEqual(yield* ask(go, peer, query), served)
        assert.deepStrictEqual(yield* held.run(writeBytes(Uint8Array.of(0))), [{ error: "reset" }])
        assert.deepStrictEqual(yield* counts, { pullIntentServed: 3 })
      })
    )

    test(
      "sends a request of exactly 1 MiB in segments of every size",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        const body = bytesField(1, bytesField(1, wanted))
        const padding = bytesField(15, new Uint8Array(maxMessageBytes - body.length - 4))
        const whole = frame(concat(body, padding))
        assert.strictEqual(whole.length, maxMessageBytes + 3)
        for (const segment of [0, 1000, 65_536]) {
          const outcomes = yield* talk(go, peer, writeBytes(whole, segment), closeWrite, read, close)
          assert.deepStrictEqual(outcomes, [nothing, nothing, served, nothing])
        }
        assert.deepStrictEqual(yield* talk(go, peer, writeBytes(frame(body), 1), closeWrite, read, close), [
          nothing,
          nothing,
          served,
          nothing
        ])
        assert.deepStrictEqual(yield* counts, { pullIntentServed: 4 })
      })
    )

    test(
      "gets an answer to its first frame, whatever follows",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        const twice = frame(bytesField(1, bytesField(1, wanted)))
        const outcomes = yield* talk(go, peer, writeBytes(concat(twice, twice)), read, readAll, close)
        assert.deepStrictEqual(outcomes, [nothing, served, nothing, nothing])
        assert.deepStrictEqual(yield* counts, { pullIntentServed: 1 })
      })
    )

    test(
      "that it resets while we work, counts as one that could not be answered",
      Effect.gen(function* () {
        const pulling = yield* Deferred.make<void>()
        const proceed = yield* Deferred.make<PumpResult>()
        const {
          counts,
          foreign: go,
          peer
        } = yield* startOurServer("go", {
          pull: () => Effect.andThen(Deferred.succeed(pulling, undefined), Deferred.await(proceed))
        })
        const stream = yield* go.open(peer.address)
        yield* stream.run(write(batch([wanted])), closeWrite)
        yield* Deferred.await(pulling)
        yield* stream.run(reset)
        yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
        yield* Deferred.succeed(proceed, PumpResult.Started({ startedAt: instant }))
        assert.deepStrictEqual(yield* ask(go, peer, query), served)
        assert.deepStrictEqual(yield* counts, {
          pleasePullStarted: 1,
          pullIntentServed: 1,
          "streamError:write": 1
        })
      })
    )

    /** A server whose pump answers when it is told to, and a Go peer whose stream waits for that. */
    const pairUpBusy = Effect.fnUntraced(function* (config: CoordConfig.Options) {
      const pulling = yield* Deferred.make<void>()
      const proceed = yield* Deferred.make<PumpResult>()
      const pair = yield* startOurServer("go", {
        config,
        pull: () => Effect.andThen(Deferred.succeed(pulling, undefined), Deferred.await(proceed))
      })
      const held = yield* Effect.forkChild(ask(pair.foreign, pair.peer, batch([wanted])), { startImmediately: true })
      yield* Deferred.await(pulling)
      return { ...pair, finish: Effect.andThen(Deferred.succeed(proceed, PumpResult.NoPump()), Fiber.join(held)) }
    })

    test(
      "over the cap gets a reset at once, and is served again when a slot is free",
      Effect.gen(function* () {
        const { counts, finish, foreign: go, peer } = yield* pairUpBusy({ maxConcurrentStreams: 1 })
        assert.deepStrictEqual(yield* ask(go, peer, query), { error: "reset" })
        assert.deepStrictEqual(yield* counts, { "streamError:stream_limit": 1 })
        assert.isDefined((yield* finish)?.message)
        assert.deepStrictEqual(yield* ask(go, peer, query), served)
      })
    )

    test(
      "over the cap of its peer gets a reset, and other peers are served",
      Effect.gen(function* () {
        const { counts, finish, foreign: go, peer } = yield* pairUpBusy({ maxConcurrentStreamsPerPeer: 1 })
        const honest = yield* spawn("go")
        assert.deepStrictEqual(yield* ask(go, peer, query), { error: "reset" })
        assert.deepStrictEqual(yield* ask(honest, peer, query), served)
        assert.isDefined((yield* finish)?.message)
        assert.deepStrictEqual(yield* ask(go, peer, query), served)
        assert.deepStrictEqual(yield* counts, {
          "streamError:peer_stream_limit": 1,
          pleasePullServed: 1,
          pullIntentServed: 2
        })
      })
    )
  })

  test(
    "is answered while we shut down, and refused from then on",
    Effect.gen(function* () {
      const pulling = yield* Deferred.make<void>()
      const proceed = yield* Deferred.make<PumpResult>()
      const peer = yield* OurPeers.join
      const go = yield* spawn("go")
      const serving = yield* Scope.make()
      const server = yield* Scope.provide(
        startServer({
          peer,
          pull: () => Effect.andThen(Deferred.succeed(pulling, undefined), Deferred.await(proceed))
        }),
        serving
      )
      const running = yield* Effect.forkChild(ask(go, peer, batch([wanted])), { startImmediately: true })
      yield* Deferred.await(pulling)
      const closing = yield* Effect.forkChild(Scope.close(serving, Exit.void), { startImmediately: true })
      let refused = yield* ask(go, peer, query)
      while (refused?.message !== undefined) refused = yield* ask(go, peer, query)
      // Go sends the request with the protocol's name. Behind a refused name it breaks the negotiation, and the
      // reset for that may overtake the refusal.
      assert.match(refused?.error ?? "", /protocols not supported|reset/)
      yield* Deferred.succeed(proceed, PumpResult.Started({ startedAt: instant }))
      assert.deepStrictEqual(yield* Fiber.join(running), {
        message: {
          pleasePullResponse: { results: [{ digest: wanted, outcome: "OUTCOME_STARTED", startedAt: instantText }] }
        }
      })
      yield* Fiber.join(closing)
      assert.deepInclude(yield* server.counts, { pleasePullServed: 1, pleasePullStarted: 1 })
    })
  )

  describe("as a stranger", () => {
    type Standing = "no membership" | "match" | "unrecognized" | "unevaluable"
    const finds = (
      title: string,
      peerAuthorization: "observe" | "enforce",
      standing: Standing,
      message: Json,
      reply: Outcome,
      counts: Record<string, number>
    ) =>
      test(
        title,
        Effect.gen(function* () {
          const peer = yield* OurPeers.join
          const someone = yield* OurPeers.join
          const go = yield* spawn("go")
          const a = NodeId.make("a")
          const view: MembersView = {
            "no membership": MembersViews.none,
            match: MembersViews.make([memberOf(a, { ...someone, address: go.address })]),
            unrecognized: MembersViews.make([memberOf(a, someone)]),
            unevaluable: MembersViews.make([memberOf(a)])
          }[standing]
          const server = yield* startServer({ peer, config: { peerAuthorization }, view: Effect.succeed(view) })
          assert.deepStrictEqual(yield* ask(go, peer, message), reply)
          assert.deepStrictEqual(yield* server.counts, counts)
        })
      )
    const answered = { message: { pullIntentResponse: { hrwRank: -1 } } }
    const dropped = { error: "eof" }
    const isServed = { pullIntentServed: 1 }
    const unrecognized = { "unauthorizedPeer:unrecognized": 1 }
    const unevaluable = { "unauthorizedPeer:unevaluable": 1 }

    finds("is served by an observer without a membership", "observe", "no membership", query, answered, isServed)
    finds("is served, when it is none", "observe", "match", query, answered, isServed)
    finds("is served by an observer, and counted", "observe", "unrecognized", query, answered, {
      ...isServed,
      ...unrecognized
    })
    finds("is served by an observer that cannot know", "observe", "unevaluable", query, answered, isServed)
    finds("is counted by an observer for a bad request too", "observe", "unrecognized", {}, dropped, {
      ...unrecognized,
      "streamError:request": 1
    })
    finds("is served by an enforcer without a membership", "enforce", "no membership", query, answered, isServed)
    finds("is served by an enforcer, when it is none", "enforce", "match", query, answered, isServed)
    finds("is dropped by an enforcer", "enforce", "unrecognized", query, dropped, unrecognized)
    finds("is dropped by an enforcer that cannot know", "enforce", "unevaluable", query, dropped, unevaluable)
    finds("is dropped by an enforcer before dispatch", "enforce", "unrecognized", {}, dropped, unrecognized)
  })

  describe("of a newer version", () => {
    const isUnderstood = (title: string, body: Uint8Array, reply: Json) =>
      test(
        title,
        Effect.gen(function* () {
          const { foreign: go, peer } = yield* startOurServer("go")
          const outcomes = yield* talk(go, peer, writeBytes(frame(body)), closeWrite, read, readAll, close)
          assert.deepStrictEqual(outcomes, [nothing, nothing, { message: reply }, nothing, nothing])
        })
      )
    const request = concat(
      bytesField(1, wanted),
      bytesField(2, "registry.example.com"),
      bytesField(3, "library/nginx"),
      numberField(4, 1)
    )
    const outcomes = { pleasePullResponse: { results: [{ digest: wanted }] } }
    isUnderstood(
      "is understood without the fields 5 and 6 of its request",
      bytesField(3, concat(request, bytesField(5, "token"), numberField(6, 7))),
      outcomes
    )
    isUnderstood(
      "is understood without other types of the fields 5 and 6 of its request",
      bytesField(3, concat(numberField(5, 1), bytesField(6, bytesField(1, "x")), request)),
      outcomes
    )
    isUnderstood(
      "is understood without the fields 5 and 6 of its envelope",
      concat(bytesField(5, "x"), bytesField(3, request), bytesField(6, bytesField(1, "y"))),
      outcomes
    )

    test(
      "gets an end without a byte for a message that only the newer version knows",
      Effect.gen(function* () {
        const { counts, foreign: go, peer } = yield* startOurServer("go")
        const outcomes = yield* talk(go, peer, writeBytes(frame(bytesField(5, "x"))), closeWrite, readAll, close)
        assert.deepStrictEqual(outcomes, [nothing, nothing, nothing, nothing])
        assert.deepStrictEqual(yield* counts, { "streamError:request": 1 })
      })
    )
  })
})
