/**
 * How many streams are served at once, in all and per peer.
 */
import type { PeerId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** Which limit refused a stream. */
export type SlotRefusal = "stream_limit" | "peer_stream_limit"

/** Slots are taken at once or not at all. */
export interface Slots {
  /** Runs `serve` with a slot, given back whatever happens, or `refuse` without one. */
  readonly withSlot: <A, E, R>(
    peerId: PeerId,
    serve: Effect.Effect<A, E, R>,
    refuse: (refusal: SlotRefusal) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
}

/** One semaphore for all streams, and one count for each peer that has any. */
export const make = (total: number, perPeer: number): Slots => {
  const semaphore = Semaphore.makeUnsafe(total)
  const held = new Map<PeerId, number>()

  const take = (peerId: PeerId): Effect.Effect<SlotRefusal | "taken"> =>
    Effect.suspend(() => {
      const count = held.get(peerId) ?? 0
      if (count >= perPeer) return Effect.succeed("peer_stream_limit")
      return Effect.map(semaphore.takeIfAvailable(1), (taken) => {
        if (!taken) return "stream_limit"
        held.set(peerId, count + 1)
        return "taken"
      })
    })

  const giveBack = (peerId: PeerId) =>
    Effect.suspend(() => {
      const count = held.get(peerId) ?? 0
      if (count > 1) held.set(peerId, count - 1)
      else held.delete(peerId)
      return semaphore.release(1)
    })

  return {
    withSlot: (peerId, serve, refuse) =>
      Effect.acquireUseRelease(
        take(peerId),
        (outcome) => (outcome === "taken" ? serve : refuse(outcome)),
        (outcome) => (outcome === "taken" ? giveBack(peerId) : Effect.void)
      )
  }
}
