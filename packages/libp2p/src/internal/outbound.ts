/**
 * A stream that this node opens, before and after the peer has agreed to its
 * protocol.
 */
import { type DuplexStream, StreamError } from "@gantry/coord/StreamTransport"
import type { PeerId } from "@gantry/protocol"
import type { Connection } from "@libp2p/interface"
import * as Effect from "effect/Effect"
import type { Opened } from "./ConnectionPool.ts"
import { makeDuplex } from "./duplex.ts"
import type { Linger } from "./lingering.ts"
import { awaitSelection, type Selection } from "./selection.ts"

/** What a new stream needs to know, and asks of what is around it. */
export interface Surroundings {
  readonly remotePeer: PeerId
  readonly linger: Linger
  /** What is said to propose the protocol, and what goes out with it. */
  readonly message: Uint8Array
  /** How much of the message is the proposal, in bytes. */
  readonly proposalBytes: number
  /** Opens a stream in another connection than one that failed. */
  readonly openElsewhere: (failed: Connection, signal: AbortSignal) => Promise<Opened>
  /** Calls back if the peer is silent in the connection for too long. */
  readonly onSilence: (connection: Connection, isSilent: () => void) => () => void
  /** The peer has answered in the connection. */
  readonly answered: (connection: Connection) => void
  /** Nobody waits any more for an answer that did not come. */
  readonly unanswered: (connection: Connection) => void
}

/** The message went out in this stream, and the peer has not answered yet. */
interface Attempt extends Opened {
  stop: () => void
}

/** `Proposed`: no answer yet. `Agreed`: the peer speaks the protocol. `Over`: nothing comes of it. */
type State =
  | { readonly _tag: "Proposed" }
  | { readonly _tag: "Agreed"; readonly duplex: DuplexStream }
  | { readonly _tag: "Over"; readonly error: StreamError }

const reasons = { Refused: "UnsupportedProtocol", Ended: "Reset", Lost: "Reset" } as const

const closed = (why: string) => new StreamError({ reason: "Closed", cause: new Error(`${why} on this side`) })

/**
 * Proposes the protocol in a new stream, together with the first bytes. If its
 * connection was there before and turns out to be dead, or is silent, the same
 * goes out once more in another one; the first answer counts.
 */
export const makeOutbound = (opened: Opened, surroundings: Surroundings): DuplexStream => {
  const { linger, message, remotePeer } = surroundings
  const proposal = message.subarray(0, surroundings.proposalBytes)
  const attempts = new Set<Attempt>()
  /** The search for another connection; it begins once at most. */
  let search: AbortController | undefined
  let isSearching = false
  let state: State = { _tag: "Proposed" }
  let weEnded = false
  let stopWaiting = () => {}

  /** Reads and writes that wait for the peer. */
  const waiting = new Set<() => void>()

  const settle = (next: State, chosen?: Attempt) => {
    state = next
    stopWaiting()
    search?.abort()
    for (const attempt of attempts) {
      attempt.stop()
      if (attempt !== chosen) attempt.stream.abort(new Error("it is not needed any more"))
    }
    attempts.clear()
    for (const resume of waiting) queueMicrotask(resume)
    waiting.clear()
  }

  const fail = (reason: StreamError["reason"], cause: unknown) =>
    settle({ _tag: "Over", error: new StreamError({ reason, cause }) })

  /** Nothing comes of an attempt. The peer has the last word, a connection has not. */
  const abandon = (attempt: Attempt, selection: Exclude<Selection, { readonly _tag: "Agreed" }>) => {
    attempts.delete(attempt)
    attempt.stream.abort(selection.cause)
    // Where only the muxer is closed js-libp2p would go on to use the connection; it may be in the middle of closing it.
    if (selection._tag === "Lost") queueMicrotask(() => attempt.connection.abort(selection.cause))
    if (selection._tag === "Lost" && attempt.isKept && search === undefined) return searchFor(attempt.connection)
    if (selection._tag === "Refused" || (attempts.size === 0 && !isSearching)) {
      fail(reasons[selection._tag], selection.cause)
    }
  }

  const propose = (opened: Opened) => {
    const attempt: Attempt = { ...opened, stop: () => {} }
    attempts.add(attempt)
    attempt.stop = awaitSelection(opened.stream, proposal, (selection) => {
      if (selection._tag !== "Agreed") return abandon(attempt, selection)
      surroundings.answered(opened.connection)
      const taken = { received: selection.received, weEnded }
      settle({ _tag: "Agreed", duplex: makeDuplex(opened.stream, remotePeer, linger, taken) }, attempt)
    })
    try {
      opened.stream.send(message)
    } catch (cause) {
      attempt.stop()
      return abandon(attempt, { _tag: "Lost", cause: cause as Error })
    }
    if (weEnded) end(attempt)
  }

  const searchFor = (failed: Connection) => {
    const controller = new AbortController()
    search = controller
    isSearching = true
    surroundings.openElsewhere(failed, controller.signal).then(
      (other) => {
        isSearching = false
        if (!controller.signal.aborted) return propose(other)
        other.stream.abort(new Error("nobody waits for the stream any more"))
      },
      (cause) => {
        isSearching = false
        if (attempts.size === 0 && state._tag === "Proposed") fail("Reset", cause)
      }
    )
  }

  /** Ends our side of an attempt. That it failed shows in the stream's own end. */
  const end = ({ stream }: Attempt) => void stream.close().catch(() => {})

  const selected = Effect.callback<void>((resume) => {
    const proceed = () => resume(Effect.void)
    waiting.add(proceed)
    return Effect.sync(() => waiting.delete(proceed))
  })

  /** Uses the stream once the peer has agreed. */
  const whenAgreed = <A>(use: (duplex: DuplexStream) => Effect.Effect<A, StreamError>): Effect.Effect<A, StreamError> =>
    Effect.suspend(() => {
      switch (state._tag) {
        case "Proposed":
          return Effect.andThen(selected, whenAgreed(use))
        case "Agreed":
          return use(state.duplex)
        case "Over":
          return Effect.fail(state.error)
      }
    })

  propose(opened)
  if (opened.isKept && state._tag === "Proposed") {
    stopWaiting = surroundings.onSilence(opened.connection, () => {
      if (search === undefined) searchFor(opened.connection)
    })
  }

  return {
    remotePeer,
    read: whenAgreed(({ read }) => read),
    write: (bytes) => whenAgreed(({ write }) => write(bytes)),
    closeWrite: Effect.suspend(() => {
      if (state._tag !== "Proposed") return whenAgreed(({ closeWrite }) => closeWrite)
      weEnded = true
      attempts.forEach(end)
      return Effect.void
    }),
    close: Effect.suspend(() => {
      if (state._tag === "Agreed") return state.duplex.close
      if (state._tag === "Over") return Effect.void
      const attempt = [...attempts].at(-1)
      settle({ _tag: "Over", error: closed("closed") }, attempt)
      return attempt === undefined ? Effect.void : makeDuplex(attempt.stream, remotePeer, linger).close
    }),
    reset: Effect.suspend(() => {
      if (state._tag === "Agreed") return state.duplex.reset
      if (state._tag === "Over") return Effect.void
      for (const { connection } of attempts) surroundings.unanswered(connection)
      settle({ _tag: "Over", error: closed("reset") })
      return Effect.void
    })
  }
}
