import type * as Http from "node:http"
import * as Http2 from "node:http2"
import { NodeServices } from "@effect/platform-node"
import * as Undici from "@effect/platform-node/Undici"
import { assert, describe, it } from "@effect/vitest"
import { Members, Store, Transfer } from "@gantry/coord"
import { BlobStore, ImageLayout, Manifest, PeerTransfer } from "@gantry/oci"
import { type ContentKind, type Digest, Member, NodeId } from "@gantry/protocol"
import { Duration, Effect, Fiber, FileSystem, Latch, Layer, Logger, Option, Queue, References } from "effect"
import { TestClock } from "effect/testing"
import { layerBlobs } from "./support/blobs.ts"
import { bytesOf, putBlob, readBlob } from "./support/bytes.ts"
import {
  firstOf,
  h2cPeer,
  honestPeer,
  makeProgress,
  memberAt,
  type Progress,
  scriptedPeer,
  sendAll,
  sendUntil
} from "./support/peers.ts"

const bytes = bytesOf(1, 500_000)
const digest = BlobStore.digestOf(bytes)
const wrong = bytesOf(2, 500_000)

const honest = (name: string) => honestPeer(name, BlobStore.layerMemory([bytes]))

const whole = (name: string) => scriptedPeer(name, (response, asked) => sendAll(response, asked, bytes))

/** Sends the right bytes up to a point, at every request. */
const breaking = (name: string, until: number, progress: Progress) =>
  scriptedPeer(name, (response, asked) => sendUntil(response, asked, bytes, until, progress))

const fetch = (
  holders: ReadonlyArray<Member>,
  request: { readonly digest?: Digest; readonly kind?: ContentKind; readonly size?: number | undefined } = {}
) =>
  Transfer.Transfer.use((transfer) =>
    transfer.fetch({
      digest: request.digest ?? digest,
      kind: request.kind ?? "layer",
      size: Option.fromUndefinedOr("size" in request ? request.size : bytes.length),
      holders
    })
  )

const attemptsOf = (error: Transfer.TransferError) => {
  assert(error.reason._tag === "NoHolder")
  return error.reason.attempts
}
const problems = (error: Transfer.TransferError) => attemptsOf(error).map(({ _tag, holder }) => `${holder} ${_tag}`)
const has = BlobStore.BlobStore.use((store) => store.has(digest))
const assertStored = Effect.gen(function* () {
  assert.deepStrictEqual(yield* readBlob(digest), Option.some(digest))
})

const receiving = (
  options?: PeerTransfer.Options,
  store: Layer.Layer<BlobStore.BlobStore> = Layer.fresh(BlobStore.layerMemory()),
  members: Layer.Layer<Members.Members> = Members.layerNone
) => Effect.provide(PeerTransfer.layer(options).pipe(Layer.provide(members), Layer.provideMerge(store)))

/** On the machine's clock, with no time limit that matters: for what takes several rounds. */
const untimed = { connectTimeout: "1 minute", stallTimeout: "1 minute", pause: "1 millis" } as const

/** Receives into a store whose progress the peers can follow. */
const following = <A, E, R>(
  run: (progress: Progress) => Effect.Effect<A, E, R>,
  options: PeerTransfer.Options = untimed
) => {
  const progress = makeProgress()
  return run(progress).pipe(receiving(options, progress.store))
}

/** Warnings about liars are what these tests provoke. */
const quietly = Effect.provideService(References.MinimumLogLevel, "Error")

