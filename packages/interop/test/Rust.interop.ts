/**
 * Our nodes and Rust's: the two calls, both ways.
 */
import { assert, describe } from "@effect/vitest"
import type { CoordClientReason } from "@gantry/coord/CoordClient"
import * as MembersView from "@gantry/coord/MembersView"
import { PumpResult } from "@gantry/coord/Pump"
import {
  AlreadyPulling,
  type Digest,
  maxMessageBytes,
  PleasePullOutcome,
  PullIntent,
  RecentlyFailed,
  Started,
  Unspecified
} from "@gantry/protocol"
import { digestOf, pleasePull } from "@gantry/testkit/Fixtures"
import { memberOf, serverNode, startClient } from "@gantry/testkit/suites/CoordFixture"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { bytesField, concat, frame, numberField } from "./bytes.ts"
import {
  answered,
  ask,
  batch,
  instant,
  instantText,
  manyDigests,
  nothing,
  other,
  query,
  serve,
  startOurClient,
  startOurServer,
  talk,
  target,
  test,
  wanted
} from "./calls.ts"
import { close, closeWrite, isBuilt, read, readAll, reset, type Step, spawn, write, writeBytes } from "./ForeignPeer.ts"
import * as OurPeers from "./OurPeers.ts"

const since = Option.some(instant)

/** As Rust writes it. */
const instantInRust = instantText.replace("Z", "+00:00")

