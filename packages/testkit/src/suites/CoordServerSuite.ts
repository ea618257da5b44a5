/**
 * What a coordination server does on the wire, over any transport (protocol,
 * sections 4, 5, 6 and 9).
 */

import { assert, describe, it } from "@effect/vitest"
import * as MembersView from "@gantry/coord/MembersView"
import { type PullReason, PumpResult } from "@gantry/coord/Pump"
import { StoreError } from "@gantry/coord/Store"
import {
  AlreadyPulling,
  type Digest,
  encodeFrame,
  type Message,
  maxMessageBytes,
  NodeId,
  PleasePullOutcome,
  PleasePullRequest,
  PullIntent,
  protocolId,
  RecentlyFailed,
  Registry,
  Repository,
  Started,
  timestampFromMillis,
  Unspecified
} from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { digestOf } from "../Fixtures.ts"
import {
  ask,
  frameOf,
  ioTurn,
  memberOf,
  messageIn,
  openRaw,
  Peers,
  readToEnd,
  type ServerOptions,
  sendRaw,
  serverNode,
  silence,
  startServer,
  whileTimePasses
} from "./CoordFixture.ts"

const wanted = digestOf("wanted")
const other = digestOf("other")
const startedAt = timestampFromMillis(1_750_000_000_000)
const cooldownUntil = timestampFromMillis(1_750_000_030_000)

const nothing = new PullIntent({
  hasCached: false,
  inFlight: false,
  startedAt: Option.none(),
  hrwRank: -1,
  recentlyFailed: false,
  cooldownUntil: Option.none(),
  failureClass: "unspecified"
})

const query: Message = { _tag: "PullIntentRequest", digest: wanted }
const batch = (digests: ReadonlyArray<string>, fields: { registry?: string; repository?: string } = {}): Message => ({
  _tag: "PleasePullRequest",
  registry: "registry.example.com",
  repository: "library/nginx",
  kind: "layer",
  digests,
  ...fields
})
const localBatch = (digests: ReadonlyArray<Digest>) =>
  new PleasePullRequest({
    registry: Registry.make("registry.example.com"),
    repository: Repository.make("library/nginx"),
    kind: "layer",
    digests
  })
const reason: PullReason = { rule: "designated", requester: "server", rank: 0 }
const manyDigests = (count: number) => Array.from({ length: count }, (_, index) => digestOf(`digest ${index}`))

/** A server and one peer that asks it. */
const pairUp = Effect.fnUntraced(function* (options?: ServerOptions) {
  const { join } = yield* Peers
  const server = yield* startServer(options)
  const peer = yield* join
  return { ...server, to: server.peer, from: peer }
})

const storeError = (reason: StoreError["reason"]) =>
  new StoreError({ reason, digest: wanted, cause: new Error("gone") })

