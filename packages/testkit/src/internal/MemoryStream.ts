/**
 * A stream in memory: two ends, and what is on the way between them.
 */
import { type DuplexStream, StreamError } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Calendar } from "./calendar.ts"

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

/** How long something takes this time, in whole milliseconds. */
export const travelTime = ({ jitter, latency }: Link): Effect.Effect<number> =>
  jitter > 0 ? Effect.map(Random.next, (chance) => Math.round(latency + jitter * chance)) : Effect.succeed(latency)

/** What an end asks of the network that it is part of. */
export interface Surroundings {
  /** Runs ends that linger. */
  readonly scope: Scope.Scope
  /** Brings what travels to its end. */
  readonly calendar: Calendar
  /** The way that leaves this end, as it is now. */
  readonly link: () => Link
  /** Whether what has come to this end gets in; false holds it back until the network calls `flush`. */
  readonly isOpen: (end: MemoryStream) => boolean
  /** Whoever serves the peer at this end takes the stream, or refuses it. */
  readonly accept: (end: MemoryStream) => void
  /** Bytes left this end. */
  readonly wrote: (bytes: number) => void
  /** This end is over: reset, or ended from both sides. */
  readonly finished: (end: MemoryStream) => void
}

type Event = Uint8Array | "open" | "refusal" | "end" | "reset"

/** How far an end has come: its streams are read and written as long as it is open. */
type State = "open" | "closed" | "reset" | "refused" | "resetByPeer"

const failures: Record<Exclude<State, "open">, readonly [reason: StreamError["reason"], why: string]> = {
  closed: ["Closed", "it was closed on this side"],
  reset: ["Closed", "it was reset on this side"],
  refused: ["UnsupportedProtocol", "nobody serves it there"],
  resetByPeer: ["Reset", "by the other side, or with the connection"]
}

const failureOf = (state: Exclude<State, "open">) => {
  const [reason, why] = failures[state]
  return new StreamError({ reason, cause: new Error(why) })
}

/** One end of a stream. */
export class MemoryStream implements DuplexStream {
  readonly remotePeer: PeerId
  readonly #surroundings: Surroundings
  #other!: MemoryStream

  #state: State = "open"
  #ended = false
  #remoteEnded = false
  #finished = false

  /** What the other end has sent and this one has not taken in; the first `#arrived` of it have come. */
  readonly #incoming: Array<Event> = []
  #arrived = 0
  #lastArrival = 0
  /** Taken in and not read. */
  readonly #unread: Array<Uint8Array> = []

  #credit = windowBytes
  #sent = 0
  #lost = false

  #waiting: Array<() => void> = []

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

  /** Brings the stream to the other end, together with its first bytes, whatever the window. */
  open(first: Uint8Array): Effect.Effect<void> {
    this.#credit -= first.length
    this.#surroundings.wrote(first.length)
    return first.length === 0 ? this.#send("open") : this.#send("open", first.slice())
  }

  /** Tells the other end that nobody serves the protocol here. */
  get refuse(): Effect.Effect<void> {
    return this.#giveUp("refusal")
  }

  /** Takes in what has arrived, as far as the network lets it. */
  flush(): void {
    while (this.#arrived > 0 && this.#surroundings.isOpen(this)) {
      this.#arrived--
      this.#take(this.#incoming.shift() as Event)
    }
  }

