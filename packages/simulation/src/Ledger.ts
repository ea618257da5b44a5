/**
 * What is true in a simulation, whatever its nodes believe, and what must hold.
 */
import type { PullRequest } from "@gantry/coord/Pump"
import type { Digest, FailureClass, OriginRef } from "@gantry/protocol"
import type { PlannedBlob } from "./Plan.ts"
import type { Event, EventKind } from "./Timeline.ts"

/** One claim of a node on a digest, which is a pull from the origin. */
export interface Pull {
  readonly node: number
  readonly digest: Digest
  readonly ref: OriginRef
  readonly at: number
  /** The rule by which it was asked for. */
  readonly rule: PullRequest["reason"]["rule"]
  /** The node that asked. */
  readonly requester: number
  /** Rank of the puller among the candidates of who asked; -1 if it is none of them. */
  readonly rank: number
  /** The candidates of who asked: whoever has the same should agree on one puller. */
  readonly group: string
  /** When it ended; undefined while it runs. */
  ended: number | undefined
  /** Live pulls of the same reference and group when this one began: another name of the digest is another pull. */
  readonly besides: number
  /** Whether anything came from the origin. */
  hasFetched: boolean
}

/** A rule that did not hold. */
export interface Violation {
  readonly at: number
  readonly invariant: string
  readonly detail: string
}

/** Keeps the truth, and checks every event against it. */
export class Ledger {
  readonly events: Array<Event> = []
  readonly violations: Array<Violation> = []
  readonly pulls: Array<Pull> = []
  /** Failure classes that the origin has shown, by reference. */
  readonly #shown = new Map<string, Set<FailureClass>>()
  readonly #live = new Map<Digest, Set<Pull>>()
  readonly #bytes: ReadonlyMap<Digest, PlannedBlob>
  readonly #now: () => number

  constructor(blobs: ReadonlyArray<PlannedBlob>, now: () => number) {
    this.#bytes = new Map(blobs.map((blob) => [blob.digest, blob]))
    this.#now = now
  }

  get now(): number {
    return this.#now()
  }

  note(node: number | undefined, kind: EventKind, text: string, peer?: number): void {
    this.events.push({ at: this.#now(), node, kind, text, peer })
  }

  violate(invariant: string, detail: string, node?: number): void {
    this.violations.push({ at: this.#now(), invariant, detail })
    this.note(node, "violation", `${invariant}: ${detail}`)
  }

  nameOf(digest: Digest): string {
    return this.#bytes.get(digest)?.name ?? digest.slice(0, 15)
  }

  /** A pull begins. */
  began(pull: Omit<Pull, "at" | "ended" | "besides" | "hasFetched">): Pull {
    const live = this.#live.get(pull.digest) ?? new Set<Pull>()
    const others = [...live].filter(({ group, ref }) => group === pull.group && `${ref}` === `${pull.ref}`)
    if ([...live].some(({ node }) => node === pull.node)) {
      this.violate("one claim per node", `node-${pull.node} claims ${this.nameOf(pull.digest)} twice`, pull.node)
    }
    const begun: Pull = { ...pull, at: this.#now(), ended: undefined, besides: others.length, hasFetched: false }
    this.pulls.push(begun)
    this.#live.set(pull.digest, live.add(begun))
    const why = `${pull.rule}, asked by node-${pull.requester}, rank ${pull.rank}`
    const besides = others.length === 0 ? "" : `; besides ${others.map(({ node }) => `node-${node}`).join(", ")}`
    this.note(pull.node, "pull", `begins to pull ${this.nameOf(pull.digest)} (${why})${besides}`, pull.requester)
    return begun
  }

  ended(pull: Pull): void {
    if (pull.ended !== undefined) return
    pull.ended = this.#now()
    this.#live.get(pull.digest)?.delete(pull)
    this.note(pull.node, "pulled", `ends its pull of ${this.nameOf(pull.digest)}`)
  }

  /** The pulls that run. */
  get live(): ReadonlyArray<Pull> {
    return [...this.#live.values()].flatMap((pulls) => [...pulls])
  }

  /** A node asks the origin. */
  fetched(node: number, digest: Digest): void {
    const pull = [...(this.#live.get(digest) ?? [])].find((live) => live.node === node)
    if (pull === undefined) {
      this.violate("no fetch without a claim", `node-${node} fetches ${this.nameOf(digest)} from the origin`, node)
    } else pull.hasFetched = true
  }

  /** The origin failed for a reference. */
  failed(ref: OriginRef, failureClass: FailureClass): void {
    const shown = this.#shown.get(ref.toString()) ?? new Set<FailureClass>()
    this.#shown.set(ref.toString(), shown.add(failureClass))
  }

  /** Whether a caller may be told of such a failure of a reference. */
  hasFailed(ref: OriginRef, failureClass: FailureClass): boolean {
    return this.#shown.get(ref.toString())?.has(failureClass) === true
  }

  /** Bytes become visible at a node. */
  stored(node: number, digest: Digest, bytes: Uint8Array): void {
    this.note(node, "stored", `has ${this.nameOf(digest)}`)
    if (!this.isTrue(digest, bytes)) {
      this.violate("only verified bytes", `node-${node} stores wrong bytes as ${this.nameOf(digest)}`, node)
    }
  }

  isTrue(digest: Digest, bytes: Uint8Array): boolean {
    const blob = this.#bytes.get(digest)
    return blob !== undefined && Buffer.compare(blob.bytes, bytes) === 0
  }
}
