/**
 * Our client, and a Go server (protocol, sections 1, 2, 7 and 9).
 */
import { assert, describe } from "@effect/vitest"
import type { CoordClientError, CoordClientReason } from "@gantry/coord/CoordClient"
import {
  AlreadyPulling,
  type Digest,
  maxMessageBytes,
  PleasePullOutcome,
  PullIntent,
  RecentlyFailed,
  Started,
  Timestamp,
  Unspecified,
  type Verdict
} from "@gantry/protocol"
import { digestOf, pleasePull } from "@gantry/testkit/Fixtures"
import { startClient } from "@gantry/testkit/suites/CoordFixture"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { bytesField, concat, frame, numberField } from "./bytes.ts"
import {
  answered,
  instant,
  instantText,
  manyDigests,
  nothing,
  other,
  serve,
  startOurClient,
  target,
  test,
  wanted
} from "./calls.ts"
import {
  close,
  closeConnection,
  isBuilt,
  type Json,
  read,
  readAll,
  reset,
  resetWith,
  type Step,
  spawn,
  write,
  writeBytes
} from "./ForeignPeer.ts"
import * as OurPeers from "./OurPeers.ts"

/** Go's zero time. */
const goZeroText = "0001-01-01T00:00:00Z"

const unknowing = new PullIntent({
  hasCached: false,
  inFlight: false,
  startedAt: Option.none(),
  hrwRank: 0,
  recentlyFailed: false,
  cooldownUntil: Option.none(),
  failureClass: "unspecified"
})

const since = Option.some(instant)

