/**
 * A stream in memory: two ends, and what is on the way between them.
 */
import { type DuplexStream, StreamError } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"

/** Bytes that an end may send before the other end reads, as in a Yamux stream. */
export const windowBytes = 262_144

/** How long an end that was closed waits for the other end, in milliseconds. */
const lingerMillis = 1_000

/** What the way from one peer to another does, with times in milliseconds. */
export interface Link {
  readonly latency: number
  readonly jitter: number
  readonly loss: number
  readonly lossAfter: number
  readonly chunkBytes: number
}

/** What an end asks of the network that it is part of. */
export interface Surroundings {
  /** Runs what travels, and ends that linger. */
  readonly scope: Scope.Scope
  /** The way that leaves this end, as it is now. */
  readonly link: () => Link
  /** Whether what has come to this end gets in; false holds it back until the network calls `flush`. */
  readonly isOpen: (end: MemoryStream) => boolean
  /** Whoever serves the peer at this end takes the stream. */
  readonly accept: (end: MemoryStream) => void
  /** Bytes left this end. */
  readonly wrote: (bytes: number) => void
  /** This end is over: reset, or ended from both sides. */
  readonly finished: (end: MemoryStream) => void
}

type Event = Uint8Array | "open" | "end" | "reset"

const closed = (why: string) => new StreamError({ reason: "Closed", cause: new Error(why) })
const wasReset = (why: string) => new StreamError({ reason: "Reset", cause: new Error(why) })

/** Whoever waits goes on in a turn of its own, never within the turn of whoever opens the latch. */
const passing = (latch: Latch.Latch) =>
  Effect.suspend(() => (latch.isOpen() ? Effect.void : Effect.andThen(latch.await, Effect.yieldNow)))

/** One end of a stream. */
export class MemoryStream implements DuplexStream {
  readonly remotePeer: PeerId
  readonly #surroundings: Surroundings
  #other!: MemoryStream

  /** What the other end has sent and this one has not taken in; the first `#arrived` of it have come. */
  readonly #incoming: Array<Event> = []
  #arrived = 0
  #lastArrival = 0
  readonly #received: Array<Uint8Array> = []
  /** Open when a read would not wait. */
  readonly #readable = Latch.makeUnsafe(false)
  /** Open when a write would not wait. */
  readonly #writable = Latch.makeUnsafe(true)
  readonly #over = Latch.makeUnsafe(false)

  #credit = windowBytes
  #sent = 0
  #lost = false
  #ended = false
  #remoteEnded = false
  #finished = false
  /** What reads and writes fail with, once they do. */
  #failure: StreamError | undefined

  private constructor(remotePeer: PeerId, surroundings: Surroundings) {
    this.remotePeer = remotePeer
    this.#surroundings = surroundings
  }

  /** The ends of the dialing and of the dialed peer. */
  static pair(
    dialer: { readonly peerId: PeerId; readonly surroundings: Surroundings },
    dialed: { readonly peerId: PeerId; readonly surroundings: Surroundings }
  ): readonly [near: MemoryStream, far: MemoryStream] {
    const near = new MemoryStream(dialed.peerId, dialer.surroundings)
    const far = new MemoryStream(dialer.peerId, dialed.surroundings)
    near.#other = far
    far.#other = near
    return [near, far]
  }

  get isFinished(): boolean {
    return this.#finished
  }

  /** The stream has come to this end. */
  arrive(): void {
    this.#incoming.push("open")
    this.#arrived++
    this.flush()
  }

  /** Takes in what has arrived, as far as the network lets it. */
  flush(): void {
    while (this.#arrived > 0 && this.#surroundings.isOpen(this)) {
      this.#arrived--
      this.#take(this.#incoming.shift() as Event)
    }
  }

