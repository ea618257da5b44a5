/**
 * What a seed stands for: a cluster, what its nodes ask for, and everything
 * that goes wrong meanwhile.
 */
import { type ContentKind, type Digest, OriginRef, Repository } from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** How the origin answers one request for a reference. */
export type OriginAnswer =
  | { readonly _tag: "Deliver" }
  | { readonly _tag: "NotFound" }
  | { readonly _tag: "Unauthorized" }
  | { readonly _tag: "RateLimited"; readonly retryAfterMillis: number }
  | { readonly _tag: "Refused"; readonly retryAfterMillis: number | undefined }
  /** No answer ever comes. */
  | { readonly _tag: "Hang" }
  /** The body stops in the middle. */
  | { readonly _tag: "Stall" }
  /** The connection is cut in the middle of the body. */
  | { readonly _tag: "Cut" }
  /** The bytes are those of something else. */
  | { readonly _tag: "WrongBytes" }

/** One name of a blob at the origin, and the answers that it gives, the last one to all that follow. */
export interface PlannedRef {
  readonly ref: OriginRef
  readonly answers: ReadonlyArray<OriginAnswer>
}

/** A blob that nodes want. */
export interface PlannedBlob {
  readonly name: string
  readonly bytes: Uint8Array
  readonly digest: Digest
  readonly kind: ContentKind
  /** Whether requesters know the size. */
  readonly isSizeKnown: boolean
  /** How long the origin takes for all of it. */
  readonly originMillis: number
  /** How long a peer takes for all of it. */
  readonly peerMillis: number
  /** The names it has; the first is the right one. */
  readonly refs: ReadonlyArray<PlannedRef>
}

export interface PlannedNode {
  readonly zone: string | undefined
  /** How far its wall clock is off. */
  readonly clockOffsetMillis: number
  /** How long its disk takes for each question. */
  readonly diskMillis: number
  /** Pulls at once. */
  readonly ceiling: number
  /** Which of the views it has. */
  readonly view: number
}

export interface PlannedRequest {
  readonly at: number
  readonly node: number
  readonly blob: number
  readonly ref: number
}

/** Something that goes wrong at one time, and is mended at another, if at all. */
export type PlannedFault = { readonly at: number; readonly until: number } & (
  | { readonly _tag: "Crash"; readonly node: number }
  | { readonly _tag: "Shutdown"; readonly node: number }
  | { readonly _tag: "Freeze"; readonly node: number }
  | {
      readonly _tag: "Partition"
      readonly group: ReadonlyArray<number>
      readonly oneWay: boolean
      readonly opens: "stalled" | "refused"
    }
  | { readonly _tag: "Loss"; readonly chance: number }
  | { readonly _tag: "SlowDisk"; readonly node: number; readonly millis: number }
  | { readonly _tag: "ClockJump"; readonly node: number; readonly millis: number }
  | { readonly _tag: "FullPump"; readonly node: number }
  | { readonly _tag: "WrongBytes"; readonly node: number }
  | { readonly _tag: "StallingPeer"; readonly node: number }
  | { readonly _tag: "View"; readonly node: number; readonly view: number }
)

/** All that a seed decides. Times are milliseconds of true time since the simulation began. */
export interface Plan {
  readonly seed: number
  readonly nodes: ReadonlyArray<PlannedNode>
  /** Indexes of the members that each view lists. */
  readonly views: ReadonlyArray<ReadonlyArray<number>>
  readonly blobs: ReadonlyArray<PlannedBlob>
  readonly requests: ReadonlyArray<PlannedRequest>
  readonly faults: ReadonlyArray<PlannedFault>
  readonly latencyMillis: number
  readonly jitterMillis: number
  /** The chance of a stream to be opened twice, with the same request, the second time later. */
  readonly duplicates: number
  /** Whether the first reply of each kind on each way is lost. */
  readonly losesFirstReplies: boolean
  /** How long one call may take. */
  readonly deadlineMillis: number
  /** What may keep nodes from seeing a pull that runs; without any, there is no excuse for a second one. */
  readonly hides: ReadonlyArray<string>
  /** What may make calls fail; without any, all of them succeed. */
  readonly spoils: ReadonlyArray<string>
}

