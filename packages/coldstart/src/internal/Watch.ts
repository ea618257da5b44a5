/**
 * Whether a pull that runs at some node is still worth waiting for. Judged by
 * our own clock alone: how long we have watched it show nothing new, never what
 * the node's clock says (parts, Inflight).
 */
import type { PullIntent, Timestamp } from "@gantry/protocol"
import * as Option from "effect/Option"
import type { BlobRequest } from "../BlobRequest.ts"

/** The blob whose pull is watched. */
export type Blob = Pick<BlobRequest, "kind" | "size">

/** What a node tells about a pull that runs there. */
export type Sighting = Pick<PullIntent, "startedAt" | "progress">

/** What we have seen of one node's pulls of one blob. Times are milliseconds of our own monotonic clock. */
export interface Watch {
  /** The node's name for the pull that we see: when it began, on the node's clock. */
  readonly startedAt: Option.Option<Timestamp>
  /** When we first saw that pull. */
  readonly since: number
  /** When it grew last under our eyes; `since` until it has. */
  readonly grownAt: number
  /** Whether the node has told how far that pull is. */
  readonly isTold: boolean
  /** The bytes that it told of last, and when it grew last. */
  readonly received: number
  readonly receivedWhenGrown: number
  /** What the node calls the whole, as it told first. */
  readonly total: Option.Option<number>
  /** False once the node says that the pull is over. */
  readonly isRunning: boolean
  /** How often a pull gave way to another one under our eyes. */
  readonly restarts: number
  /** Questions since the last answer. */
  readonly misses: number
}

/** `over`: the node says so. `lost`: the node does not answer any more. `stale`: nothing comes of it. */
export type Judgement = "running" | "over" | "lost" | "stale"

/** Unanswered questions in a row after which a puller is given up; one or two may be a hiccup. */
export const maxMisses = 3

/** How often a node may begin anew before waiting for it counts as watching one endless pull. */
export const maxRestarts = 3

/** A puller ends what brings nothing for 30 s by itself; beyond that and a few polls nothing is left to hope for. */
const growthMillis = 40_000

/** After so many milliseconds each, another rank is asked for a manifest or a config too. */
export const hedgeMillis = 5_000

const layerFloor = 10_000
const layerFactor = 3
const bytesPerMilli = (50 * 1024 * 1024) / 1_000

/**
 * How many milliseconds a pull may be watched whose node does not tell how far
 * it is. A layer of unknown size gets the floor. A manifest and a config get
 * what a node that tells has: other ranks are asked meanwhile, and a wait that
 * costs nothing needs no short end.
 */
export const untoldMillis = ({ kind, size }: Blob): number =>
  kind === "layer" ? layerFactor * Math.max(layerFloor, Option.getOrElse(size, () => 0) / bytesPerMilli) : growthMillis

/**
 * What counts as growth, in bytes. A puller that fakes a byte now and then would
 * be waited for until the deadline. Where each of sixteen pulls gets less than
 * 64 KiB in 40 s the registry is of no use to anyone; what is smaller than 3 MB
 * may take half an hour.
 */
const growthBytes = (whole: number) => Math.min(64 * 1024, whole / 45)

/** The most that can have arrived: what the descriptor says, or else what the node said first. */
const wholeOf = ({ size }: Blob, total: Option.Option<number>) =>
  Option.getOrElse(
    Option.orElse(size, () => total),
    () => Number.POSITIVE_INFINITY
  )

/** An instant that is not told may be any: two pulls differ only by instants that are. */
const isSamePull = (a: Option.Option<Timestamp>, b: Option.Option<Timestamp>): boolean =>
  Option.isNone(a) || Option.isNone(b) || a.value === b.value

const begin = (startedAt: Option.Option<Timestamp>, now: number, restarts: number): Watch => ({
  startedAt,
  since: now,
  grownAt: now,
  isTold: false,
  received: 0,
  receivedWhenGrown: 0,
  total: Option.none(),
  isRunning: true,
  restarts,
  misses: 0
})

/** The node says that it pulls. Progress that falls back is that of a pull that began anew. */
export const seen = (watch: Watch | undefined, sighting: Sighting, now: number, blob: Blob): Watch => {
  const { progress, startedAt } = sighting
  if (watch === undefined) return grow(begin(startedAt, now, 0), progress, now, blob)
  const isSame = isSamePull(watch.startedAt, startedAt) && !hasFallenBack(watch, progress, blob)
  if (!isSame) return grow(begin(startedAt, now, watch.restarts + 1), progress, now, blob)
  const known = Option.orElse(startedAt, () => watch.startedAt)
  return grow({ ...watch, startedAt: known, isRunning: true, misses: 0 }, progress, now, blob)
}

const receivedOf = (blob: Blob, total: Watch["total"], receivedBytes: number) =>
  Math.min(receivedBytes, wholeOf(blob, total))

const hasFallenBack = ({ received, total }: Watch, progress: Sighting["progress"], blob: Blob) =>
  Option.exists(progress, ({ receivedBytes }) => receivedOf(blob, total, receivedBytes) < received)

const grow = (watch: Watch, progress: Sighting["progress"], now: number, blob: Blob): Watch => {
  if (Option.isNone(progress)) return watch
  const total = Option.orElse(watch.total, () => progress.value.totalBytes)
  const received = receivedOf(blob, total, progress.value.receivedBytes)
  const told = { ...watch, isTold: true, total, received }
  const whole = wholeOf(blob, total)
  const grown = received - watch.receivedWhenGrown
  const isGrowth = grown > 0 && (received === whole || grown >= growthBytes(whole))
  return isGrowth ? { ...told, grownAt: now, receivedWhenGrown: received } : told
}

/** The node says that it does not pull. */
export const ended = (watch: Watch): Watch => ({ ...watch, isRunning: false })

/** The node does not answer. */
export const missed = (watch: Watch): Watch => ({ ...watch, misses: watch.misses + 1 })

/** What to make of it now. */
export const judge = (watch: Watch, now: number, blob: Blob): Judgement => {
  if (!watch.isRunning) return "over"
  const patience = watch.isTold ? growthMillis : untoldMillis(blob)
  if (watch.restarts > maxRestarts || now - watch.grownAt > patience) return "stale"
  return watch.misses >= maxMisses ? "lost" : "running"
}