  get read(): DuplexStream["read"] {
    const isReady = () => this.#unread.length > 0 || this.#remoteEnded || this.#state !== "open"
    return this.#when(isReady, () => {
      if (this.#state !== "open") return Effect.fail(failureOf(this.#state))
      const first = this.#unread.shift()
      if (first === undefined) return Effect.succeedNone
      const { chunkBytes } = this.#other.#surroundings.link()
      const chunk = first.subarray(0, chunkBytes)
      if (chunk.length < first.length) this.#unread.unshift(first.subarray(chunkBytes))
      this.#other.#grant(chunk.length)
      return Effect.succeedSome(chunk)
    })
  }

  readonly write = (bytes: Uint8Array): Effect.Effect<void, StreamError> => {
    const isReady = () => this.#credit > 0 || this.#ended || this.#state !== "open"
    return this.#when(isReady, () => {
      if (this.#state !== "open") return Effect.fail(failureOf(this.#state))
      if (this.#ended) return Effect.fail(failureOf("closed"))
      const fitting = bytes.slice(0, this.#credit)
      if (fitting.length === 0) return Effect.void
      this.#credit -= fitting.length
      this.#surroundings.wrote(fitting.length)
      const sent = this.#send(fitting)
      return fitting.length === bytes.length ? sent : Effect.andThen(sent, this.write(bytes.subarray(fitting.length)))
    })
  }

  get closeWrite(): DuplexStream["closeWrite"] {
    return Effect.suspend(() => (this.#state === "open" ? this.#end() : Effect.fail(failureOf(this.#state))))
  }

  get close(): DuplexStream["close"] {
    return Effect.suspend(() => {
      if (this.#state !== "open") return Effect.void
      this.#leave("closed")
      return Effect.andThen(
        this.#end(),
        Effect.suspend(() => (this.#finished ? Effect.void : this.#linger()))
      )
    }).pipe(Effect.uninterruptible)
  }

  get reset(): DuplexStream["reset"] {
    return this.#giveUp("reset")
  }

  /** The connection has ended, as both ends see at once. */
  cut(): void {
    for (const end of [this, this.#other]) {
      if (end.#finished) continue
      end.#leave("resetByPeer")
      end.#finish()
    }
  }

  #giveUp(event: "refusal" | "reset"): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#finished) return Effect.void
      this.#leave("reset")
      this.#finish()
      return this.#send(event)
    })
  }

  #end(): Effect.Effect<void> {
    if (this.#ended) return Effect.void
    this.#ended = true
    if (this.#remoteEnded) this.#finish()
    this.#changed()
    return this.#send("end")
  }

  #linger(): Effect.Effect<void> {
    const finished = this.#when(
      () => this.#finished,
      () => Effect.void
    )
    const lingering = Effect.timeoutOrElse(finished, { duration: lingerMillis, orElse: () => this.reset })
    return Effect.asVoid(Effect.forkIn(lingering, this.#surroundings.scope, { startImmediately: true }))
  }

  /** Sends events that travel together. */
  #send(...events: ReadonlyArray<Event>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      if (this.#lost) return
      const link = this.#surroundings.link()
      const passing: Array<Event> = []
      for (const event of events) {
        const rest = yield* this.#lose(event, link)
        if (rest !== undefined) passing.push(rest)
      }
      if (passing.length > 0) yield* this.#other.#carry(passing, yield* travelTime(link))
    }).pipe(Effect.uninterruptible)
  }

  /** What of an event is not lost. A stream that opens never is: its connection has just carried something. */
  #lose(event: Event, { loss, lossAfter }: Link): Effect.Effect<Event | undefined> {
    if (event === "open" || this.#lost) return Effect.succeed(this.#lost ? undefined : event)
    const before = this.#sent
    this.#sent += typeof event === "string" ? 0 : event.length
    if (loss === 0 || this.#sent < lossAfter) return Effect.succeed(event)
    return Effect.map(Random.next, (chance) => {
      if (chance >= loss) return event
      this.#lost = true
      return typeof event === "string" || before >= lossAfter ? undefined : event.subarray(0, lossAfter - before)
    })
  }

  /** Brings events to this end after a delay, never before those that were sent earlier. */
  #carry(events: ReadonlyArray<Event>, delay: number): Effect.Effect<void> {
    const isFirst = this.#incoming.length === this.#arrived
    this.#incoming.push(...events)
    const arrive = () => {
      this.#arrived += events.length
      this.flush()
    }
    if (delay === 0 && isFirst) return Effect.sync(arrive)
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      this.#lastArrival = Math.max(now + delay, this.#lastArrival)
      return this.#surroundings.calendar(this.#lastArrival, arrive)
    })
  }

  #take(event: Event): void {
    if (this.#finished) return
    if (event === "open") {
      this.#surroundings.accept(this)
    } else if (event === "end") {
      this.#remoteEnded = true
      if (this.#ended) this.#finish()
    } else if (event === "reset" || event === "refusal") {
      this.#leave(event === "reset" ? "resetByPeer" : "refused")
      this.#finish()
    } else if (this.#state === "open") {
      this.#unread.push(event)
    } else {
      this.#other.#grant(event.length)
    }
    this.#changed()
  }

  /** Lets this end send so many bytes more. */
  #grant(bytes: number): void {
    this.#credit += bytes
    this.#changed()
  }

  /** From now on reads and writes fail; what is unread is dropped. */
  #leave(state: Exclude<State, "open">): void {
    if (this.#state === "open") this.#state = state
    const dropped = this.#unread.splice(0)
    this.#changed()
    this.#other.#grant(dropped.reduce((sum, chunk) => sum + chunk.length, 0))
  }

  #finish(): void {
    this.#finished = true
    this.#surroundings.finished(this)
    this.#changed()
  }

  #changed(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const proceed of waiting) proceed()
  }

  /** Goes on once this end is ready for it, in a turn of its own and never within that of whoever made it ready. */
  #when<A, E>(isReady: () => boolean, next: () => Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      if (isReady()) return next()
      const change = Effect.callback<void>((resume) => {
        if (isReady()) return resume(Effect.void)
        const proceed = () => resume(Effect.yieldNow)
        this.#waiting.push(proceed)
        return Effect.sync(() => {
          this.#waiting = this.#waiting.filter((other) => other !== proceed)
        })
      })
      return Effect.andThen(change, this.#when(isReady, next))
    })
  }
}