  readonly read: DuplexStream["read"] = Effect.suspend(() => Effect.andThen(passing(this.#readable), this.#next))

  readonly #next: DuplexStream["read"] = Effect.suspend(() => {
    if (this.#failure !== undefined) return Effect.fail(this.#failure)
    const first = this.#received.shift()
    if (first === undefined) return this.#remoteEnded ? Effect.succeedNone : this.read
    const { chunkBytes } = this.#other.#surroundings.link()
    const chunk = first.subarray(0, chunkBytes)
    if (chunk.length < first.length) this.#received.unshift(first.subarray(chunkBytes))
    else if (this.#received.length === 0 && !this.#remoteEnded) this.#readable.closeUnsafe()
    this.#other.#grant(chunk.length)
    return Effect.succeed(Option.some(chunk))
  })

  readonly write = (bytes: Uint8Array): Effect.Effect<void, StreamError> =>
    Effect.andThen(
      passing(this.#writable),
      Effect.suspend(() => {
        if (this.#failure !== undefined) return Effect.fail(this.#failure)
        if (this.#ended) return Effect.fail(closed("our side was ended"))
        const fitting = bytes.slice(0, this.#credit)
        this.#credit -= fitting.length
        if (this.#credit === 0) this.#writable.closeUnsafe()
        this.#surroundings.wrote(fitting.length)
        const sent = fitting.length === 0 ? Effect.void : Effect.uninterruptible(this.#send(fitting))
        return fitting.length === bytes.length ? sent : Effect.andThen(sent, this.write(bytes.subarray(fitting.length)))
      })
    )

  readonly closeWrite: DuplexStream["closeWrite"] = Effect.suspend(() => {
    if (this.#failure !== undefined) return Effect.fail(this.#failure)
    return Effect.uninterruptible(this.#end)
  })

  readonly close: DuplexStream["close"] = Effect.suspend(() => {
    if (this.#failure !== undefined) return Effect.void
    this.#fail(closed("the stream was closed"))
    const linger = Effect.timeoutOrElse(this.#over.await, { duration: lingerMillis, orElse: () => this.reset })
    return Effect.uninterruptible(
      Effect.andThen(
        this.#end,
        Effect.suspend(() =>
          this.#finished
            ? Effect.void
            : Effect.asVoid(Effect.forkIn(linger, this.#surroundings.scope, { startImmediately: true }))
        )
      )
    )
  })

  readonly reset: DuplexStream["reset"] = Effect.suspend(() => {
    if (this.#finished) return Effect.void
    this.#fail(closed("the stream was reset on this side"))
    this.#finish()
    return Effect.uninterruptible(this.#send("reset"))
  })

  readonly #end = Effect.suspend(() => {
    if (this.#ended) return Effect.void
    this.#ended = true
    this.#writable.openUnsafe()
    if (this.#remoteEnded) this.#finish()
    return this.#send("end")
  })

  readonly #send = Effect.fnUntraced({ self: this }, function* (event: Event) {
    const { jitter, latency, loss, lossAfter } = this.#surroundings.link()
    if (this.#lost) return
    const size = typeof event === "string" ? 0 : event.length
    const before = this.#sent
    this.#sent += size
    let passing = event
    if (loss > 0 && this.#sent >= lossAfter && (yield* Random.next) < loss) {
      this.#lost = true
      if (typeof event === "string" || before >= lossAfter) return
      passing = event.subarray(0, lossAfter - before)
    }
    const delay = latency + (jitter > 0 ? jitter * (yield* Random.next) : 0)
    yield* this.#other.#carry(passing, delay)
  })

  /** Brings an event to this end after a delay, never before one that was sent earlier. */
  readonly #carry = Effect.fnUntraced({ self: this }, function* (event: Event, delay: number) {
    const isFirst = this.#incoming.length === this.#arrived
    this.#incoming.push(event)
    const arrive = Effect.sync(() => {
      this.#arrived++
      this.flush()
    })
    if (delay === 0 && isFirst) return yield* arrive
    const now = yield* Clock.currentTimeMillis
    this.#lastArrival = Math.max(now + delay, this.#lastArrival)
    yield* Effect.forkIn(Effect.delay(arrive, this.#lastArrival - now), this.#surroundings.scope, {
      startImmediately: true
    })
  })

  #take(event: Event): void {
    if (this.#finished) return
    if (event === "open") {
      this.#surroundings.accept(this)
    } else if (event === "end") {
      this.#remoteEnded = true
      this.#readable.openUnsafe()
      if (this.#ended) this.#finish()
    } else if (event === "reset") {
      this.#fail(wasReset("by the other side"))
      this.#finish()
    } else if (this.#failure === undefined) {
      this.#received.push(event)
      this.#readable.openUnsafe()
    } else {
      this.#other.#grant(event.length)
    }
  }

  /** Lets this end send so many bytes more. */
  #grant(bytes: number): void {
    this.#credit += bytes
    if (bytes > 0) this.#writable.openUnsafe()
  }

  /** From now on reads and writes fail; what is unread is dropped. */
  #fail(failure: StreamError): void {
    this.#failure ??= failure
    const dropped = this.#received.splice(0)
    this.#readable.openUnsafe()
    this.#writable.openUnsafe()
    this.#other.#grant(dropped.reduce((sum, chunk) => sum + chunk.length, 0))
  }

  #finish(): void {
    if (this.#finished) return
    this.#finished = true
    this.#surroundings.finished(this)
    this.#over.openUnsafe()
  }
}
