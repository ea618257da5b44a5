/**
 * Whether a pull that runs at some node is still worth waiting for. Judged by
 * our own clock alone: how long we have watched, never what the node's clock
 * says (parts, Inflight).
 */
import type { ContentKind, Timestamp } from "@gantry/protocol"
import * as Option from "effect/Option"

/** What we have seen of one node's pulls of one digest. Times are milliseconds of our own monotonic clock. */
export interface Watch {
  /** The node's name for the pull that we see: when it began, on the node's clock. */
  readonly startedAt: Option.Option<Timestamp>
  /** When we first saw that pull. */
  readonly since: number
  /** False once the node says that the pull is over. */
  readonly running: boolean
  /** How often a pull gave way to another one under our eyes. */
  readonly restarts: number
  /** Questions since the last answer. */
  readonly misses: number
}

/** `over`: the node says so. `lost`: the node does not answer any more. `stale`: watched for too long. */
export type Judgement = "running" | "over" | "lost" | "stale"

/** Unanswered questions in a row after which a puller is given up; one or two may be a hiccup. */
export const maxMisses = 3

/** How often a node may begin anew before waiting for it counts as watching one endless pull. */
export const maxRestarts = 3

const smallThreshold = 5_000
const layerFloor = 10_000
const layerFactor = 3
const bytesPerMilli = (50 * 1024 * 1024) / 1_000

/** How long one pull may be watched, in milliseconds. A layer of unknown size gets the floor. */
export const stallThreshold = (kind: ContentKind, size: Option.Option<number>): number =>
  kind === "layer"
    ? layerFactor * Math.max(layerFloor, Option.getOrElse(size, () => 0) / bytesPerMilli)
    : smallThreshold

/** An instant that is not told may be any: two pulls differ only by instants that are. */
const isSamePull = (a: Option.Option<Timestamp>, b: Option.Option<Timestamp>): boolean =>
  Option.isNone(a) || Option.isNone(b) || a.value === b.value

/** The node says that it pulls. */
export const seen = (watch: Watch | undefined, startedAt: Option.Option<Timestamp>, now: number): Watch => {
  if (watch === undefined) return { startedAt, since: now, running: true, restarts: 0, misses: 0 }
  if (isSamePull(watch.startedAt, startedAt)) {
    return { ...watch, startedAt: Option.orElse(startedAt, () => watch.startedAt), running: true, misses: 0 }
  }
  return { startedAt, since: now, running: true, restarts: watch.restarts + 1, misses: 0 }
}

/** The node says that it does not pull. */
export const ended = (watch: Watch): Watch => ({ ...watch, running: false })

/** The node does not answer. */
export const missed = (watch: Watch): Watch => ({ ...watch, misses: watch.misses + 1 })

/** What to make of it now. */
export const judge = (watch: Watch, now: number, threshold: number): Judgement => {
  if (!watch.running) return "over"
  if (watch.restarts > maxRestarts || now - watch.since > threshold) return "stale"
  return watch.misses >= maxMisses ? "lost" : "running"
}