/** Settings of a plan that do not come from the seed. */
export interface Options {
  readonly nodes: number
}

const chance = (probability: number) => Effect.map(Random.next, (drawn) => drawn < probability)
const between = (least: number, most: number) => Random.nextIntBetween(least, most)
const pick = <A>(values: ReadonlyArray<A>) =>
  Effect.map(Random.nextIntBetween(0, values.length - 1), (index) => values[index] as A)
const some = (count: number, of: number) =>
  Effect.map(Random.shuffle(Array.from({ length: of }, (_, index) => index)), (all) => [...all].slice(0, count))
const times = <A>(count: number, each: (index: number) => Effect.Effect<A>) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    each
  )

const deliver: OriginAnswer = { _tag: "Deliver" }

/** Failures that pass, in the order in which a pump meets them. */
const setback: Effect.Effect<OriginAnswer> = Effect.flatMap(
  pick(["RateLimited", "Refused", "Refused", "Cut", "WrongBytes", "Hang", "Stall"] as const),
  Effect.fnUntraced(function* (_tag): Effect.fn.Return<OriginAnswer> {
    switch (_tag) {
      case "RateLimited":
        return { _tag, retryAfterMillis: yield* pick([1_000, 5_000, 60_000]) }
      case "Refused":
        return { _tag, retryAfterMillis: yield* pick([undefined, undefined, 2_000, 30_000]) }
      default:
        return { _tag }
    }
  })
)

/** A blob that the origin delivers in a second under its right name, for plans written by hand. */
export const blobOf = (name: string, fields: Partial<PlannedBlob> = {}): PlannedBlob => {
  const digest = Fixtures.digestOf(name)
  const ref = new OriginRef({ registry: Fixtures.registry, repository: Fixtures.repository, digest })
  return {
    name,
    bytes: new TextEncoder().encode(name),
    digest,
    kind: "layer",
    isSizeKnown: false,
    originMillis: 1_000,
    peerMillis: 10,
    refs: [{ ref, answers: [deliver] }],
    ...fields
  }
}

/** A plan written by hand: nodes that all ask for all blobs at once, and nothing goes wrong but what is said. */
export const calm = (
  count: number,
  blobs: ReadonlyArray<PlannedBlob> = [blobOf("blob")],
  fields: Partial<Plan> = {}
): Plan => {
  const everyone = Array.from({ length: count }, (_, index) => index)
  return {
    seed: 0,
    nodes: everyone.map(() => ({ zone: undefined, clockOffsetMillis: 0, diskMillis: 0, ceiling: 16, view: 0 })),
    views: [everyone],
    blobs,
    requests: blobs.flatMap((_, blob) => everyone.map((node) => ({ at: 0, node, blob, ref: 0 }))),
    faults: [],
    latencyMillis: 5,
    jitterMillis: 0,
    duplicates: 0,
    losesFirstReplies: false,
    deadlineMillis: 120_000,
    hides: [],
    spoils: [],
    ...fields
  }
}

