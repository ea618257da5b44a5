/**
 * What a transport owes to those who use it, whatever carries the streams.
 */
import { assert, describe, it } from "@effect/vitest"
import type { DuplexStream, OpenError, StreamError } from "@gantry/coord/StreamTransport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { type Ending, type Peer, PeerFaults, Peers, readToEnd, silence, whileTimePasses } from "./CoordFixture.ts"

const protocol = "/gantry/test/1.0.0"

/** More than any transport may buffer for a reader that does not read. */
const tooMuchToBuffer = 6 * 1_048_576

const bytesOf = (text: string) => new TextEncoder().encode(text)
const closed = (text: string): Ending => ({ _tag: "Closed", bytes: bytesOf(text) })
const reset: Ending = { _tag: "Reset" }

const reasonOf = <A, R>(effect: Effect.Effect<A, OpenError | StreamError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** Reads until so many bytes have come. */
const readBytes = Effect.fnUntraced(function* (stream: DuplexStream, length: number) {
  const chunks: Array<Uint8Array> = []
  for (let received = 0; received < length; ) {
    const chunk = Option.getOrThrow(yield* stream.read)
    received += chunk.length
    chunks.push(chunk)
  }
  return new Uint8Array(Buffer.concat(chunks))
})

/** Sends back what comes, then ends its side. */
const echo = (stream: DuplexStream): Effect.Effect<void> =>
  Effect.gen(function* () {
    while (true) {
      const chunk = yield* stream.read
      if (Option.isNone(chunk)) return
      yield* stream.write(chunk.value)
    }
  }).pipe(Effect.andThen(stream.close), Effect.ignore)

/** Two peers, and the streams that the second one takes. */
const makePair = Effect.gen(function* () {
  const peers = yield* Peers
  const dialer = yield* peers.join
  const listener = yield* peers.join
  const taken = yield* Queue.unbounded<DuplexStream>()
  yield* listener.transport.handle(protocol, (stream) => Effect.asVoid(Queue.offer(taken, stream)))
  return { dialer, listener, taken }
})

const openTo = (from: Peer, to: Peer, first?: string) =>
  from.transport.open(to.address, protocol, first === undefined ? undefined : bytesOf(first))

/** Both ends of one stream; the dialer's ends with the scope. More may be opened. */
const makeStream = Effect.gen(function* () {
  const { dialer, listener, taken } = yield* makePair
  const open = (first?: string) => openTo(dialer, listener, first)
  const near = yield* open()
  const far = yield* Queue.take(taken)
  return { dialer, listener, near, far, open, taken }
})

/** Peers, one of which sends everything back. */
const makeEcho = Effect.gen(function* () {
  const peers = yield* Peers
  const dialer = yield* peers.join
  const listener = yield* peers.join
  yield* listener.transport.handle(protocol, (stream) => Effect.asVoid(Effect.forkDetach(echo(stream))))
  return { dialer, listener }
})

const sendAndReadBack = Effect.fnUntraced(function* (from: Peer, to: Peer, bytes: Uint8Array) {
  // What goes out with the opening is no different from what follows.
  const stream = yield* from.transport.open(to.address, protocol, bytes.subarray(0, 8))
  const sent = yield* Effect.forkChild(Effect.andThen(stream.write(bytes.subarray(8)), stream.closeWrite))
  const ending = yield* readToEnd(stream)
  yield* Fiber.join(sent)
  return ending
}, Effect.scoped)

/** The cases, over the peers of the given layer. Each case gets a network of its own. */
export const streamTransportSuite = <E>(name: string, peers: Layer.Layer<Peers | PeerFaults, E>): void => {
  const test = <A, E2>(title: string, effect: Effect.Effect<A, E2, Peers | PeerFaults | Scope.Scope>) =>
    it.effect(title, () => Effect.provide(Effect.scoped(effect), peers))

  describe(`StreamTransport over ${name}`, () => {
    describe("carrying bytes", () => {
      test(
        "gives back what an echo sends, in order and whole",
        Effect.gen(function* () {
          const { dialer, listener } = yield* makeEcho
          const bytes = Uint8Array.from({ length: 1_500_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff)
          const ending = yield* sendAndReadBack(dialer, listener, bytes)
          assert.isTrue(ending._tag === "Closed" && Buffer.compare(ending.bytes, bytes) === 0)
        })
      )

      test(
        "keeps many streams at once apart",
        Effect.gen(function* () {
          const { dialer, listener } = yield* makeEcho
          const texts = Array.from({ length: 60 }, (_, index) => `stream ${index}`)
          const endings = yield* Effect.forEach(texts, (text) => sendAndReadBack(dialer, listener, bytesOf(text)), {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(endings, texts.map(closed))
        })
      )

      test(
        "tells each side who the other is",
        Effect.gen(function* () {
          const { dialer, far, listener, near } = yield* makeStream
          assert.strictEqual(near.remotePeer, listener.address.peerId)
          assert.strictEqual(far.remotePeer, dialer.address.peerId)
        })
      )

      test(
        "hands on no empty chunk",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          yield* near.write(new Uint8Array())
          yield* near.write(bytesOf("x"))
          assert.deepStrictEqual(yield* far.read, Option.some(bytesOf("x")))
        })
      )

      test(
        "takes the bytes as they are at the time of the write",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          const bytes = bytesOf("before")
          yield* near.write(bytes)
          bytes.fill(0)
          assert.deepStrictEqual(yield* readBytes(far, 6), bytesOf("before"))
        })
      )

      test(
        "lets no writer run ahead of a reader without bound",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          let written = 0
          const total = 2 * tooMuchToBuffer
          const chunk = new Uint8Array(65_536)
          const writer = yield* Effect.forkChild(
            Effect.gen(function* () {
              while (written < total) {
                yield* near.write(chunk)
                written += chunk.length
              }
              yield* near.closeWrite
            })
          )
          let read = 0
          while (true) {
            if (read < 2_000_000) yield* Effect.yieldNow
            const received = yield* far.read
            if (Option.isNone(received)) break
            read += received.value.length
            assert.isBelow(written - read, tooMuchToBuffer)
          }
          yield* Fiber.join(writer)
          assert.strictEqual(read, total)
        })
      )

      test(
        "holds a writer back while nobody reads, and lets go of it when it is interrupted",
        Effect.gen(function* () {
          const { near } = yield* makeStream
          let written = 0
          const writer = yield* Effect.forkChild(
            Effect.forever(
              Effect.andThen(
                near.write(new Uint8Array(65_536)),
                Effect.sync(() => {
                  written += 65_536
                })
              )
            )
          )
          yield* whileTimePasses(Effect.sleep("2 seconds"))
          assert.isBelow(written, tooMuchToBuffer)
          assert.isTrue(Exit.hasInterrupts(yield* Effect.andThen(Fiber.interrupt(writer), Fiber.await(writer))))
        })
      )

      test(
        "loses nothing when a read is interrupted",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          const reader = yield* Effect.forkChild(far.read, { startImmediately: true })
          yield* Fiber.interrupt(reader)
          yield* near.write(bytesOf("still here"))
          assert.deepStrictEqual(yield* readBytes(far, 10), bytesOf("still here"))
        })
      )
    })

    describe("first bytes", () => {
      test(
        "go before all others, whatever their size",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          const first = new Uint8Array(400_000).fill(1)
          const near = yield* dialer.transport.open(listener.address, protocol, first)
          const far = yield* Queue.take(taken)
          const sent = yield* Effect.forkChild(Effect.andThen(near.write(Uint8Array.of(2)), near.closeWrite))
          const ending = yield* readToEnd(far)
          yield* Fiber.join(sent)
          assert.isTrue(
            ending._tag === "Closed" && Buffer.compare(ending.bytes, Buffer.concat([first, Uint8Array.of(2)])) === 0
          )
        })
      )

      test(
        "arrive although the stream is closed right after it was opened",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          yield* Effect.scoped(openTo(dialer, listener, "first"))
          const far = yield* Queue.take(taken)
          assert.deepStrictEqual(yield* readToEnd(far), closed("first"))
          yield* far.close
        })
      )

      test(
        "arrive with the end of our side, before the peer says anything",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          const near = yield* openTo(dialer, listener, "question")
          yield* near.closeWrite
          const far = yield* Queue.take(taken)
          assert.deepStrictEqual(yield* readToEnd(far), closed("question"))
          yield* far.write(bytesOf("answer"))
          yield* far.close
          assert.deepStrictEqual(yield* readToEnd(near), closed("answer"))
        })
      )

      test(
        "may have arrived where the reply is lost: the stream is open, and its reader waits",
        Effect.gen(function* () {
          const { far, listener, near: kept, open, taken } = yield* makeStream
          yield* Effect.andThen(kept.close, far.close)
          yield* (yield* PeerFaults).mute(listener)
          const near = yield* open("request")
          const served = yield* Queue.take(taken)
          assert.deepStrictEqual(yield* readBytes(served, 7), bytesOf("request"))
          yield* served.write(bytesOf("reply"))
          assert.deepStrictEqual(yield* whileTimePasses(Effect.timeoutOption(near.read, "2 seconds")), Option.none())
        })
      )
    })

    describe("a peer out of touch", () => {
      test(
        "is not told from one that takes its time: the stream is open, and its reader waits",
        Effect.gen(function* () {
          const { far, listener, near: kept, open, taken } = yield* makeStream
          yield* Effect.andThen(kept.close, far.close)
          yield* (yield* PeerFaults).isolate(listener)
          const near = yield* open("request")
          yield* near.closeWrite
          assert.deepStrictEqual(yield* whileTimePasses(Effect.timeoutOption(near.read, "2 seconds")), Option.none())
          assert.strictEqual(yield* Queue.size(taken), 0)
        })
      )

      test(
        "answers what it was sent meanwhile, once it is back",
        Effect.gen(function* () {
          const { dialer, listener } = yield* makeEcho
          yield* sendAndReadBack(dialer, listener, bytesOf("connects"))
          const { heal } = yield* (yield* PeerFaults).isolate(listener)
          const near = yield* openTo(dialer, listener, "request")
          yield* near.closeWrite
          yield* heal
          assert.deepStrictEqual(yield* readToEnd(near), closed("request"))
        })
      )

      test(
        "cannot be reached where there is no connection yet",
        Effect.gen(function* () {
          const { dialer, listener } = yield* makePair
          yield* (yield* PeerFaults).isolate(listener)
          const opening = Effect.timeoutOption(openTo(dialer, listener, "request"), "2 seconds")
          assert.deepStrictEqual(yield* whileTimePasses(opening), Option.none())
        })
      )
    })

    describe("a connection that ends", () => {
      test(
        "before a stream is opened is replaced",
        Effect.gen(function* () {
          const { dialer, listener } = yield* makeEcho
          yield* sendAndReadBack(dialer, listener, bytesOf("connects"))
          yield* (yield* PeerFaults).sever(listener)
          assert.deepStrictEqual(yield* sendAndReadBack(dialer, listener, bytesOf("again")), closed("again"))
        })
      )

      test(
        "before the peer has agreed is replaced, or resets the stream",
        Effect.gen(function* () {
          const { dialer, listener } = yield* makeEcho
          yield* sendAndReadBack(dialer, listener, bytesOf("connects"))
          const faults = yield* PeerFaults
          const { heal } = yield* faults.isolate(listener)
          const near = yield* openTo(dialer, listener, "request")
          yield* near.closeWrite
          yield* faults.sever(listener)
          yield* heal
          assert.deepInclude([closed("request"), reset], yield* readToEnd(near))
        })
      )

      test(
        "before the reply resets the stream on both sides",
        Effect.gen(function* () {
          const { far, listener, near } = yield* makeStream
          yield* near.write(bytesOf("request"))
          yield* readBytes(far, 7)
          yield* (yield* PeerFaults).sever(listener)
          assert.deepStrictEqual([yield* readToEnd(near), yield* readToEnd(far)], [reset, reset])
        })
      )

      test(
        "in the middle of the reply resets the stream on both sides",
        Effect.gen(function* () {
          const { far, listener, near } = yield* makeStream
          yield* near.closeWrite
          yield* far.write(bytesOf("half"))
          yield* readBytes(near, 4)
          yield* (yield* PeerFaults).sever(listener)
          assert.deepStrictEqual(yield* readToEnd(near), reset)
          assert.strictEqual(yield* reasonOf(Effect.forever(far.write(bytesOf("more")))), "Reset")
        })
      )
    })

    describe("ending a stream", () => {
      test(
        "reads on after its own side has ended",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          yield* near.write(bytesOf("question"))
          yield* near.closeWrite
          assert.deepStrictEqual(yield* readToEnd(far), closed("question"))
          yield* far.write(bytesOf("answer"))
          yield* far.close
          assert.deepStrictEqual(yield* readToEnd(near), closed("answer"))
        })
      )

      test(
        "stays at its end, however often it is read",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          yield* near.closeWrite
          assert.deepStrictEqual([yield* far.read, yield* far.read], [Option.none(), Option.none()])
        })
      )

      test(
        "wakes a reader that waits for the end",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          const reader = yield* Effect.forkChild(far.read, { startImmediately: true })
          yield* near.closeWrite
          assert.deepStrictEqual(yield* Fiber.join(reader), Option.none())
        })
      )

      test(
        "takes no more bytes once its own side has ended",
        Effect.gen(function* () {
          const { near } = yield* makeStream
          yield* near.closeWrite
          assert.strictEqual(yield* reasonOf(near.write(bytesOf("late"))), "Closed")
        })
      )

      test(
        "delivers what was written before it is closed",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          yield* near.write(new Uint8Array(200_000).fill(7))
          yield* near.close
          const ending = yield* readToEnd(far)
          yield* far.close
          assert.isTrue(ending._tag === "Closed" && ending.bytes.length === 200_000)
        })
      )

      test(
        "is of no use to whoever has closed it",
        Effect.gen(function* () {
          const { near } = yield* makeStream
          yield* near.close
          assert.strictEqual(yield* reasonOf(near.read), "Closed")
          assert.strictEqual(yield* reasonOf(near.write(bytesOf("late"))), "Closed")
        })
      )

      test(
        "is of no use to whoever has reset it",
        Effect.gen(function* () {
          const { near } = yield* makeStream
          yield* near.reset
          assert.strictEqual(yield* reasonOf(near.read), "Closed")
          assert.strictEqual(yield* reasonOf(near.write(bytesOf("late"))), "Closed")
        })
      )

      test(
        "closes and resets again without effect",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          yield* near.close
          yield* near.close
          yield* far.close
          yield* near.reset
          yield* near.reset
        })
      )

      test(
        "resets a peer that does not end its side within a second of a close",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          yield* near.close
          const stubborn = Effect.forever(far.write(new Uint8Array(1_024)))
          assert.strictEqual(yield* whileTimePasses(reasonOf(stubborn)), "Reset")
        })
      )

      test(
        "shows a reset of the dialer to a waiting reader",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          const reader = yield* Effect.forkChild(reasonOf(far.read), { startImmediately: true })
          yield* near.reset
          assert.strictEqual(yield* Fiber.join(reader), "Reset")
        })
      )

      test(
        "shows a reset of the listener to a waiting reader",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          const reader = yield* Effect.forkChild(reasonOf(near.read), { startImmediately: true })
          yield* far.reset
          assert.strictEqual(yield* Fiber.join(reader), "Reset")
        })
      )

      test(
        "shows a reset to a waiting writer",
        Effect.gen(function* () {
          const { far, near } = yield* makeStream
          const writer = yield* Effect.forkChild(reasonOf(Effect.forever(near.write(new Uint8Array(65_536)))))
          yield* Effect.yieldNow
          yield* far.reset
          assert.strictEqual(yield* Fiber.join(writer), "Reset")
        })
      )
    })

    describe("opening a stream", () => {
      test(
        "ends in peace with a scope that succeeds",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          yield* Effect.scoped(Effect.flatMap(openTo(dialer, listener), (stream) => stream.write(bytesOf("done"))))
          const far = yield* Queue.take(taken)
          assert.deepStrictEqual(yield* readToEnd(far), closed("done"))
          yield* far.close
        })
      )

      test(
        "ends by reset with a scope that fails",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          const open = Effect.orDie(openTo(dialer, listener))
          const failing = Effect.andThen(open, Effect.andThen(Queue.take(taken), Effect.fail))
          const far = yield* Effect.flip(Effect.scoped(failing))
          assert.deepStrictEqual(yield* readToEnd(far), reset)
        })
      )

      test(
        "ends by reset with a fiber that is interrupted",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(openTo(dialer, listener), Effect.never)), {
            startImmediately: true
          })
          const far = yield* Queue.take(taken)
          const ending = yield* Effect.forkChild(readToEnd(far), { startImmediately: true })
          yield* Fiber.interrupt(fiber)
          assert.deepStrictEqual(yield* Fiber.join(ending), reset)
        })
      )

      test(
        "leaves nothing behind, at whatever moment it is interrupted",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          for (let turns = 0; turns < 10; turns++) {
            const opening = yield* Effect.forkChild(
              Effect.scoped(Effect.andThen(openTo(dialer, listener), Effect.never))
            )
            yield* Effect.repeat(Effect.yieldNow, { times: turns })
            yield* Fiber.interrupt(opening)
          }
          const last = yield* openTo(dialer, listener)
          yield* last.write(bytesOf("last"))
          yield* last.closeWrite
          const endings: Array<Ending> = []
          while (endings.at(-1)?._tag !== "Closed") {
            endings.push(yield* readToEnd(yield* Queue.take(taken)))
          }
          assert.deepStrictEqual(endings, [...endings.slice(1).map(() => reset), closed("last")])
        })
      )

      test(
        "shows with UnsupportedProtocol that nobody handles the protocol, whenever it is read or written",
        Effect.gen(function* () {
          const { dialer, listener } = yield* makePair
          const open = dialer.transport.open(listener.address, "/gantry/unknown/1.0.0", bytesOf("first"))
          const near = yield* open
          assert.strictEqual(yield* reasonOf(near.read), "UnsupportedProtocol")
          assert.strictEqual(yield* reasonOf(near.read), "UnsupportedProtocol")
          const other = yield* open
          assert.strictEqual(yield* reasonOf(other.write(bytesOf("more"))), "UnsupportedProtocol")
          assert.strictEqual(yield* reasonOf(other.closeWrite), "UnsupportedProtocol")
        })
      )

      test(
        "fails with Unreachable where nobody is, and says whom it meant",
        Effect.gen(function* () {
          const peers = yield* Peers
          const dialer = yield* peers.join
          const { address } = yield* Effect.scoped(peers.join)
          const error = yield* Effect.flip(dialer.transport.open(address, protocol))
          assert.strictEqual(error.reason, "Unreachable")
          assert.strictEqual(error.peerId, address.peerId)
        })
      )
    })

    describe("handling a protocol", () => {
      test(
        "hands every stream to the handler of its protocol",
        Effect.gen(function* () {
          const { dialer, listener, taken } = yield* makePair
          const others = yield* Queue.unbounded<DuplexStream>()
          yield* listener.transport.handle("/gantry/other/1.0.0", (stream) =>
            Effect.asVoid(Queue.offer(others, stream))
          )
          const other = yield* dialer.transport.open(listener.address, "/gantry/other/1.0.0")
          yield* other.write(bytesOf("other"))
          assert.deepStrictEqual(yield* readBytes(yield* Queue.take(others), 5), bytesOf("other"))
          assert.strictEqual(yield* Queue.size(taken), 0)
        })
      )

      test(
        "refuses new streams once its scope has closed, and leaves running ones alone",
        Effect.gen(function* () {
          const peers = yield* Peers
          const dialer = yield* peers.join
          const listener = yield* peers.join
          const handling = yield* Scope.make()
          const taken = yield* Deferred.make<DuplexStream>()
          yield* Scope.provide(
            listener.transport.handle(protocol, (stream) => Effect.asVoid(Deferred.succeed(taken, stream))),
            handling
          )
          const near = yield* openTo(dialer, listener)
          const far = yield* Deferred.await(taken)
          yield* Scope.close(handling, Exit.void)
          const late = yield* openTo(dialer, listener, "late")
          assert.strictEqual(yield* reasonOf(late.read), "UnsupportedProtocol")
          yield* far.write(bytesOf("still served"))
          yield* far.close
          assert.deepStrictEqual(yield* readToEnd(near), closed("still served"))
        })
      )

      test(
        "can be taken up again after that",
        Effect.gen(function* () {
          const peers = yield* Peers
          const dialer = yield* peers.join
          const listener = yield* peers.join
          const serve = listener.transport.handle(protocol, (stream) => stream.close)
          yield* Effect.scoped(serve)
          yield* serve
          assert.deepStrictEqual(yield* readToEnd(yield* openTo(dialer, listener)), silence)
        })
      )

      test(
        "ends the streams of a peer that leaves",
        Effect.gen(function* () {
          const peers = yield* Peers
          const listener = yield* peers.join
          const taken = yield* Queue.unbounded<DuplexStream>()
          yield* listener.transport.handle(protocol, (stream) => Effect.asVoid(Queue.offer(taken, stream)))
          const staying = yield* Scope.make()
          const dialer = yield* Scope.provide(peers.join, staying)
          yield* openTo(dialer, listener)
          const far = yield* Queue.take(taken)
          const ending = yield* Effect.forkChild(readToEnd(far), { startImmediately: true })
          yield* Scope.close(staying, Exit.void)
          assert.deepStrictEqual(yield* Fiber.join(ending), reset)
        })
      )
    })
  })
}