describe("PeerTransfer", () => {
  it.effect("brings a blob from a holder into the store", () =>
    Effect.gen(function* () {
      const holder = yield* honest("a")
      assert.deepStrictEqual(yield* fetch([holder]), { bytes: bytes.length, holder: holder.nodeId })
      yield* assertStored
    }).pipe(receiving())
  )

  it.effect("asks for blobs and manifests where a registry has them, marked as a peer", () =>
    Effect.gen(function* () {
      const { member, requests } = yield* scriptedPeer("a", (response) => response.writeHead(404).end())
      for (const kind of ["layer", "config", "manifest"] as const) {
        yield* Effect.flip(fetch([member], { kind }))
        const folder = kind === "manifest" ? "manifests" : "blobs"
        assert.deepStrictEqual(yield* Queue.take(requests), {
          url: `/v2/gantry/${folder}/${digest}`,
          range: undefined,
          mirrored: "1"
        })
      }
    }).pipe(receiving())
  )

  it.effect("tells what each holder did instead of delivering, and asks each once", () =>
    Effect.gen(function* () {
      const absent = yield* honestPeer("absent", BlobStore.layerMemory())
      const unavailable = yield* honestPeer(
        "unavailable",
        layerBlobs([bytes], () => ({
          size: (digest) => Effect.fail(new Store.StoreError({ reason: "Unavailable", digest, cause: "gone" }))
        }))
      )
      const busy = yield* scriptedPeer("busy", (response) => response.writeHead(503, { "retry-after": "1" }).end())
      const elsewhere = yield* honest("elsewhere")
      const redirecting = yield* scriptedPeer("redirecting", (response, { url }) =>
        response.writeHead(307, { location: `http://${Option.getOrThrow(elsewhere.contentAddress)}${url}` }).end()
      )
      const lured = yield* whole("lured")
      const error = yield* Effect.flip(
        fetch([
          absent,
          unavailable,
          busy.member,
          redirecting.member,
          memberAt("dead", "127.0.0.1:1"),
          memberAt("unpublished", undefined),
          memberAt("crooked", `${Option.getOrThrow(lured.member.contentAddress)}/another/path?`),
          absent
        ])
      )
      assert.deepStrictEqual(problems(error), [
        "absent Absent",
        "unavailable Unavailable",
        "busy Busy",
        "redirecting Unavailable",
        "dead Unreachable",
        "unpublished NoAddress",
        "crooked NoAddress"
      ])
      assert.strictEqual(yield* Queue.size(lured.requests), 0)
      assert.isFalse(yield* has)
    }).pipe(receiving())
  )

  it.effect("goes on to the next holder from one that is busy, dead or without the blob", () =>
    Effect.gen(function* () {
      const busy = yield* scriptedPeer("busy", (response) => response.writeHead(503, { "retry-after": "9" }).end())
      const absent = yield* honestPeer("absent", BlobStore.layerMemory())
      const holder = yield* honest("holder")
      const report = yield* fetch([busy.member, memberAt("dead", "127.0.0.1:1"), absent, holder])
      assert.strictEqual(report.holder, holder.nodeId)
      yield* assertStored
    }).pipe(receiving())
  )

  it.effect("takes 429, and 503 with Retry-After, for busy, and says how long", () =>
    Effect.gen(function* () {
      const answers: ReadonlyArray<readonly [number, Http.OutgoingHttpHeaders]> = [
        [429, { "retry-after": "1" }],
        [429, {}],
        [503, { "retry-after": "3600" }],
        [503, {}],
        [500, { "retry-after": "1" }]
      ]
      const peers = yield* Effect.forEach(answers, ([status, headers], index) =>
        scriptedPeer(`${index}`, (response) => response.writeHead(status, headers).end())
      )
      const attempts = attemptsOf(yield* Effect.flip(fetch(peers.map(({ member }) => member))))
      assert.deepStrictEqual(
        attempts.map((attempt) =>
          attempt._tag === "Busy" ? Option.map(attempt.retryAfter, Duration.toMillis) : attempt._tag
        ),
        [Option.some(1000), Option.none(), Option.some(10_000), "Unavailable", "Unavailable"]
      )
    }).pipe(receiving())
  )

  it.effect("asks those of its own zone first, and otherwise in the order given", () => {
    const inZone = (name: string, zone: string | undefined) =>
      Effect.map(
        scriptedPeer(name, (response) => response.writeHead(404).end()),
        ({ member }) => new Member({ ...member, zone: Option.fromUndefinedOr(zone) })
      )
    const self = new Member({ ...memberAt("self", undefined), zone: Option.some("b") })
    return Effect.gen(function* () {
      const holders = yield* Effect.all([inZone("1", "a"), inZone("2", "b"), inZone("3", undefined), inZone("4", "b")])
      const error = yield* Effect.flip(fetch(holders))
      assert.deepStrictEqual(
        attemptsOf(error).map(({ holder }) => `${holder}`),
        ["2", "4", "1", "3"]
      )
    }).pipe(receiving({}, undefined, Members.layerStatic(self.nodeId, [self])))
  })

  it.effect("reaches its peers directly, whatever proxy the process is set to use", () =>
    Effect.gen(function* () {
      const usual = Undici.getGlobalDispatcher()
      yield* Effect.acquireRelease(
        Effect.sync(() => Undici.setGlobalDispatcher(new Undici.ProxyAgent("http://127.0.0.1:1"))),
        () => Effect.sync(() => Undici.setGlobalDispatcher(usual))
      )
      yield* fetch([yield* honest("a")])
      yield* assertStored
    }).pipe(receiving())
  )

  describe("from a peer that speaks HTTP/2 only", () => {
    it.effect("brings a blob, and does not try HTTP/1.1 again", () =>
      Effect.gen(function* () {
        const peer = yield* h2cPeer("peer", (stream) => {
          stream.respond({ ":status": 200, "content-length": bytes.length })
          stream.end(bytes)
        })
        yield* fetch([peer.member])
        yield* assertStored
        yield* fetch([peer.member])
        assert.strictEqual(peer.refused(), 1)
      }).pipe(receiving())
    )

    it.effect("understands that it is busy, or lacks the blob", () =>
      Effect.gen(function* () {
        const busy = yield* h2cPeer("busy", (stream) => {
          stream.respond({ ":status": 429, "retry-after": "1" }, { endStream: true })
        })
        const absent = yield* h2cPeer("absent", (stream) => {
          stream.respond({ ":status": 404 }, { endStream: true })
        })
        const error = yield* Effect.flip(fetch([busy.member, absent.member]))
        assert.deepStrictEqual(problems(error), ["busy Busy", "absent Absent"])
      }).pipe(receiving())
    )

    it.effect("goes on with the next where it resets the stream", () =>
      following((progress) =>
        Effect.gen(function* () {
          const first = yield* h2cPeer("first", (stream) => {
            stream.respond({ ":status": 200, "content-length": bytes.length })
            stream.write(bytes.subarray(0, 200_000))
            progress.at(200_000, () => stream.close(Http2.constants.NGHTTP2_INTERNAL_ERROR))
          })
          const second = yield* whole("second")
          assert.strictEqual((yield* fetch([first.member, second.member])).holder, "second")
          assert.strictEqual((yield* Queue.take(second.requests)).range, "bytes=200000-")
          yield* assertStored
        })
      )
    )

    it.effect("finds it again once it speaks HTTP/1.1", () =>
      Effect.gen(function* () {
        const peer = yield* h2cPeer("peer", (stream) => stream.respond({ ":status": 404 }, { endStream: true }))
        assert.deepStrictEqual(problems(yield* Effect.flip(fetch([peer.member]))), ["peer Absent"])
        yield* peer.stop
        yield* scriptedPeer("peer", (response, asked) => sendAll(response, asked, bytes), peer.port)
        yield* fetch([peer.member])
        yield* assertStored
      }).pipe(receiving())
    )
  })

  it.effect("goes on to the next holder from one that does not answer in 2 seconds", () =>
    Effect.gen(function* () {
      const silent = yield* scriptedPeer("silent", () => {})
      const holder = yield* honest("holder")
      const running = yield* Effect.forkChild(fetch([silent.member, holder]))
      yield* Queue.take(silent.requests)
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(running.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(running)).holder, holder.nodeId)
    }).pipe(receiving())
  )

  describe("resumes", () => {
    it.effect("with the next holder where one broke off, and gets only the rest from it", () =>
      following((progress) =>
        Effect.gen(function* () {
          const first = yield* breaking("first", 200_000, progress)
          const second = yield* whole("second")
          const report = yield* fetch([first.member, second.member])
          assert.deepStrictEqual(report, { bytes: bytes.length, holder: second.member.nodeId })
          assert.strictEqual((yield* Queue.take(second.requests)).range, "bytes=200000-")
          yield* assertStored
        })
      )
    )

    it.effect("with the next holder after 30 seconds without a byte, and not before", () =>
      following(
        (progress) =>
          Effect.gen(function* () {
            const came = yield* Latch.make()
            progress.at(100_000, () => came.openUnsafe())
            const stalling = yield* scriptedPeer("stalling", (response) => {
              response.writeHead(200, { "content-length": bytes.length })
              response.write(bytes.subarray(0, 100_000))
            })
            const second = yield* whole("second")
            const running = yield* Effect.forkChild(fetch([stalling.member, second.member]))
            yield* came.await
            yield* TestClock.adjust("29999 millis")
            assert.isUndefined(running.pollUnsafe())
            yield* TestClock.adjust("1 millis")
            assert.strictEqual((yield* Fiber.join(running)).holder, second.member.nodeId)
            assert.strictEqual((yield* Queue.take(second.requests)).range, "bytes=100000-")
            yield* assertStored
          }),
        {}
      )
    )

    it.effect("with the next holder when one sends a byte now and then", () =>
      following(
        (progress) =>
          Effect.gen(function* () {
            const taken = yield* Queue.unbounded<number>()
            let send = (_: number) => {}
            const trickling = yield* scriptedPeer("trickling", (response) => {
              response.writeHead(200, { "content-length": bytes.length })
              send = (at) => {
                response.write(bytes.subarray(at, at + 1))
                progress.at(at + 1, () => Queue.offerUnsafe(taken, at))
              }
              send(0)
            })
            const running = yield* Effect.forkChild(fetch([trickling.member, yield* honest("second")]))
            for (const next of [1, 2]) {
              yield* Queue.take(taken)
              yield* TestClock.adjust("14 seconds")
              send(next)
            }
            yield* Queue.take(taken)
            yield* TestClock.adjust("2 seconds")
            assert.isUndefined(running.pollUnsafe())
            send(3)
            assert.strictEqual((yield* Fiber.join(running)).holder, "second")
            yield* assertStored
          }),
        {}
      )
    )

    it.live("with the same holder, when there is no other", () =>
      following((progress) =>
        Effect.gen(function* () {
          const { member, requests } = yield* scriptedPeer("holder", (response, asked, count) =>
            count === 3 ? sendAll(response, asked, bytes) : sendUntil(response, asked, bytes, count * 200_000, progress)
          )
          yield* fetch([member])
          const ranges = yield* Queue.takeN(requests, 3)
          assert.deepStrictEqual(
            ranges.map(({ range }) => range),
            [undefined, "bytes=200000-", "bytes=400000-"]
          )
          yield* assertStored
        })
      )
    )

    it.effect("with the same holder, once it can be reached again", () =>
      following(
        (progress) =>
          Effect.gen(function* () {
            const { member, requests } = yield* scriptedPeer("holder", (response, asked, count) => {
              if (count === 1) sendUntil(response, asked, bytes, 200_000, progress)
              else if (count === 2) response.destroy()
              else sendAll(response, asked, bytes)
            })
            const running = yield* Effect.forkChild(fetch([member]))
            const isOver = Effect.as(TestClock.adjust("1 second"), running)
            yield* Effect.repeat(isOver, { until: (fiber) => fiber.pollUnsafe() !== undefined })
            yield* Fiber.join(running)
            yield* assertStored
            const ranges = yield* Queue.takeN(requests, 3)
            assert.deepStrictEqual(
              ranges.map(({ range }) => range),
              [undefined, "bytes=200000-", "bytes=200000-"]
            )
          }),
        { connectTimeout: "1 hour", stallTimeout: "1 hour", patience: "1 hour" }
      )
    )

    it.effect("from zero with a holder that does not know ranges", () =>
      following((progress) =>
        Effect.gen(function* () {
          const first = yield* breaking("first", 200_000, progress)
          const second = yield* scriptedPeer("second", (response) => response.writeHead(200).end(bytes))
          assert.strictEqual((yield* fetch([first.member, second.member])).bytes, bytes.length)
          yield* assertStored
        })
      )
    )

    it.effect("from zero with a holder that has fewer bytes than have come", () =>
      following((progress) =>
        Effect.gen(function* () {
          const long = bytesOf(2, 600_000)
          const liar = yield* scriptedPeer("liar", (response, asked) =>
            sendUntil(response, asked, long, 550_000, progress)
          )
          const holder = yield* honest("holder")
          const report = yield* fetch([liar.member, holder], { size: undefined })
          assert.deepStrictEqual(report, { bytes: bytes.length, holder: holder.nodeId })
          yield* assertStored
        })
      )
    )

    it.live("no longer than its patience, where a holder sends a little at a time", () =>
      following(
        (progress) =>
          Effect.gen(function* () {
            const { member, requests } = yield* scriptedPeer("peer", (response, asked) =>
              sendUntil(response, asked, bytes, firstOf(asked.range) + 100, progress)
            )
            assert.deepStrictEqual(problems(yield* Effect.flip(fetch([member]))), ["peer Stalled"])
            assert.isAbove(yield* Queue.size(requests), 1)
          }),
        { ...untimed, patience: "20 millis" }
      )
    )

    it.live("beyond its patience, as long as it gets on", () =>
      following(
        (progress) =>
          Effect.gen(function* () {
            const { member } = yield* scriptedPeer("peer", (response, asked) =>
              sendUntil(response, asked, bytes, firstOf(asked.range) + 100_000, progress)
            )
            yield* fetch([member])
            yield* assertStored
          }),
        { ...untimed, patience: "1 millis" }
      )
    )

    it.live("with a holder that is busy, for as long as it is", () =>
      following((progress) =>
        Effect.gen(function* () {
          const first = yield* scriptedPeer("first", (response, asked, count) =>
            count === 1 ? sendUntil(response, asked, bytes, 200_000, progress) : response.writeHead(404).end()
          )
          const second = yield* scriptedPeer("second", (response, asked, count) =>
            count < 9
              ? response.writeHead(count % 2 === 0 ? 429 : 503, { "retry-after": "0" }).end()
              : sendAll(response, asked, bytes)
          )
          assert.strictEqual((yield* fetch([first.member, second.member])).holder, "second")
          assert.strictEqual((yield* Queue.takeN(second.requests, 9))[8]?.range, "bytes=200000-")
          yield* assertStored
        })
      )
    )
  })

  describe("of a holder that gives no parts", () => {
    const range = `bytes 0-${bytes.length - 1}/${bytes.length}`
    const refusals: Record<string, (response: Http.ServerResponse) => Http.ServerResponse> = {
      "sends the whole": (response) => response.writeHead(200).end(bytes),
      "sends a part from the first byte": (response) => response.writeHead(206, { "content-range": range }).end(bytes),
      "sends a part from elsewhere": (response) =>
        response
          .writeHead(206, { "content-range": `bytes 300000-499999/${bytes.length}` })
          .end(bytes.subarray(300_000)),
      "sends a part and does not say which": (response) => response.writeHead(206).end(bytes.subarray(200_000)),
      "calls the request bad": (response) => response.writeHead(400).end(),
      "calls the range too far": (response) => response.writeHead(416).end()
    }
    for (const [what, refuse] of Object.entries(refusals)) {
      const refusing = (name: string) =>
        scriptedPeer(name, (response, asked) =>
          asked.range === undefined ? sendAll(response, asked, bytes) : refuse(response)
        )

      it.effect(`but ${what}, asks for the whole when nobody else is left`, () =>
        following((progress) =>
          Effect.gen(function* () {
            const first = yield* breaking("first", 200_000, progress)
            const second = yield* refusing("second")
            assert.strictEqual((yield* fetch([first.member, second.member])).holder, "second")
            yield* assertStored
            const ranges = yield* Queue.takeN(second.requests, 2)
            assert.deepStrictEqual(
              ranges.map(({ range }) => range),
              ["bytes=200000-", undefined]
            )
          })
        )
      )

      it.effect(`but ${what}, would rather have the rest from the next`, () =>
        following((progress) =>
          Effect.gen(function* () {
            const first = yield* breaking("first", 200_000, progress)
            const second = yield* refusing("second")
            const third = yield* whole("third")
            assert.strictEqual((yield* fetch([first.member, second.member, third.member])).holder, "third")
            yield* assertStored
            assert.strictEqual((yield* Queue.take(third.requests)).range, "bytes=200000-")
            assert.strictEqual(yield* Queue.size(second.requests), 1)
            assert.strictEqual((yield* fetch([second.member])).holder, "second")
          })
        )
      )
    }

    it.effect("keeps what has come when it turns out busy", () =>
      following(
        (progress) =>
          Effect.gen(function* () {
            const first = yield* scriptedPeer("first", (response, asked, count) =>
              count === 1 ? sendUntil(response, asked, bytes, 200_000, progress) : response.writeHead(404).end()
            )
            const second = yield* scriptedPeer("second", (response, { range }) =>
              response.writeHead(range === undefined ? 429 : 400).end()
            )
            const running = yield* Effect.forkChild(fetch([first.member, second.member]))
            yield* Queue.takeN(second.requests, 2)
            assert.strictEqual((yield* Queue.take(first.requests)).range, undefined)
            yield* TestClock.adjust("2 seconds")
            assert.strictEqual((yield* Queue.take(second.requests)).range, "bytes=200000-")
            yield* Fiber.interrupt(running)
          }),
        { pause: "1 second" }
      )
    )
  })

  describe("of a holder that cannot be reached", () => {
    it.effect("leaves it alone for 2 seconds, and twice as long each time, up to a minute", () =>
      Effect.gen(function* () {
        const dead = memberAt("dead", "127.0.0.1:1")
        const state = Effect.map(Effect.flip(fetch([dead])), (error) => problems(error)[0])
        for (const seconds of [2, 4, 8, 16, 32, 60, 60]) {
          assert.strictEqual(yield* state, "dead Unreachable")
          assert.strictEqual(yield* state, "dead Barred")
          yield* TestClock.adjust(seconds * 1000 - 1)
          assert.strictEqual(yield* state, "dead Barred")
          yield* TestClock.adjust(1)
        }
      }).pipe(receiving())
    )

    it.effect("forgets it once it answers, and asks at once where it is published anew", () =>
      Effect.gen(function* () {
        let isUp = false
        const peer = yield* scriptedPeer("peer", (response) =>
          isUp ? response.writeHead(404).end() : response.destroy()
        )
        const state = Effect.map(Effect.flip(fetch([peer.member])), (error) => problems(error)[0])
        assert.strictEqual(yield* state, "peer Unreachable")
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* state, "peer Unreachable")
        assert.strictEqual(yield* state, "peer Barred")
        const moved = memberAt("peer", Option.getOrThrow((yield* honest("elsewhere")).contentAddress))
        assert.strictEqual((yield* fetch([moved])).holder, "peer")
        yield* TestClock.adjust("4 seconds")
        isUp = true
        assert.strictEqual(yield* state, "peer Absent")
        isUp = false
        assert.strictEqual(yield* state, "peer Unreachable")
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* state, "peer Unreachable")
      }).pipe(receiving())
    )

    it.effect("because of what it publishes, says so once", () => {
      const warnings: Array<unknown> = []
      const logger = Logger.make(({ message }) => void warnings.push(message))
      return Effect.gen(function* () {
        const unusable = memberAt("unusable", "0.0.0.0:5001")
        for (let count = 0; count < 3; count++) {
          assert.deepStrictEqual(problems(yield* Effect.flip(fetch([unusable]))), ["unusable NoAddress"])
        }
        yield* Effect.flip(fetch([memberAt("unusable", "[::]:5001"), memberAt("other", undefined)]))
        assert.strictEqual(warnings.length, 2)
        assert.include(`${warnings[0]}`, "0.0.0.0:5001")
        assert.include(`${warnings[1]}`, "[::]:5001")
      }).pipe(receiving(), Effect.provide(Logger.layer([logger])))
    })
  })

  describe("of a holder that sends wrong bytes", () => {
    it.effect("takes none, begins again with the next, and leaves it alone for 5 minutes", () =>
      Effect.gen(function* () {
        const liar = yield* scriptedPeer("liar", (response, asked) => sendAll(response, asked, wrong))
        const holder = yield* honest("holder")
        assert.strictEqual((yield* fetch([liar.member, holder])).holder, holder.nodeId)
        yield* assertStored
        assert.deepStrictEqual(problems(yield* Effect.flip(fetch([liar.member]))), ["liar Suspicious"])
        yield* TestClock.adjust("299999 millis")
        assert.deepStrictEqual(problems(yield* Effect.flip(fetch([liar.member]))), ["liar Suspicious"])
        assert.strictEqual(yield* Queue.size(liar.requests), 1)
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(problems(yield* Effect.flip(fetch([liar.member]))), ["liar WrongBytes"])
      }).pipe(receiving())
    )

    it.effect("goes on asking it for other digests", () =>
      Effect.gen(function* () {
        const other = bytesOf(3, 1000)
        const peer = yield* scriptedPeer("peer", (response, asked) =>
          sendAll(response, asked, asked.url.endsWith(digest) ? wrong : other)
        )
        assert.deepStrictEqual(problems(yield* Effect.flip(fetch([peer.member]))), ["peer WrongBytes"])
        yield* fetch([peer.member], { digest: BlobStore.digestOf(other), size: 1000 })
      }).pipe(receiving())
    )

    it.live("finds it among those whose bytes were put together, and blames nobody else", () =>
      following((progress) =>
        Effect.gen(function* () {
          const liar = yield* scriptedPeer("liar", (response, asked, count) =>
            count === 1 ? sendUntil(response, asked, wrong, 200_000, progress) : sendAll(response, asked, wrong)
          )
          const holder = yield* honest("holder")
          const report = yield* fetch([liar.member, holder])
          assert.strictEqual(report.holder, holder.nodeId)
          yield* assertStored
          assert.deepStrictEqual(problems(yield* Effect.flip(fetch([liar.member]))), ["liar Suspicious"])
          assert.strictEqual((yield* fetch([holder])).holder, holder.nodeId)
        })
      ).pipe(quietly)
    )

    it.live("does not mix its bytes in again once a mixture was wrong", () =>
      following((progress) =>
        Effect.gen(function* () {
          const liar = yield* scriptedPeer("liar", (response, asked) =>
            sendUntil(response, asked, wrong, 200_000, progress)
          )
          const holder = yield* whole("holder")
          yield* fetch([liar.member, holder.member])
          yield* assertStored
          const ranges = yield* Queue.takeN(holder.requests, 2)
          assert.deepStrictEqual(
            ranges.map(({ range }) => range),
            ["bytes=200000-", undefined]
          )
        })
      ).pipe(quietly)
    )

    it.effect("refuses more than is due, announced or not", () =>
      Effect.gen(function* () {
        const long = bytesOf(1, 500_001)
        const announcing = yield* scriptedPeer("announcing", (response, asked) => sendAll(response, asked, long))
        const endless = yield* scriptedPeer("endless", (response) => {
          response.writeHead(200)
          const more = () => {
            response.write(long, more)
          }
          more()
        })
        const error = yield* Effect.flip(fetch([announcing.member, endless.member]))
        assert.deepStrictEqual(problems(error), ["announcing WrongBytes", "endless WrongBytes"])
        assert.include(error.message, "offers 500001 bytes")
        const unknown = yield* Effect.flip(
          fetch([endless.member], { digest: BlobStore.digestOf(long), size: undefined })
        )
        assert.deepStrictEqual(problems(unknown), ["endless WrongBytes"])
        const manifest = yield* Effect.flip(
          fetch([endless.member], { digest: BlobStore.digestOf(wrong), size: undefined, kind: "manifest" })
        )
        assert.include(manifest.message, `${Manifest.maxBytes} bytes`)
      }).pipe(receiving({ maxSize: 10_000_000 }))
    )
  })

  it.effect.each(["NoSpace", "ReadOnly", "Failed"] as const)(
    "says so when its own store takes no bytes (%s), and asks nobody else",
    (reason) =>
      Effect.gen(function* () {
        const full = layerBlobs([], (store) => ({
          writer: (digest, options) =>
            Effect.map(store.writer(digest, options), (writer) => ({
              ...writer,
              append: () => Effect.fail(new BlobStore.BlobWriteError({ reason, digest, detail: "disk full" }))
            }))
        }))
        yield* Effect.gen(function* () {
          const second = yield* whole("second")
          const error = yield* Effect.flip(fetch([yield* honest("first"), second.member]))
          assert.strictEqual(error.reason._tag, "StoreFailed")
          assert.include(error.message, "disk full")
          assert.strictEqual(yield* Queue.size(second.requests), 0)
        }).pipe(receiving({}, full))
      })
  )

  it.effect("serves two fetches of one digest at once", () =>
    Effect.gen(function* () {
      const holders = [yield* honest("a"), yield* honest("b")]
      yield* Effect.all([fetch(holders), fetch([...holders].reverse())], { concurrency: 2 })
      yield* assertStored
    }).pipe(receiving())
  )

  it.effect("leaves nothing on disk, and no request open, when it is interrupted", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "gantry-transfer-" })
      const files = Effect.map(fs.readDirectory(directory, { recursive: true }), (names) =>
        names.filter((name) => /^\.gantry-tmp\/.*\/\d|^blobs\/sha256\//.test(name))
      )
      const closed = yield* Latch.make()
      const holder = yield* scriptedPeer("holder", (response) => {
        response.writeHead(200, { "content-length": bytes.length })
        response.write(bytes.subarray(0, 100_000))
        response.once("close", () => closed.openUnsafe())
      })
      yield* Effect.gen(function* () {
        const running = yield* Effect.forkChild(fetch([holder.member]))
        yield* Queue.take(holder.requests)
        yield* Effect.repeat(files, { until: (names) => names.length === 1 })
        yield* Fiber.interrupt(running)
        yield* closed.await
        assert.deepStrictEqual(yield* files, [])
        assert.isFalse(yield* has)
      }).pipe(receiving({}, ImageLayout.layer({ directory }).pipe(Layer.provide(NodeServices.layer), Layer.orDie)))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("carries a blob from disk to disk", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const layout = Effect.map(fs.makeTempDirectoryScoped({ prefix: "gantry-transfer-" }), (directory) =>
        ImageLayout.layer({ directory }).pipe(Layer.provide(NodeServices.layer), Layer.orDie)
      )
      const large = bytesOf(3, 5_000_000)
      const source = yield* Layer.build(yield* layout)
      const of = yield* Effect.provide(putBlob(large), source)
      const holder = yield* honestPeer("holder", Layer.succeedContext(source))
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* fetch([holder], { digest: of, size: large.length })).bytes, large.length)
        assert.isTrue(yield* BlobStore.BlobStore.use((store) => store.verify(of)))
      }).pipe(receiving({}, yield* layout))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect.each(["connectTimeout", "stallTimeout", "maxSize", "patience", "pause"])(
    "is not built where %s cannot be read",
    (setting) =>
      Effect.gen(function* () {
        const layer = PeerTransfer.layer({ [setting]: "banana" })
        const error = yield* Effect.flip(
          Layer.build(
            Layer.provide(layer, [BlobStore.layerMemory(), Layer.mock(Members.Members, { self: NodeId.make("self") })])
          )
        )
        assert.strictEqual(error.setting, setting)
      })
  )
})