/** The suite, over the network that the layer provides. */
export const coordServerSuite = (name: string, network: Layer.Layer<Peers>) => {
  const test = (title: string, body: Effect.Effect<void, unknown, Peers | Scope.Scope>) =>
    it.effect(title, () => Effect.provide(body, network))

  describe(`CoordServer over ${name}`, () => {
    describe("pull_intent_query", () => {
      const answersWith = (title: string, options: ServerOptions, intent: PullIntent, counts = {}) =>
        test(
          title,
          Effect.gen(function* () {
            const { counts: counted, from, to } = yield* pairUp(options)
            assert.deepStrictEqual(yield* ask(from, to, query), Option.some({ _tag: "PullIntentResponse", intent }))
            assert.deepStrictEqual(yield* counted, { pullIntentServed: 1, ...counts })
          })
        )

      answersWith("is answered with rank -1 and nothing else by a node that knows nothing", {}, nothing)

      answersWith(
        "says has_cached for a definite yes of the store",
        { has: (digest) => Effect.succeed(digest === wanted) },
        new PullIntent({ ...nothing, hasCached: true })
      )

      answersWith(
        "never takes an unavailable store for a yes, and counts it",
        { has: () => storeError("Unavailable") },
        nothing,
        { pullIntentStorageUnavailable: 1 }
      )

      answersWith(
        "never takes a failed store for a yes, and does not count it as unavailable",
        {
          has: () => storeError("Failed")
        },
        nothing
      )

      answersWith(
        "reports a recent failure with its cooldown and class",
        { failed: { cooldownUntil, failureClass: "rate_limited" } },
        new PullIntent({
          ...nothing,
          recentlyFailed: true,
          cooldownUntil: Option.some(cooldownUntil),
          failureClass: "rate_limited"
        })
      )

      answersWith(
        "says nothing of failures once it has the bytes",
        { has: () => Effect.succeed(true), failed: { cooldownUntil, failureClass: "not_found" } },
        new PullIntent({ ...nothing, hasCached: true })
      )

      answersWith(
        "fills in its own rank among all members",
        { view: Effect.succeed(MembersView.make([memberOf(serverNode)])) },
        new PullIntent({ ...nothing, hrwRank: 0 })
      )

      answersWith(
        "fills in rank -1 when it is not a member",
        { view: Effect.succeed(MembersView.make([memberOf(NodeId.make("someone else"))])) },
        nothing
      )

      test(
        "treats a store that does not answer in time as unavailable",
        Effect.gen(function* () {
          const asked = yield* Deferred.make<void>()
          const { counts, from, to } = yield* pairUp({
            has: () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never)
          })
          const answer = yield* Effect.forkChild(ask(from, to, query))
          yield* Deferred.await(asked)
          const reply = yield* whileTimePasses(Fiber.join(answer))
          assert.deepStrictEqual(reply, Option.some({ _tag: "PullIntentResponse", intent: nothing }))
          assert.deepStrictEqual(yield* counts, { pullIntentServed: 1, pullIntentStorageUnavailable: 1 })
        })
      )

      test(
        "reports a running pull and its start, whether or not the store has the bytes",
        Effect.gen(function* () {
          let cached = false
          const { from, inflight, to } = yield* pairUp({ has: () => Effect.sync(() => cached) })
          const { entry } = yield* inflight.start(wanted, "layer", Option.none())
          const running = new PullIntent({
            ...nothing,
            inFlight: true,
            startedAt: Option.some(entry.startedAt),
            progress: Option.some({ receivedBytes: 0, totalBytes: Option.none() })
          })
          assert.deepStrictEqual(
            yield* ask(from, to, query),
            Option.some({ _tag: "PullIntentResponse", intent: running })
          )
          cached = true
          assert.deepStrictEqual(
            yield* ask(from, to, query),
            Option.some({ _tag: "PullIntentResponse", intent: new PullIntent({ ...running, hasCached: true }) })
          )
        })
      )

      test(
        "is answered the same in process, without authorization and without counting as served",
        Effect.gen(function* () {
          const { counts, server } = yield* pairUp({
            config: { peerAuthorization: "enforce" },
            view: Effect.succeed(MembersView.make([memberOf(serverNode)])),
            has: () => storeError("Unavailable")
          })
          assert.deepStrictEqual(yield* server.localPullIntent(wanted), new PullIntent({ ...nothing, hrwRank: 0 }))
          assert.deepStrictEqual(yield* counts, { pullIntentStorageUnavailable: 1 })
        })
      )
    })

    describe("please_pull", () => {
      const decides = (
        title: string,
        result: PumpResult | undefined,
        verdict: PleasePullOutcome["verdict"],
        counts = {}
      ) =>
        test(
          title,
          Effect.gen(function* () {
            const pull = result === undefined ? {} : { pull: () => Effect.succeed(result) }
            const { counts: counted, from, to } = yield* pairUp(pull)
            assert.deepStrictEqual(
              yield* ask(from, to, batch([wanted])),
              Option.some({ _tag: "PleasePullResponse", results: [{ digest: wanted, verdict }] })
            )
            assert.deepStrictEqual(yield* counted, { pleasePullServed: 1, ...counts })
          })
        )

      decides(
        "answers STARTED with the start, and counts it",
        PumpResult.Started({ startedAt }),
        new Started({ startedAt: Option.some(startedAt) }),
        { pleasePullStarted: 1 }
      )
      decides(
        "answers ALREADY_PULLING with the start of the running pull",
        PumpResult.AlreadyPulling({ startedAt }),
        new AlreadyPulling({ startedAt: Option.some(startedAt) })
      )
      decides(
        "answers RECENTLY_FAILED with cooldown and class",
        PumpResult.RecentlyFailed({ cooldownUntil, failureClass: "auth" }),
        new RecentlyFailed({ cooldownUntil: Option.some(cooldownUntil), failureClass: "auth" })
      )
      decides("answers UNSPECIFIED when the pump declines, and counts it", PumpResult.Declined(), new Unspecified(), {
        pleasePullDeclined: 1
      })
      decides("answers UNSPECIFIED without any metric when no pump is wired", undefined, new Unspecified())

      test(
        "tells the pump the reference, the kind, who asked and our own rank",
        Effect.gen(function* () {
          const requests: Array<unknown> = []
          const { from, to } = yield* pairUp({
            view: Effect.succeed(MembersView.make([memberOf(serverNode)])),
            pull: (request) =>
              Effect.sync(() => {
                requests.push(request)
                return PumpResult.Declined()
              })
          })
          yield* ask(from, to, { ...batch([wanted]), kind: "manifest" } as Message)
          assert.deepStrictEqual(JSON.parse(JSON.stringify(requests)), [
            {
              ref: { registry: "registry.example.com", repository: "library/nginx", digest: wanted },
              kind: "manifest",
              reason: { rule: "please_pull", requester: from.address.peerId, rank: 0 }
            }
          ])
        })
      )

      test(
        "decides in the order of the request",
        Effect.gen(function* () {
          const digests = manyDigests(20)
          const asked: Array<Digest> = []
          const { from, to } = yield* pairUp({
            pull: ({ ref }) =>
              Effect.sync(() => {
                asked.push(ref.digest)
                return PumpResult.Declined()
              })
          })
          const reply = Option.getOrThrow(yield* ask(from, to, batch(digests)))
          assert.deepStrictEqual(asked, digests)
          assert.deepStrictEqual(
            reply._tag === "PleasePullResponse" && reply.results.map(({ digest }) => digest),
            digests
          )
        })
      )

      const isDropped = (title: string, message: Message) =>
        test(
          title,
          Effect.gen(function* () {
            let calls = 0
            const { counts, from, to } = yield* pairUp({
              pull: () =>
                Effect.sync(() => {
                  calls++
                  return PumpResult.Declined()
                })
            })
            assert.deepStrictEqual(yield* sendRaw(from, to, frameOf(message)), silence)
            assert.deepStrictEqual(yield* counts, { "streamError:request": 1 })
            assert.strictEqual(calls, 0)
          })
        )

      isDropped("is dropped without a registry", batch([wanted], { registry: "" }))
      isDropped("is dropped without a repository", batch([wanted], { repository: "" }))
      isDropped("is dropped without a registry even when it names no digest", batch([], { registry: "" }))
      isDropped("is dropped for a repository that climbs out", batch([wanted], { repository: "../../etc/passwd" }))
      isDropped("is dropped for a registry with credentials", batch([wanted], { registry: "user:secret@example.com" }))
      isDropped("is dropped for a registry with a newline", batch([wanted], { registry: "example.com\nHost: evil" }))
      isDropped("is dropped for a registry with spaces", batch([wanted], { registry: "registry example" }))
      isDropped("is dropped over the cap on digests, and the pump is never called", batch(manyDigests(257)))

      test(
        "is answered with nothing, and counted as served, when it names no digest",
        Effect.gen(function* () {
          const { counts, from, to } = yield* pairUp()
          assert.deepStrictEqual(
            yield* ask(from, to, batch([])),
            Option.some({ _tag: "PleasePullResponse", results: [] })
          )
          assert.deepStrictEqual(yield* counts, { pleasePullServed: 1 })
        })
      )

      test(
        "is served at the cap on digests",
        Effect.gen(function* () {
          const { counts, from, to } = yield* pairUp({ pull: () => Effect.succeed(PumpResult.Started({ startedAt })) })
          const reply = Option.getOrThrow(yield* ask(from, to, batch(manyDigests(256))))
          assert.strictEqual(reply._tag === "PleasePullResponse" && reply.results.length, 256)
          assert.deepStrictEqual(yield* counts, { pleasePullServed: 1, pleasePullStarted: 256 })
        })
      )

      test(
        "leaves malformed digests out, counts them, and goes on",
        Effect.gen(function* () {
          const { counts, from, to } = yield* pairUp()
          const reply = yield* ask(from, to, batch([` ${wanted}`, wanted, "sha256:ABC", other, wanted.toUpperCase()]))
          const verdict = new Unspecified()
          assert.deepStrictEqual(
            reply,
            Option.some({
              _tag: "PleasePullResponse",
              results: [
                { digest: wanted, verdict },
                { digest: other, verdict }
              ]
            })
          )
          assert.deepStrictEqual(yield* counts, { pleasePullServed: 1, pleasePullMalformedDigest: 3 })
        })
      )

      test(
        "answers what it has when the dispatch deadline comes, and the rest as unspecified",
        Effect.gen(function* () {
          const stuck = yield* Deferred.make<void>()
          const { counts, from, to } = yield* pairUp({
            pull: ({ ref }) =>
              ref.digest === wanted
                ? Effect.succeed(PumpResult.Started({ startedAt }))
                : Effect.andThen(Deferred.succeed(stuck, undefined), Effect.never)
          })
          const answer = yield* Effect.forkChild(ask(from, to, batch([wanted, other, digestOf("third")])))
          yield* Deferred.await(stuck)
          assert.deepStrictEqual(
            yield* whileTimePasses(Fiber.join(answer)),
            Option.some<Message>({
              _tag: "PleasePullResponse",
              results: [
                { digest: wanted, verdict: new Started({ startedAt: Option.some(startedAt) }) },
                { digest: other, verdict: new Unspecified() },
                { digest: digestOf("third"), verdict: new Unspecified() }
              ]
            })
          )
          assert.deepStrictEqual(yield* counts, { pleasePullServed: 1, pleasePullStarted: 1 })
        })
      )

      test(
        "tells of a pull that began although the pump did not say so in time",
        Effect.gen(function* () {
          const stuck = yield* Deferred.make<void>()
          const { from, inflight, to } = yield* pairUp({
            pull: () => Effect.andThen(Deferred.succeed(stuck, undefined), Effect.never)
          })
          const { entry } = yield* inflight.start(wanted, "layer", Option.none())
          const answer = yield* Effect.forkChild(ask(from, to, batch([wanted])))
          yield* Deferred.await(stuck)
          assert.deepStrictEqual(
            yield* whileTimePasses(Fiber.join(answer)),
            Option.some<Message>({
              _tag: "PleasePullResponse",
              results: [{ digest: wanted, verdict: new AlreadyPulling({ startedAt: Option.some(entry.startedAt) }) }]
            })
          )
        })
      )

      test(
        "keeps the outcomes it has when the pump dies in the middle",
        Effect.gen(function* () {
          const { from, to } = yield* pairUp({
            pull: ({ ref }) =>
              ref.digest === wanted ? Effect.succeed(PumpResult.Started({ startedAt })) : Effect.die("the pump broke")
          })
          assert.deepStrictEqual(
            yield* ask(from, to, batch([wanted, other])),
            Option.some({
              _tag: "PleasePullResponse",
              results: [
                { digest: wanted, verdict: new Started({ startedAt: Option.some(startedAt) }) },
                { digest: other, verdict: new Unspecified() }
              ]
            })
          )
        })
      )
    })

    describe("startLocalPull", () => {
      test(
        "splits by the cap instead of refusing, and never counts as served",
        Effect.gen(function* () {
          const digests = manyDigests(600)
          const { counts, server } = yield* pairUp({ pull: () => Effect.succeed(PumpResult.Started({ startedAt })) })
          const outcomes = yield* server.startLocalPull(localBatch(digests), reason)
          assert.deepStrictEqual(
            outcomes,
            digests.map(
              (digest) => new PleasePullOutcome({ digest, verdict: new Started({ startedAt: Option.some(startedAt) }) })
            )
          )
          assert.deepStrictEqual(yield* counts, { pleasePullStarted: 600 })
        })
      )

      test(
        "gives each part its own dispatch deadline",
        Effect.gen(function* () {
          const { server } = yield* pairUp({
            pull: () => Effect.delay(Effect.succeed(PumpResult.Started({ startedAt })), "7 millis")
          })
          const outcomes = yield* whileTimePasses(server.startLocalPull(localBatch(manyDigests(600)), reason))
          assert.isTrue(outcomes.every(({ verdict }) => verdict._tag === "Started"))
        })
      )

      test(
        "gives what it has when the pump hangs or dies",
        Effect.gen(function* () {
          for (const end of [Effect.never, Effect.die("the pump broke")]) {
            const { server } = yield* pairUp({
              pull: ({ ref }) => (ref.digest === wanted ? Effect.succeed(PumpResult.Started({ startedAt })) : end)
            })
            const outcomes = yield* whileTimePasses(server.startLocalPull(localBatch([wanted, other]), reason))
            assert.deepStrictEqual(
              outcomes.map(({ verdict }) => verdict._tag),
              ["Started", "Unspecified"]
            )
          }
        })
      )

      test(
        "gives unspecified outcomes without a pump",
        Effect.gen(function* () {
          const { counts, server } = yield* pairUp()
          const outcomes = yield* server.startLocalPull(localBatch([wanted]), reason)
          assert.deepStrictEqual(outcomes, [new PleasePullOutcome({ digest: wanted, verdict: new Unspecified() })])
          assert.deepStrictEqual(yield* counts, {})
        })
      )
    })

    describe("a stream that ends without a reply", () => {
      const body = frameOf(query).subarray(1)
      const isDropped = (title: string, bytes: Uint8Array, cause: string) =>
        test(
          title,
          Effect.gen(function* () {
            const { counts, from, to } = yield* pairUp()
            assert.deepStrictEqual(yield* sendRaw(from, to, bytes), silence)
            assert.deepStrictEqual(yield* counts, { [`streamError:${cause}`]: 1 })
          })
        )

      isDropped("is counted once for an end before the frame", new Uint8Array(), "read")
      isDropped("is counted once for an end inside the length", Uint8Array.of(0x80), "read")
      isDropped("is counted once for an end inside the body", frameOf(query).subarray(0, 20), "read")
      isDropped("is counted once for a length of 1 MiB + 1", Uint8Array.of(0x81, 0x80, 0x40), "read")
      isDropped("is counted once for a length that is not minimal", Uint8Array.of(0xcb, 0x00, ...body), "read")
      isDropped("is counted once for a length of ten bytes", new Uint8Array(10).fill(0xff), "read")
      isDropped("is counted once for bytes that are not protobuf", encodeFrame(Uint8Array.of(0x0a, 0x7f)), "decode")
      isDropped("is counted once for text that is not UTF-8", encodeFrame(Uint8Array.of(10, 3, 10, 1, 0xff)), "decode")
      isDropped("is counted once for an empty envelope", Uint8Array.of(0), "request")
      isDropped(
        "is counted once for a response sent as a request",
        frameOf({ _tag: "PullIntentResponse", intent: nothing }),
        "request"
      )
      isDropped(
        "is counted once for a please_pull response sent as a request",
        frameOf({ _tag: "PleasePullResponse", results: [] }),
        "request"
      )
      isDropped(
        "is counted once for a query for a malformed digest",
        frameOf({ _tag: "PullIntentRequest", digest: "sha256:short" }),
        "request"
      )

      test(
        "is counted once for a defect",
        Effect.gen(function* () {
          const { counts, from, to } = yield* pairUp({ has: () => Effect.die("the store broke") })
          assert.deepStrictEqual(yield* sendRaw(from, to, frameOf(query)), silence)
          assert.deepStrictEqual(yield* counts, { "streamError:defect": 1 })
        })
      )

      test(
        "is counted once when the reply cannot be written",
        Effect.gen(function* () {
          const pulling = yield* Deferred.make<void>()
          const proceed = yield* Deferred.make<PumpResult>()
          const { counts, from, to } = yield* pairUp({
            pull: () => Effect.andThen(Deferred.succeed(pulling, undefined), Deferred.await(proceed))
          })
          const stream = yield* openRaw(from, to)
          yield* stream.write(frameOf(batch([wanted])))
          yield* Deferred.await(pulling)
          yield* stream.reset
          // What comes behind the reset tells that it has arrived.
          yield* ask(from, to, query)
          yield* Deferred.succeed(proceed, PumpResult.Declined())
          while ((yield* counts)["streamError:write"] === undefined) yield* ioTurn
          assert.deepStrictEqual(yield* counts, {
            pleasePullDeclined: 1,
            pullIntentServed: 1,
            "streamError:write": 1
          })
        })
      )

      for (const [title, bytes] of [
        ["a peer that sends nothing", new Uint8Array()],
        ["a peer that stops inside the length", Uint8Array.of(0x80)],
        ["a peer that stops inside the body", frameOf(query).subarray(0, 20)],
        ["a peer that announces 1 MiB and sends nothing of it", Uint8Array.of(0x80, 0x80, 0x40)]
      ] as const) {
        test(
          `ends in peace, and is counted once, at the deadline for ${title}`,
          Effect.gen(function* () {
            const { counts, from, to } = yield* pairUp()
            const stream = yield* openRaw(from, to)
            if (bytes.length > 0) yield* stream.write(bytes)
            assert.deepStrictEqual(yield* whileTimePasses(readToEnd(stream)), silence)
            assert.deepStrictEqual(yield* counts, { "streamError:deadline": 1 })
          })
        )
      }
    })

    describe("frames", () => {
      test(
        "of exactly 1 MiB are read",
        Effect.gen(function* () {
          const { counts, from, to } = yield* pairUp()
          const registry = "r".repeat(maxMessageBytes - 10)
          const frame = frameOf(batch([], { registry, repository: "" }))
          assert.strictEqual(frame.length, maxMessageBytes + 3)
          assert.deepStrictEqual(yield* sendRaw(from, to, frame), silence)
          assert.deepStrictEqual(yield* counts, { "streamError:request": 1 })
        })
      )

      test(
        "are answered before the peer ends its side, and what follows the first is never read",
        Effect.gen(function* () {
          const { counts, from, to } = yield* pairUp()
          const stream = yield* openRaw(from, to)
          yield* stream.write(frameOf(query))
          yield* Effect.ignore(stream.write(frameOf(batch([wanted]))))
          assert.deepStrictEqual(
            messageIn(yield* readToEnd(stream)),
            Option.some({
              _tag: "PullIntentResponse",
              intent: nothing
            })
          )
          assert.deepStrictEqual(yield* counts, { pullIntentServed: 1 })
        })
      )

      test(
        "may come one byte at a time",
        Effect.gen(function* () {
          const { from, to } = yield* pairUp()
          const stream = yield* openRaw(from, to)
          for (const byte of frameOf(query)) yield* stream.write(Uint8Array.of(byte))
          assert.isTrue(Option.isSome(messageIn(yield* readToEnd(stream))))
        })
      )
    })

    describe("slots", () => {
      test(
        "run out at the cap: one stream more is reset at once and counted, and a slot is free again after a stream",
        Effect.gen(function* () {
          const { counts, from, to } = yield* pairUp({ config: { maxConcurrentStreams: 2 } })
          const held = yield* Scope.make()
          const hold = Effect.gen(function* () {
            const stream = yield* openRaw(from, to)
            yield* stream.write(Uint8Array.of(0x80))
            return stream
          })
          const first = yield* Scope.provide(hold, held)
          const second = yield* hold
          assert.deepStrictEqual(yield* sendRaw(from, to, frameOf(query)), { _tag: "Reset" })
          assert.deepStrictEqual(yield* counts, { "streamError:stream_limit": 1 })
          yield* first.closeWrite
          assert.deepStrictEqual(yield* readToEnd(first), silence)
          assert.isTrue(Option.isSome(yield* ask(from, to, query)))
          yield* second.reset
          yield* Scope.close(held, Exit.void)
        })
      )

      test(
        "of one peer run out before those of all: others are still served",
        Effect.gen(function* () {
          const { join } = yield* Peers
          const { counts, from, to } = yield* pairUp({
            config: { maxConcurrentStreams: 3, maxConcurrentStreamsPerPeer: 1 }
          })
          const honest = yield* join
          const stream = yield* openRaw(from, to)
          yield* stream.write(Uint8Array.of(0x80))
          assert.deepStrictEqual(yield* sendRaw(from, to, frameOf(query)), { _tag: "Reset" })
          assert.deepStrictEqual(yield* counts, { "streamError:peer_stream_limit": 1 })
          assert.isTrue(Option.isSome(yield* ask(honest, to, query)))
          yield* stream.closeWrite
          assert.deepStrictEqual(yield* readToEnd(stream), silence)
          assert.isTrue(Option.isSome(yield* ask(from, to, query)))
        })
      )

      test(
        "are given back after every kind of ending",
        Effect.gen(function* () {
          let broken = true
          const { from, to } = yield* pairUp({
            config: { maxConcurrentStreams: 1 },
            has: () => (broken ? Effect.die("the store broke") : Effect.succeed(false))
          })
          yield* sendRaw(from, to, frameOf(query))
          yield* sendRaw(from, to, Uint8Array.of(0))
          yield* sendRaw(from, to, new Uint8Array(10).fill(0xff))
          const silent = yield* openRaw(from, to)
          yield* whileTimePasses(readToEnd(silent))
          broken = false
          assert.isTrue(Option.isSome(yield* ask(from, to, query)))
        })
      )
    })

    describe("authorization", () => {
      const asks = (
        title: string,
        enforce: boolean,
        standing: "match" | "unrecognized" | "unevaluable" | "no membership",
        expected: { readonly served: boolean; readonly counts: Record<string, number> }
      ) =>
        test(
          title,
          Effect.gen(function* () {
            const { join } = yield* Peers
            const from = yield* join
            const someone = yield* join
            const view = {
              match: MembersView.make([memberOf(NodeId.make("a"), from)]),
              unrecognized: MembersView.make([memberOf(NodeId.make("a"), someone), memberOf(NodeId.make("b"))]),
              unevaluable: MembersView.make([memberOf(NodeId.make("a"))]),
              "no membership": MembersView.none
            }[standing]
            const server = yield* startServer({
              config: { peerAuthorization: enforce ? "enforce" : "observe" },
              view: Effect.succeed(view)
            })
            const reply = yield* ask(from, server.peer, query)
            assert.strictEqual(Option.isSome(reply), expected.served)
            assert.deepStrictEqual(yield* server.counts, expected.counts)
          })
        )
      const served = { pullIntentServed: 1 }
      const unrecognized = { "unauthorizedPeer:unrecognized": 1 }
      const unevaluable = { "unauthorizedPeer:unevaluable": 1 }

      asks("observing, serves without a membership", false, "no membership", { served: true, counts: served })
      asks("observing, serves a member", false, "match", { served: true, counts: served })
      asks("observing, serves a stranger and counts it", false, "unrecognized", {
        served: true,
        counts: { ...served, ...unrecognized }
      })
      asks("observing, serves in silence while nobody has published an id", false, "unevaluable", {
        served: true,
        counts: served
      })
      asks("enforcing, serves without a membership", true, "no membership", { served: true, counts: served })
      asks("enforcing, serves a member", true, "match", { served: true, counts: served })
      asks("enforcing, drops a stranger before dispatch, as no stream error", true, "unrecognized", {
        served: false,
        counts: unrecognized
      })
      asks("enforcing, drops everyone while nobody has published an id", true, "unevaluable", {
        served: false,
        counts: unevaluable
      })

      test(
        "comes before dispatch: a stranger's empty envelope counts as both when observing",
        Effect.gen(function* () {
          const { join } = yield* Peers
          const someone = yield* join
          const { counts, from, to } = yield* pairUp({
            view: Effect.succeed(MembersView.make([memberOf(NodeId.make("a"), someone)]))
          })
          assert.deepStrictEqual(yield* sendRaw(from, to, Uint8Array.of(0)), silence)
          assert.deepStrictEqual(yield* counts, { ...unrecognized, "streamError:request": 1 })
        })
      )

      test(
        "follows the membership as it changes",
        Effect.gen(function* () {
          const { join } = yield* Peers
          const from = yield* join
          const someone = yield* join
          let view = MembersView.make([memberOf(NodeId.make("a"), someone)])
          const server = yield* startServer({
            config: { peerAuthorization: "enforce" },
            view: Effect.sync(() => view)
          })
          assert.deepStrictEqual(yield* ask(from, server.peer, query), Option.none())
          view = view.update([memberOf(NodeId.make("a"), someone), memberOf(NodeId.make("b"), from)])
          assert.isTrue(Option.isSome(yield* ask(from, server.peer, query)))
        })
      )

      test(
        "takes one snapshot of the membership per stream",
        Effect.gen(function* () {
          let snapshots = 0
          const { from, to } = yield* pairUp({
            view: Effect.sync(() => {
              snapshots++
              return MembersView.none
            })
          })
          yield* ask(from, to, query)
          yield* ask(from, to, batch(manyDigests(3)))
          assert.strictEqual(snapshots, 2)
        })
      )

      test(
        "warns about strangers at most once in 30 seconds, whoever they are, and counts each",
        Effect.gen(function* () {
          const warnings: Array<unknown> = []
          const recording = Logger.make(({ logLevel, message }) => {
            if (logLevel === "Warn") warnings.push(message)
          })
          yield* Effect.gen(function* () {
            const { join } = yield* Peers
            const strangers = [yield* join, yield* join]
            const someone = yield* join
            const server = yield* startServer({
              view: Effect.succeed(MembersView.make([memberOf(NodeId.make("a"), someone)]))
            })
            const askBoth = Effect.forEach(strangers, (stranger) => ask(stranger, server.peer, query))
            yield* askBoth
            assert.strictEqual(warnings.length, 1)
            yield* TestClock.adjust("29999 millis")
            yield* askBoth
            assert.strictEqual(warnings.length, 1)
            yield* TestClock.adjust("1 millis")
            yield* askBoth
            assert.strictEqual(warnings.length, 2)
            assert.deepStrictEqual(yield* server.counts, {
              pullIntentServed: 6,
              "unauthorizedPeer:unrecognized": 6
            })
          }).pipe(Effect.provide(Logger.layer([recording])))
        })
      )
    })

    describe("shutdown", () => {
      /** A server whose pump waits to be told, in a scope of its own. */
      const stoppable = Effect.gen(function* () {
        const { join } = yield* Peers
        const peer = yield* join
        const scope = yield* Scope.make()
        const pulling = yield* Deferred.make<void>()
        const proceed = yield* Deferred.make<PumpResult>()
        const server = yield* Scope.provide(
          startServer({
            peer,
            config: { dispatchTimeout: "1 hour", streamHandshakeTimeout: "3 hours", shutdownGrace: "5 seconds" },
            pull: () => Effect.andThen(Deferred.succeed(pulling, undefined), Deferred.await(proceed))
          }),
          scope
        )
        const from = yield* join
        const stream = yield* openRaw(from, server.peer)
        yield* stream.write(frameOf(batch([wanted])))
        yield* Deferred.await(pulling)
        const ending = yield* Effect.forkChild(readToEnd(stream), { startImmediately: true })
        return { ...server, scope, proceed, ending, from }
      })

      test(
        "lets a running stream finish within the grace period",
        Effect.gen(function* () {
          const { counts, ending, proceed, scope } = yield* stoppable
          const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
          yield* TestClock.adjust("4999 millis")
          yield* Deferred.succeed(proceed, PumpResult.Started({ startedAt }))
          yield* Fiber.join(closing)
          assert.isTrue(Option.isSome(messageIn(yield* Fiber.join(ending))))
          assert.deepStrictEqual(yield* counts, { pleasePullServed: 1, pleasePullStarted: 1 })
        })
      )

      test(
        "refuses new streams from the beginning of the grace period",
        Effect.gen(function* () {
          const { ending, from, peer, proceed, scope } = yield* stoppable
          const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
          const open = from.transport.open(peer.address, protocolId)
          const use = Effect.scoped(Effect.flatMap(open, ({ write }) => write(Uint8Array.of(1))))
          while (Exit.isSuccess(yield* Effect.exit(use))) yield* ioTurn
          assert.strictEqual((yield* Effect.flip(use)).reason, "UnsupportedProtocol")
          yield* Deferred.succeed(proceed, PumpResult.Declined())
          assert.isTrue(Option.isSome(messageIn(yield* Fiber.join(ending))))
          yield* Fiber.join(closing)
        })
      )

      test(
        "interrupts and resets a running stream after the grace period, and counts it",
        Effect.gen(function* () {
          const { counts, ending, scope } = yield* stoppable
          const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
          yield* TestClock.adjust("5 seconds")
          yield* Fiber.join(closing)
          assert.deepStrictEqual(yield* Fiber.join(ending), { _tag: "Reset" })
          assert.deepStrictEqual(yield* counts, { "streamError:shutdown": 1 })
        })
      )
    })
  })
}
