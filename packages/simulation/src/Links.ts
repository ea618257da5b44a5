/**
 * What happens to streams on their way that a network of bytes cannot know
 * about: requests that arrive twice, and replies that are lost.
 */
import { type DuplexStream, StreamTransport } from "@gantry/coord/StreamTransport"
import { decodeMessage, makeFrameReader, type PeerId, protocolId } from "@gantry/protocol"
import type { MemoryNetwork } from "@gantry/testkit/MemoryNetwork"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Ledger } from "./Ledger.ts"

export interface Links {
  readonly network: MemoryNetwork["Service"]
  readonly ledger: Ledger
  /** The clock of the network, which nodes do not see. */
  readonly clock: Clock.Clock
  /** Runs what arrives late. */
  readonly scope: Scope.Scope
  /** The chance of a request to arrive twice. */
  readonly duplicates: number
  /** Whether the first reply of each kind on each way is lost. */
  readonly losesFirstReplies: boolean
  /** What the loss of a way is without that. */
  readonly loss: () => number
}

/** How much later a request arrives again at the most. */
const longestEcho = 5_000

/** The transport of a node, as it finds it. */
export const wrap = (
  links: Links,
  transport: StreamTransport["Service"],
  self: { readonly index: number; readonly peerId: PeerId; readonly clock: Clock.Clock }
): StreamTransport["Service"] => {
  const { ledger, network } = links
  const lost = new Set<string>()

  /** The network goes by true time. */
  const truly = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideService(effect, Clock.Clock, links.clock)

  const timed = (stream: DuplexStream): DuplexStream => ({
    remotePeer: stream.remotePeer,
    read: truly(stream.read),
    write: (bytes) => truly(stream.write(bytes)),
    closeWrite: truly(stream.closeWrite),
    close: truly(stream.close),
    reset: truly(stream.reset)
  })

  const kindOf = (bytes: Uint8Array) =>
    makeFrameReader().push(bytes).pipe(Result.getOrThrow, Option.getOrThrow, decodeMessage, Result.getOrThrow)._tag

  /** Loses a reply as a network does: it is sent, and never arrives. */
  const losing = (stream: DuplexStream): DuplexStream => ({
    ...stream,
    write: (bytes) => {
      const kind = kindOf(bytes)
      const key = `${stream.remotePeer} ${kind}`
      if (lost.has(key)) return stream.write(bytes)
      lost.add(key)
      const path = { from: self.peerId, to: stream.remotePeer }
      ledger.note(self.index, "fault", `its ${kind} is lost`)
      return Effect.acquireUseRelease(
        network.link(path, { loss: 1 }),
        () => stream.write(bytes),
        () => network.link(path, { loss: links.loss() })
      )
    }
  })

  /** Sends the request of a stream once more, later, on another one; the answer interests nobody. */
  const echo = (to: PeerId, bytes: Uint8Array) =>
    Effect.gen(function* () {
      yield* Effect.sleep(yield* Random.nextIntBetween(0, longestEcho))
      const stream = yield* transport.open({ peerId: to, addresses: [] }, protocolId, bytes)
      ledger.note(self.index, "fault", `a request of it arrives again`)
      yield* stream.closeWrite
      while (Option.isSome(yield* stream.read));
    }).pipe(Effect.scoped, Effect.timeoutOption("10 seconds"), Effect.ignore)

  return StreamTransport.of({
    open: Effect.fnUntraced(function* (peer, protocol, first) {
      const stream = timed(yield* truly(transport.open(peer, protocol, first)))
      if (first !== undefined && links.duplicates > 0 && (yield* Random.next) < links.duplicates) {
        yield* Effect.forkIn(truly(echo(stream.remotePeer, first)), links.scope, { startImmediately: true })
      }
      return stream
    }),
    handle: (protocol, handler) =>
      transport.handle(protocol, (stream) => {
        const ours = timed(stream)
        // The network hands streams over in its own time; a node serves them in its own.
        const served = handler(links.losesFirstReplies && protocol === protocolId ? losing(ours) : ours)
        return Effect.provideService(served, Clock.Clock, self.clock)
      })
  })
}