describe.skipIf(!isBuilt("go"))("Our client of a Go server", () => {
  test(
    "sends one frame that Go understands, and ends its side",
    Effect.gen(function* () {
      const { client, foreign: go, peer } = yield* startOurClient("go")
      const query = client.pullIntentQuery(target, wanted)
      const { outcomes, stream } = yield* serve(go, query, read, readAll, write({ pullIntentResponse: {} }), close)
      assert.deepStrictEqual(outcomes, [
        { message: { pullIntentRequest: { digest: wanted } } },
        nothing,
        nothing,
        nothing
      ])
      assert.deepInclude(stream, { peer: peer.address.peerId, security: "/noise", muxer: "/yamux/1.0.0" })
      yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
    })
  )

  describe("asking what it knows", () => {
    const learns = (title: string, response: Json, intent: Partial<PullIntent>) =>
      test(
        title,
        Effect.gen(function* () {
          const { client, foreign: go } = yield* startOurClient("go")
          const query = client.pullIntentQuery(target, wanted)
          assert.deepStrictEqual(
            yield* answered(go, query, write({ pullIntentResponse: response }), close),
            new PullIntent({ ...unknowing, ...intent })
          )
        })
      )
    learns("takes an answer of all defaults for rank 0 and nothing else", {}, {})
    learns("learns of rank -1", { hrwRank: -1 }, { hrwRank: -1 })
    learns("learns of the largest rank", { hrwRank: 2_147_483_647 }, { hrwRank: 2_147_483_647 })
    learns("learns of the smallest rank", { hrwRank: -2_147_483_648 }, { hrwRank: -2_147_483_648 })
    learns(
      "learns everything at once",
      {
        hasCached: true,
        inFlight: true,
        startedAt: instantText,
        hrwRank: 2,
        recentlyFailed: true,
        cooldownUntil: "2025-06-15T15:07:10Z",
        failureClass: "FAILURE_CLASS_NOT_FOUND"
      },
      {
        hasCached: true,
        inFlight: true,
        startedAt: since,
        hrwRank: 2,
        recentlyFailed: true,
        cooldownUntil: Option.some(Timestamp.make(1_750_000_030_000_000_000n)),
        failureClass: "not_found"
      }
    )
    learns(
      "takes no timestamps for none",
      { inFlight: true, recentlyFailed: true },
      { inFlight: true, recentlyFailed: true }
    )
    learns(
      "takes Go's zero time for none",
      { inFlight: true, startedAt: goZeroText, recentlyFailed: true, cooldownUntil: goZeroText },
      { inFlight: true, recentlyFailed: true }
    )
    learns(
      "takes the beginning of time for what it is",
      { inFlight: true, startedAt: "1970-01-01T00:00:00Z" },
      { inFlight: true, startedAt: Option.some(Timestamp.make(0n)) }
    )
    learns(
      "takes an instant before it for what it is",
      { inFlight: true, startedAt: "1969-12-31T23:59:59.999999999Z" },
      { inFlight: true, startedAt: Option.some(Timestamp.make(-1n)) }
    )
    for (const [wire, failureClass] of [
      ["FAILURE_CLASS_AUTH", "auth"],
      ["FAILURE_CLASS_RATE_LIMITED", "rate_limited"],
      ["FAILURE_CLASS_TRANSIENT", "transient"],
      [5, "unspecified"],
      [-1, "unspecified"]
    ] as const) {
      learns(`takes the failure class ${wire} for ${failureClass}`, { failureClass: wire }, { failureClass })
    }
  })

  describe("asking it to pull", () => {
    const learns = (title: string, result: Record<string, Json>, verdict: Verdict) =>
      test(
        title,
        Effect.gen(function* () {
          const { client, foreign: go } = yield* startOurClient("go")
          const results = [{ digest: wanted, ...result }]
          assert.deepStrictEqual(
            yield* answered(
              go,
              client.pleasePull(target, pleasePull([wanted])),
              write({ pleasePullResponse: { results } }),
              close
            ),
            [new PleasePullOutcome({ digest: wanted, verdict })]
          )
        })
      )
    learns(
      "learns that the pull started",
      { outcome: "OUTCOME_STARTED", startedAt: instantText },
      new Started({ startedAt: since })
    )
    learns(
      "learns that the pull runs",
      { outcome: "OUTCOME_ALREADY_PULLING", startedAt: instantText },
      new AlreadyPulling({ startedAt: since })
    )
    learns(
      "learns of a start that Go does not know",
      { outcome: "OUTCOME_ALREADY_PULLING", startedAt: goZeroText },
      new AlreadyPulling({ startedAt: Option.none() })
    )
    learns(
      "learns of a recent failure",
      { outcome: "OUTCOME_RECENTLY_FAILED", cooldownUntil: instantText, failureClass: "FAILURE_CLASS_AUTH" },
      new RecentlyFailed({ cooldownUntil: since, failureClass: "auth" })
    )
    learns(
      "learns of a recent failure about which nothing is said",
      { outcome: "OUTCOME_RECENTLY_FAILED" },
      new RecentlyFailed({ cooldownUntil: Option.none(), failureClass: "unspecified" })
    )
    learns("takes no outcome for unspecified", {}, new Unspecified())
    for (const outcome of [4, 2_147_483_647, -1]) {
      learns(
        `takes the outcome ${outcome} of another version for unspecified`,
        { outcome, startedAt: instantText },
        new Unspecified()
      )
    }

    /** The request as Go reads it. */
    const requestFor = (digests: ReadonlyArray<Digest>, kind: string) => ({
      message: {
        pleasePullRequest: {
          ...(digests.length > 0 && { digests }),
          upstreamRegistry: "registry.example.com",
          repository: "library/nginx",
          kind
        }
      }
    })
    const started = (digest: string) => ({ digest, outcome: "OUTCOME_STARTED", startedAt: instantText })

    for (const [kind, wire] of [
      ["layer", "KIND_BLOB"],
      ["manifest", "KIND_MANIFEST"],
      ["config", "KIND_CONFIG"]
    ] as const) {
      test(
        `asks for a ${kind} as ${wire}`,
        Effect.gen(function* () {
          const { client, foreign: go } = yield* startOurClient("go")
          const call = client.pleasePull(target, pleasePull([wanted, other], kind))
          const { outcomes } = yield* serve(go, call, read, readAll, write({ pleasePullResponse: {} }), close)
          assert.deepStrictEqual(outcomes.slice(0, 2), [requestFor([wanted, other], wire), nothing])
        })
      )
    }

    for (const [count, sizes] of [
      [0, [0]],
      [1, [1]],
      [256, [256]],
      [257, [256, 1]]
    ] as const) {
      test(
        `sends ${count} digests in batches of ${sizes.join(" and ")}, one after the other`,
        Effect.gen(function* () {
          const { client, foreign: go } = yield* startOurClient("go")
          const digests = manyDigests(count)
          const calling = yield* Effect.forkChild(client.pleasePull(target, pleasePull(digests)), {
            startImmediately: true
          })
          for (const [index, size] of sizes.entries()) {
            const batch = digests.slice(256 * index, 256 * index + size)
            const stream = yield* go.accept
            assert.deepStrictEqual(yield* stream.run(read, readAll), [requestFor(batch, "KIND_BLOB"), nothing])
            yield* stream.run(write({ pleasePullResponse: { results: batch.map(started) } }), close)
          }
          assert.deepStrictEqual(
            yield* Fiber.join(calling),
            digests.map((digest) => new PleasePullOutcome({ digest, verdict: new Started({ startedAt: since }) }))
          )
        })
      )
    }

    test(
      "keeps the order of its request, whatever is missing, foreign, malformed or there twice",
      Effect.gen(function* () {
        const { client, counts, foreign: go } = yield* startOurClient("go")
        const missing = digestOf("missing")
        const results = [
          started(digestOf("foreign")),
          { digest: other, outcome: "OUTCOME_ALREADY_PULLING", startedAt: instantText },
          started("no digest"),
          {},
          started(wanted),
          { digest: wanted, outcome: "OUTCOME_RECENTLY_FAILED" }
        ]
        const outcomes = yield* answered(
          go,
          client.pleasePull(target, pleasePull([wanted, missing, other])),
          write({ pleasePullResponse: { results } }),
          close
        )
        assert.deepStrictEqual(outcomes, [
          new PleasePullOutcome({ digest: wanted, verdict: new Started({ startedAt: since }) }),
          new PleasePullOutcome({ digest: missing, verdict: new Unspecified() }),
          new PleasePullOutcome({ digest: other, verdict: new AlreadyPulling({ startedAt: since }) })
        ])
        assert.deepStrictEqual(yield* counts, { foreignOutcomes: 3 })
      })
    )
  })

  describe("gets a reply", () => {
    const rank = (hrwRank: number) => new PullIntent({ ...unknowing, hrwRank })
    const gets = (title: string, bytes: Uint8Array, intent: PullIntent, segment?: number) =>
      test(
        title,
        Effect.gen(function* () {
          const { client, foreign: go } = yield* startOurClient("go")
          const query = client.pullIntentQuery(target, wanted)
          assert.deepStrictEqual(yield* answered(go, query, writeBytes(bytes, segment), close), intent)
        })
      )
    const body = bytesField(2, numberField(4, 7))
    const padding = bytesField(15, new Uint8Array(maxMessageBytes - body.length - 4))

    gets("a byte at a time", frame(body), rank(7), 1)
    gets("of exactly 1 MiB at once", frame(concat(body, padding)), rank(7))
    gets("of exactly 1 MiB in many segments", frame(concat(padding, body)), rank(7), 1000)
    gets("with more behind it", concat(frame(body), frame(new Uint8Array(300_000))), rank(7))
    gets(
      "of a newer version, without its fields",
      frame(
        concat(
          bytesField(5, "x"),
          bytesField(2, concat(numberField(4, 7), numberField(8, 1), bytesField(9, "y"))),
          numberField(6, 1)
        )
      ),
      rank(7)
    )
    gets(
      "whose rank is larger than a rank can be, as Go would read it",
      frame(bytesField(2, numberField(4, 2 ** 32 + 5))),
      rank(5)
    )

    test(
      "of a newer version about digests, without its fields and outcomes",
      Effect.gen(function* () {
        const { client, foreign: go } = yield* startOurClient("go")
        const result = concat(bytesField(1, wanted), numberField(2, 4), bytesField(6, "why"), numberField(7, 1))
        const reply = frame(bytesField(4, concat(bytesField(1, result), numberField(2, 9))))
        assert.deepStrictEqual(
          yield* answered(go, client.pleasePull(target, pleasePull([wanted])), writeBytes(reply), close),
          [new PleasePullOutcome({ digest: wanted, verdict: new Unspecified() })]
        )
      })
    )

    test(
      "before it has ended its own side",
      Effect.gen(function* () {
        const { client, foreign: go } = yield* startOurClient("go")
        const query = client.pullIntentQuery(target, wanted)
        const { exit } = yield* serve(go, query, writeBytes(frame(body)), close)
        assert.deepStrictEqual(exit, Exit.succeed(rank(7)))
      })
    )

    test(
      "and then a reset: with the reply, or with a typed error as Go itself would have",
      Effect.gen(function* () {
        const { client, foreign: go, peer } = yield* startOurClient("go")
        const query = client.pullIntentQuery(target, wanted)
        const { exit } = yield* serve(go, query, read, writeBytes(frame(body)), reset)
        if (Exit.isSuccess(exit)) assert.deepStrictEqual(exit.value, rank(7))
        else assert.strictEqual((yield* Effect.flip(exit)).reason, "Reset")
        yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
        assert.deepStrictEqual(yield* answered(go, query, writeBytes(frame(body)), close), rank(7))
      })
    )
  })

  describe("gets a typed error", () => {
    const fails = (
      title: string,
      steps: Array<Step>,
      reason: CoordClientReason,
      phase: CoordClientError["phase"] = "reply"
    ) =>
      test(
        title,
        Effect.gen(function* () {
          const { client, foreign: go, peer } = yield* startOurClient("go")
          const query = client.pullIntentQuery(target, wanted)
          const error = yield* Effect.flip(answered(go, query, ...steps))
          assert.deepInclude(error, { reason, phase, target })
          yield* OurPeers.eventually(() => OurPeers.openStreams(peer) === 0)
          // The next call finds the peer again.
          assert.deepStrictEqual(yield* answered(go, query, write({ pullIntentResponse: {} }), close), unknowing)
        })
      )
    fails("when Go closes without a reply", [close], "NoReply")
    fails("when Go resets the stream", [reset], "Reset")
    fails("when Go resets the stream and says why", [resetWith(0x1002)], "Reset")
    fails("when Go closes the connection", [closeConnection(0)], "Reset")
    fails("when Go closes the connection and says why", [closeConnection(0x1002)], "Reset")
    fails(
      "when the reply has 1 MiB + 1",
      [writeBytes(frame(new Uint8Array(maxMessageBytes + 1)).subarray(0, 4)), close],
      "ReplyTooLarge"
    )
    fails(
      "when the reply stops in the middle",
      [writeBytes(frame(new Uint8Array(9)).subarray(0, 5)), close],
      "ReplyMalformed"
    )
    fails("when the length is not minimal", [writeBytes(Uint8Array.of(0x80, 0x00)), close], "ReplyMalformed")
    fails("when the length has ten bytes", [writeBytes(new Uint8Array(10).fill(0xff)), close], "ReplyMalformed")
    fails("when the reply is not protobuf", [writeBytes(frame(Uint8Array.of(0x12, 0x7f))), close], "ReplyMalformed")
    fails("when the reply is empty", [write({}), close], "UnexpectedReply")
    fails("when the reply is for another question", [write({ pleasePullResponse: {} }), close], "UnexpectedReply")
    fails("when the reply is a question", [write({ pullIntentRequest: { digest: wanted } }), close], "UnexpectedReply")
    fails(
      "when the reply is of a kind that only a newer version knows",
      [writeBytes(frame(bytesField(5, "x"))), close],
      "UnexpectedReply"
    )

    test(
      "when Go is silent; Go sees a reset",
      Effect.gen(function* () {
        const { client, foreign: go, peer } = yield* startOurClient("go")
        const calling = yield* Effect.forkChild(Effect.flip(client.pullIntentQuery(target, wanted)))
        const stream = yield* go.accept
        assert.deepStrictEqual(yield* stream.run(read, readAll), [
          { message: { pullIntentRequest: { digest: wanted } } },
          nothing
        ])
        yield* TestClock.adjust("2 seconds")
        assert.deepInclude(yield* Fiber.join(calling), { reason: "TimedOut", phase: "reply" })
        assert.strictEqual(OurPeers.openStreams(peer), 0)
        // What comes behind the reset tells that it has arrived.
        yield* answered(go, client.pullIntentQuery(target, wanted), write({ pullIntentResponse: {} }), close)
        assert.deepStrictEqual(yield* stream.run(write({})), [{ error: "reset" }])
      })
    )

    test(
      "for a please_pull of several batches as soon as one fails, and sends no more",
      Effect.gen(function* () {
        const { client, foreign: go } = yield* startOurClient("go")
        const call = client.pleasePull(target, pleasePull(manyDigests(600)))
        const calling = yield* Effect.forkChild(Effect.flip(call), { startImmediately: true })
        const first = yield* go.accept
        yield* first.run(read, write({ pleasePullResponse: {} }), close)
        const second = yield* go.accept
        yield* second.run(read, close)
        assert.strictEqual((yield* Fiber.join(calling)).reason, "NoReply")
        const { outcomes } = yield* serve(go, client.pullIntentQuery(target, wanted), read, close)
        assert.deepStrictEqual(outcomes[0], { message: { pullIntentRequest: { digest: wanted } } })
      })
    )

    test(
      "when Go does not speak the protocol",
      Effect.gen(function* () {
        const go = yield* spawn("go", "/gantry/coord/1.1.0")
        const { client } = yield* startClient({ resolve: () => Effect.succeedSome(go.address) })
        const error = yield* Effect.flip(client.pullIntentQuery(target, wanted))
        assert.deepInclude(error, { reason: "UnsupportedProtocol", phase: "reply" })
      })
    )

    test(
      "when somebody else is at the address",
      Effect.gen(function* () {
        const { address } = yield* spawn("go")
        const { peerId } = (yield* OurPeers.join).address
        const addresses = address.addresses.map((text) => text.replace(address.peerId, peerId))
        const { client } = yield* startClient({ resolve: () => Effect.succeedSome({ peerId, addresses }) })
        const error = yield* Effect.flip(client.pullIntentQuery(target, wanted))
        assert.deepInclude(error, { reason: "Unreachable", phase: "dial" })
      })
    )
  })

  test(
    "resets its stream at once when its caller is interrupted",
    Effect.gen(function* () {
      const { client, foreign: go } = yield* startOurClient("go")
      const calling = yield* Effect.forkChild(client.pullIntentQuery(target, wanted))
      const stream = yield* go.accept
      yield* stream.run(read, readAll)
      yield* Fiber.interrupt(calling)
      yield* answered(go, client.pullIntentQuery(target, wanted), write({ pullIntentResponse: {} }), close)
      assert.deepStrictEqual(yield* stream.run(write({})), [{ error: "reset" }])
    })
  )

  test(
    "asks over the connection that Go opened",
    Effect.gen(function* () {
      const { client, foreign: go, peer } = yield* startOurClient("go")
      const stream = yield* go.open(peer.address)
      yield* stream.run(reset)
      for (const digest of [wanted, other]) {
        yield* answered(go, client.pullIntentQuery(target, digest), write({ pullIntentResponse: {} }), close)
      }
      assert.strictEqual(peer.libp2p.getConnections().length, 1)
    })
  )
})
