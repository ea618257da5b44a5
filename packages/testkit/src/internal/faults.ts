/**
 * What is wrong with a network in memory.
 */
import type { PeerId } from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Link } from "./MemoryStream.ts"

const perfect: Link = { latency: 0, jitter: 0, loss: 0, lossAfter: 0, chunkBytes: Number.POSITIVE_INFINITY }

interface Partition {
  readonly cuts: (from: PeerId, to: PeerId) => boolean
  readonly opens: "stalled" | "refused"
}

/** The faults of now, and who waits for them to be healed. */
export class Faults {
  /** Peers that accept everything and do nothing. */
  readonly frozen = new Set<PeerId>()
  /** Peers that nobody can reach. */
  readonly down = new Set<PeerId>()
  /** Ends that hold back what has arrived. */
  readonly held = new Set<{ readonly flush: () => void }>()

  readonly #links = new Map<PeerId | undefined, Map<PeerId | undefined, Partial<Link>>>()
  readonly #partitions = new Set<Partition>()
  #healed = Deferred.makeUnsafe<void>()

  /** Sets the link between two peers, or from or to every peer where one is left out. */
  setLink(from: PeerId | undefined, to: PeerId | undefined, link: Partial<Link>): void {
    const known = this.#links.get(from) ?? new Map<PeerId | undefined, Partial<Link>>()
    this.#links.set(from, known.set(to, link))
  }

  link(from: PeerId, to: PeerId): Link {
    return {
      ...perfect,
      ...this.#links.get(undefined)?.get(undefined),
      ...this.#links.get(undefined)?.get(to),
      ...this.#links.get(from)?.get(undefined),
      ...this.#links.get(from)?.get(to)
    }
  }

  /** Cuts every way of which this holds. Gives the effect that heals it. */
  addPartition(partition: Partition): Effect.Effect<void> {
    this.#partitions.add(partition)
    return this.heal(() => this.#partitions.delete(partition))
  }

  /** What becomes of an open from one peer to another; undefined where nothing parts them. */
  partitionOf(from: PeerId, to: PeerId): Partition["opens"] | undefined {
    for (const { cuts, opens } of this.#partitions) {
      if (cuts(from, to)) return opens
    }
    return undefined
  }

  /** Whether what one peer has sent gets into the other. */
  lets(from: PeerId, to: PeerId): boolean {
    return !this.frozen.has(from) && !this.frozen.has(to) && this.partitionOf(from, to) === undefined
  }

  /** Removes a fault, and lets everything try again that was held back. */
  heal(remove: () => void): Effect.Effect<void> {
    return Effect.sync(() => {
      remove()
      const waiting = this.#healed
      this.#healed = Deferred.makeUnsafe()
      Deferred.doneUnsafe(waiting, Exit.void)
      const ends = [...this.held]
      this.held.clear()
      for (const end of ends) end.flush()
    })
  }

  /** Goes on once the way is free; fails at once where opens are refused. */
  awaitWay(from: PeerId, to: PeerId): Effect.Effect<void, "refused"> {
    return Effect.suspend(() => {
      const opens = this.partitionOf(from, to)
      if (opens === "refused") return Effect.fail(opens)
      return opens === undefined ? Effect.void : Effect.andThen(Deferred.await(this.#healed), this.awaitWay(from, to))
    })
  }

  /** Goes on once a peer is not frozen. */
  awaitThaw(peerId: PeerId): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.frozen.has(peerId) ? Effect.andThen(Deferred.await(this.#healed), this.awaitThaw(peerId)) : Effect.void
    )
  }
}