describe.skipIf(!isBuilt("rust"))("A Rust client of our server", () => {
  const unknowing = { message: { pullIntentResponse: { hrwRank: -1 } } }

  test(
    "learns what we know, and sends header, protocol and request together",
    Effect.gen(function* () {
      const { counts, foreign, peer } = yield* startOurServer("rust", {
        has: (digest) => Effect.succeed(digest === other),
        failed: { cooldownUntil: instant, failureClass: "rate_limited" },
        view: Effect.succeed(MembersView.make([memberOf(serverNode)]))
      })
      assert.deepStrictEqual(yield* ask(foreign, peer, query), {
        message: {
          pullIntentResponse: {
            recentlyFailed: true,
            cooldownUntil: instantInRust,
            failureClass: "FAILURE_CLASS_RATE_LIMITED"
          }
        }
      })
      assert.deepStrictEqual(yield* ask(foreign, peer, { pullIntentRequest: { digest: other } }), {
        message: { pullIntentResponse: { hasCached: true } }
      })
      assert.deepStrictEqual(yield* counts, { pullIntentServed: 2 })
    })
  )

  test(
    "learns of every outcome",
    Effect.gen(function* () {
      const results = new Map<Digest, PumpResult>([
        [digestOf("a"), PumpResult.Started({ startedAt: instant })],
        [digestOf("b"), PumpResult.AlreadyPulling({ startedAt: instant })],
        [digestOf("c"), PumpResult.RecentlyFailed({ cooldownUntil: instant, failureClass: "not_found" })],
        [digestOf("d"), PumpResult.Declined()]
      ])
      const { counts, foreign, peer } = yield* startOurServer("rust", {
        pull: ({ ref }) => Effect.succeed(results.get(ref.digest) ?? PumpResult.NoPump())
      })
      assert.deepStrictEqual(yield* ask(foreign, peer, batch([...results.keys(), "no digest"])), {
        message: {
          pleasePullResponse: {
            results: [
              { digest: digestOf("a"), outcome: "OUTCOME_STARTED", startedAt: instantInRust },
              { digest: digestOf("b"), outcome: "OUTCOME_ALREADY_PULLING", startedAt: instantInRust },
              {
                digest: digestOf("c"),
                outcome: "OUTCOME_RECENTLY_FAILED",
                cooldownUntil: instantInRust,
                failureClass: "FAILURE_CLASS_NOT_FOUND"
              },
              { digest: digestOf("d") }
            ]
          }
        }
      })
      assert.deepStrictEqual(yield* counts, {
        pleasePullServed: 1,
        pleasePullStarted: 1,
        pleasePullDeclined: 1,
        pleasePullMalformedDigest: 1
      })
    })
  )

  test(
    "gets an end without a byte when it is refused",
    Effect.gen(function* () {
      const { counts, foreign, peer } = yield* startOurServer("rust")
      for (const message of [{}, { pullIntentRequest: { digest: "x" } }, batch(manyDigests(257))]) {
        assert.deepStrictEqual(yield* ask(foreign, peer, message), { error: "eof" })
      }
      assert.deepStrictEqual(yield* counts, { "streamError:request": 3 })
    })
  )

  test(
    "gets a reset over the cap, which Rust reads as an end, and is served again when a slot is free",
    Effect.gen(function* () {
      const pulling = yield* Deferred.make<void>()
      const proceed = yield* Deferred.make<PumpResult>()
      const { counts, foreign, peer } = yield* startOurServer("rust", {
        config: { maxConcurrentStreams: 1 },
        pull: () => Effect.andThen(Deferred.succeed(pulling, undefined), Deferred.await(proceed))
      })
      const held = yield* Effect.forkChild(ask(foreign, peer, batch([wanted])), { startImmediately: true })
      yield* Deferred.await(pulling)
      assert.deepStrictEqual(yield* ask(foreign, peer, query), { error: "eof" })
      assert.deepStrictEqual(yield* counts, { "streamError:stream_limit": 1 })
      yield* Deferred.succeed(proceed, PumpResult.Declined())
      assert.isDefined((yield* Fiber.join(held))?.message)
      assert.deepStrictEqual(yield* ask(foreign, peer, query), unknowing)
    })
  )

  test(
    "may end its side before or after it reads, or not at all",
    Effect.gen(function* () {
      const { foreign, peer } = yield* startOurServer("rust")
      for (const steps of [
        [write(query), closeWrite, read, close],
        [write(query), read, closeWrite, close],
        [write(query), read, close],
        [write(query), read, reset]
      ]) {
        const outcomes = yield* talk(foreign, peer, ...steps)
        assert.deepStrictEqual(outcomes[steps.indexOf(read)], unknowing)
      }
      yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
    })
  )

  test(
    "has its stream forgotten a second after our answer, if it never closes it",
    Effect.gen(function* () {
      const { foreign, peer } = yield* startOurServer("rust", { config: { maxConcurrentStreams: 1 } })
      const held = yield* foreign.open(peer.address)
      assert.deepStrictEqual(yield* held.run(write(query), read), [nothing, unknowing])
      assert.deepStrictEqual(yield* ask(foreign, peer, query), unknowing)
      yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(OurPeers.openStreams(peer), 0)
    })
  )

  test(
    "sends a request of exactly 1 MiB",
    Effect.gen(function* () {
      const { foreign, peer } = yield* startOurServer("rust")
      const body = bytesField(1, bytesField(1, wanted))
      const whole = frame(concat(body, bytesField(15, new Uint8Array(maxMessageBytes - body.length - 4))))
      const outcomes = yield* talk(foreign, peer, writeBytes(whole), closeWrite, read, close)
      assert.deepStrictEqual(outcomes, [nothing, nothing, unknowing, nothing])
    })
  )
})