/** Draws the plan of a seed. */
export const make = (seed: number, { nodes: count }: Options): Effect.Effect<Plan> =>
  Effect.gen(function* () {
    const hides = new Set<string>()
    const spoils = new Set<string>()
    const faults: Array<PlannedFault> = []

    /** Half of the seeds are so calm that there is no excuse for a second pull. */
    const isRough = yield* chance(0.5)
    const has = (probability: number) => chance(isRough ? probability : 0)

    // The network

    const latencyMillis = yield* pick([0, 1, 5, 20, 100, 250])
    const jitterMillis = yield* pick([0, latencyMillis, 100])
    const losesFirstReplies = latencyMillis + jitterMillis <= 60 && (yield* chance(0.25))
    const duplicates = yield* pick([0, 0, 0.1, 0.3])

    // The members

    const zones = yield* pick([0, 0, 0, 1, 2, 3])
    const everyone = Array.from({ length: count }, (_, index) => index)
    const disagree = yield* chance(0.15)
    const views = [everyone]
    if (disagree) {
      const others = yield* between(1, 2)
      for (let other = 0; other < others; other++) {
        const missing = new Set(yield* some(yield* between(1, Math.max(1, Math.floor(count / 4))), count))
        views.push(everyone.filter((node) => !missing.has(node)))
      }
    }
    const clocksDiffer = yield* chance(0.5)
    const slowDisks = yield* chance(0.3)
    const ceiling = (yield* has(0.2)) ? 1 : 16
    if (ceiling === 1) hides.add("low ceilings")
    const nodes = yield* times(
      count,
      Effect.fnUntraced(function* (): Effect.fn.Return<PlannedNode> {
        return {
          zone: zones === 0 ? undefined : `zone-${yield* between(1, zones)}`,
          clockOffsetMillis: clocksDiffer ? yield* between(-3_600_000, 3_600_000) : 0,
          diskMillis: slowDisks ? yield* pick([0, 0, 5, 40]) : 0,
          ceiling,
          view: views.length === 1 ? 0 : yield* between(0, views.length - 1)
        }
      })
    )

    // The blobs

    const originFails = yield* chance(0.25)
    const blobs = yield* times(
      yield* pick([1, 1, 1, 1, 2, 3]),
      Effect.fnUntraced(function* (index): Effect.fn.Return<PlannedBlob> {
        const name = `blob-${index}`
        const bytes = new TextEncoder().encode(`${name} of seed ${seed} `.repeat(yield* pick([1, 10, 100])))
        const digest = Fixtures.digestOf(Buffer.from(bytes).toString())
        const kind = yield* pick(["layer", "layer", "layer", "manifest", "config"] as const)
        const ref = new OriginRef({ registry: Fixtures.registry, repository: Fixtures.repository, digest })
        const answers: Array<OriginAnswer> = []
        if (originFails) {
          for (let left = yield* pick([1, 1, 2, 3, 6]); left > 0; left--) answers.push(yield* setback)
          spoils.add("a failing origin")
          const isQuick = answers.every(({ _tag }) => _tag !== "Hang" && _tag !== "Stall") && answers.length <= 3
          if (kind !== "layer" || !isQuick) hides.add("pulls that take longer than anyone waits")
        }
        const refs: Array<PlannedRef> = [{ ref, answers: [...answers, deliver] }]
        if (yield* chance(0.2)) {
          const bogus = new OriginRef({ ...ref, repository: Repository.make("library/bogus") })
          const answer = yield* pick([{ _tag: "NotFound" }, { _tag: "Unauthorized" }] as const)
          refs.push({ ref: bogus, answers: [answer] })
        }
        const isSlow = yield* has(0.2)
        if (isSlow) hides.add("pulls that take longer than anyone waits")
        const originMillis =
          kind === "layer"
            ? yield* pick(isSlow ? [40_000, 70_000] : [50, 500, 3_000, 8_000])
            : yield* pick([20, 200, 900])
        return {
          name,
          bytes,
          digest,
          kind,
          isSizeKnown: yield* chance(0.5),
          originMillis,
          peerMillis: yield* pick([10, 100, 1_000]),
          refs
        }
      })
    )

    // The requests

    const spreadMillis = yield* pick([0, 0, 500, 5_000, 30_000])
    const requests: Array<PlannedRequest> = []
    for (const [blob, { originMillis, refs }] of blobs.entries()) {
      // Whoever waits asks all the time: a crowd for a long while would cost more than it shows.
      const isLong = originMillis > 5_000 || (refs[0]?.answers.length ?? 0) > 2
      const share = isLong ? Math.min(1, 10 / count) : yield* pick([1, 0.5, 0.25])
      for (const node of everyone) {
        if (!(yield* chance(share))) continue
        const at = yield* between(0, spreadMillis)
        const names = refs.length === 1 ? [0] : yield* pick([[0], [0], [1], [0, 1], [1, 0]])
        for (const ref of names) requests.push({ at, node, blob, ref })
      }
      requests.push({
        at: spreadMillis + (yield* pick([0, 1_000, 20_000])),
        node: yield* between(0, count - 1),
        blob,
        ref: 0
      })
    }

    // What goes wrong

    const period = Effect.fnUntraced(function* () {
      const at = yield* between(0, 20_000)
      return { at, until: at + (yield* pick([500, 3_000, 15_000, 60_000])) }
    })
    const anyone = between(0, count - 1)

    if (!isRough && (yield* chance(0.15))) {
      // Two of the best three still leave one that can be seen by all.
      for (const node of yield* some(Math.min(2, count - 1), count)) {
        faults.push({ _tag: "FullPump", node, at: 0, until: Number.POSITIVE_INFINITY })
      }
    }
    if (clocksDiffer && (yield* chance(0.3))) {
      for (const node of yield* some(Math.ceil(count / 4), count)) {
        const millis = yield* pick([-3_600_000, -60_000, -1_000, 1_000, 60_000, 3_600_000])
        const at = yield* between(0, 20_000)
        faults.push({ _tag: "ClockJump", node, millis, at, until: at })
      }
    }
    if (yield* has(0.35)) {
      for (let left = yield* between(1, Math.max(1, Math.ceil(count / 8))); left > 0; left--) {
        faults.push({
          _tag: yield* pick(["Crash", "Crash", "Shutdown"] as const),
          node: yield* anyone,
          ...(yield* period())
        })
      }
      hides.add("crashes")
      spoils.add("crashes")
    }
    if (yield* has(0.2)) {
      for (let left = yield* between(1, 3); left > 0; left--) {
        faults.push({ _tag: "Freeze", node: yield* anyone, ...(yield* period()) })
      }
      hides.add("frozen nodes")
      spoils.add("frozen nodes")
    }
    if (yield* has(0.3)) {
      for (let left = yield* between(1, 2); left > 0; left--) {
        const group = yield* some(yield* between(1, Math.max(1, Math.floor(count / 2))), count)
        const opens = yield* pick(["stalled", "refused"] as const)
        faults.push({ _tag: "Partition", group, oneWay: yield* chance(0.4), opens, ...(yield* period()) })
      }
      hides.add("partitions")
      spoils.add("partitions")
    }
    if (yield* has(0.25)) {
      faults.push({ _tag: "Loss", chance: yield* pick([0.01, 0.1, 0.3]), ...(yield* period()) })
      hides.add("lost messages")
      spoils.add("lost messages")
    }
    if (yield* has(0.2)) {
      for (const node of yield* some(yield* between(1, Math.ceil(count / 4)), count)) {
        faults.push({ _tag: "SlowDisk", node, millis: yield* pick([150, 1_500, 4_000]), ...(yield* period()) })
      }
      hides.add("slow disks")
      spoils.add("slow disks")
    }
    if (yield* has(0.2)) {
      for (const node of yield* some(yield* between(1, Math.ceil(count / 2)), count)) {
        faults.push({ _tag: "FullPump", node, ...(yield* period()) })
      }
      hides.add("full pumps")
    }
    if (yield* has(0.2)) {
      for (const node of yield* some(yield* between(1, Math.ceil(count / 4)), count)) {
        faults.push({ _tag: yield* pick(["WrongBytes", "StallingPeer"] as const), node, ...(yield* period()) })
      }
      hides.add("peers that do not deliver")
      spoils.add("peers that do not deliver")
    }
    if (views.length > 1 && (yield* has(0.5))) {
      for (const node of everyone) {
        const { at, until } = yield* period()
        faults.push({ _tag: "View", node, view: yield* between(0, views.length - 1), at, until })
      }
      hides.add("changes of the membership")
    }

    const deadlineMillis = yield* pick([10_000, 120_000, 120_000, 300_000, 300_000, 600_000])
    if (deadlineMillis < 60_000) spoils.add("short deadlines")

    return {
      seed,
      nodes,
      views,
      blobs,
      requests: requests.toSorted((a, b) => a.at - b.at),
      faults: faults.toSorted((a, b) => a.at - b.at),
      latencyMillis,
      jitterMillis,
      duplicates,
      losesFirstReplies,
      deadlineMillis,
      hides: [...hides],
      spoils: [...spoils]
    }
  }).pipe(Random.withSeed(`plan ${seed}`))