describe.skipIf(!isBuilt("rust"))("Our client of a Rust server", () => {
  const unknowing = new PullIntent({
    hasCached: false,
    inFlight: false,
    startedAt: Option.none(),
    hrwRank: 0,
    recentlyFailed: false,
    cooldownUntil: Option.none(),
    failureClass: "unspecified"
  })

  test(
    "learns what it knows",
    Effect.gen(function* () {
      const { client, foreign, peer } = yield* startOurClient("rust")
      const response = { inFlight: true, startedAt: instantText, hrwRank: -1, failureClass: "FAILURE_CLASS_AUTH" }
      const { exit, outcomes } = yield* serve(
        foreign,
        client.pullIntentQuery(target, wanted),
        read,
        readAll,
        write({ pullIntentResponse: response }),
        close
      )
      assert.deepStrictEqual(outcomes, [{ message: query }, nothing, nothing, nothing])
      assert.deepStrictEqual(
        yield* exit,
        new PullIntent({ ...unknowing, inFlight: true, startedAt: since, hrwRank: -1, failureClass: "auth" })
      )
      yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
    })
  )

  test(
    "learns of every outcome, batch by batch",
    Effect.gen(function* () {
      const { client, foreign } = yield* startOurClient("rust")
      const digests = manyDigests(257)
      const calling = yield* Effect.forkChild(client.pleasePull(target, pleasePull(digests)), {
        startImmediately: true
      })
      const results = [
        { outcome: "OUTCOME_STARTED", startedAt: instantText },
        { outcome: "OUTCOME_ALREADY_PULLING", startedAt: instantText },
        { outcome: "OUTCOME_RECENTLY_FAILED", cooldownUntil: instantText, failureClass: "FAILURE_CLASS_TRANSIENT" },
        {}
      ].map((result, index) => ({ digest: digests[index] as string, ...result }))
      const first = yield* foreign.accept
      assert.deepStrictEqual(yield* first.run(read, readAll, write({ pleasePullResponse: { results } }), close), [
        { message: batch(digests.slice(0, 256)) },
        nothing,
        nothing,
        nothing
      ])
      const second = yield* foreign.accept
      assert.deepStrictEqual(yield* second.run(read, write({ pleasePullResponse: {} }), close), [
        { message: batch(digests.slice(256)) },
        nothing,
        nothing
      ])
      const verdicts = [
        new Started({ startedAt: since }),
        new AlreadyPulling({ startedAt: since }),
        new RecentlyFailed({ cooldownUntil: since, failureClass: "transient" })
      ]
      assert.deepStrictEqual(
        yield* Fiber.join(calling),
        digests.map((digest, index) => new PleasePullOutcome({ digest, verdict: verdicts[index] ?? new Unspecified() }))
      )
    })
  )

  test(
    "gets a reply of a byte at a time, and one of exactly 1 MiB",
    Effect.gen(function* () {
      const { client, foreign } = yield* startOurClient("rust")
      const body = bytesField(2, numberField(4, 7))
      const whole = frame(concat(body, bytesField(15, new Uint8Array(maxMessageBytes - body.length - 4))))
      for (const step of [writeBytes(frame(body), 1), writeBytes(whole)]) {
        const intent = yield* answered(foreign, client.pullIntentQuery(target, wanted), step, close)
        assert.strictEqual(intent.hrwRank, 7)
      }
    })
  )

  for (const [title, steps, reason] of [
    ["when Rust closes without a reply", [close], "NoReply"],
    ["when Rust drops the stream, which is an end in peace once we have ended our side", [reset], "NoReply"],
    ["when the reply has 1 MiB + 1", [writeBytes(Uint8Array.of(0x81, 0x80, 0x40)), close], "ReplyTooLarge"],
    ["when the reply is for another question", [write({ pleasePullResponse: {} }), close], "UnexpectedReply"]
  ] satisfies ReadonlyArray<readonly [string, ReadonlyArray<Step>, CoordClientReason]>) {
    test(
      `gets a typed error ${title}`,
      Effect.gen(function* () {
        const { client, foreign, peer } = yield* startOurClient("rust")
        const error = yield* Effect.flip(answered(foreign, client.pullIntentQuery(target, wanted), ...steps))
        assert.deepInclude(error, { reason, phase: "reply", target })
        yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
      })
    )
  }

  test(
    "gets a typed error when Rust is silent; Rust sees a reset",
    Effect.gen(function* () {
      const { client, foreign, peer } = yield* startOurClient("rust")
      const calling = yield* Effect.forkChild(Effect.flip(client.pullIntentQuery(target, wanted)))
      const stream = yield* foreign.accept
      yield* stream.run(read, readAll)
      yield* TestClock.adjust("2 seconds")
      assert.deepInclude(yield* Fiber.join(calling), { reason: "TimedOut", phase: "reply" })
      assert.strictEqual(OurPeers.openStreams(peer), 0)
      // What comes behind the reset tells that it has arrived.
      yield* answered(foreign, client.pullIntentQuery(target, wanted), write({ pullIntentResponse: {} }), close)
      assert.deepStrictEqual(yield* stream.run(write({})), [{ error: "reset" }])
    })
  )

  test(
    "gets a typed error when Rust does not speak the protocol",
    Effect.gen(function* () {
      const { address } = yield* spawn("rust", "/gantry/coord/1.1.0")
      const { client } = yield* startClient({ resolve: () => Effect.succeedSome(address) })
      const error = yield* Effect.flip(client.pullIntentQuery(target, wanted))
      assert.deepInclude(error, { reason: "UnsupportedProtocol", phase: "reply" })
    })
  )
})
