/**
 * Which digests this node is pulling now.
 */
import { type ContentKind, type Digest, type PullProgress, Timestamp } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { Metrics } from "./Metrics.ts"

/** One running pull. */
export interface InflightEntry {
  readonly digest: Digest
  readonly kind: ContentKind
  /** In bytes, where it is known. */
  readonly expectedSize: Option.Option<number>
  readonly startedAt: Timestamp
  /** How far it is. */
  readonly progress: PullProgress
}

/** The entry, and whether this claim made it. */
export interface Claim {
  readonly owned: boolean
  readonly entry: InflightEntry
  /** Tells how far the pull is. Nothing comes of it unless the claim is owned and held. */
  readonly report: (progress: PullProgress) => void
}

/** The pulls that run, in memory only: after a restart peers see them as gone, which is right (parts, Inflight). */
export class Inflight extends Context.Service<
  Inflight,
  {
    /**
     * Claims a digest. Exactly one of any number of concurrent claims owns it,
     * until the owner's scope closes; the others get the existing entry and have
     * nothing to release.
     */
    readonly start: (
      digest: Digest,
      kind: ContentKind,
      expectedSize: Option.Option<number>
    ) => Effect.Effect<Claim, never, Scope.Scope>
    readonly lookup: (digest: Digest) => Effect.Effect<Option.Option<InflightEntry>>
    readonly size: Effect.Effect<number>
  }
>()("@gantry/coord/Inflight") {}

const make: Effect.Effect<Inflight["Service"], never, Metrics> = Effect.gen(function* () {
  const metrics = yield* Metrics
  const entries = new Map<Digest, InflightEntry>()
  const report = Effect.suspend(() => metrics.inflightPulls(entries.size))

  const claim = Effect.fnUntraced(function* (digest: Digest, kind: ContentKind, expectedSize: Option.Option<number>) {
    const now = yield* Clock.currentTimeNanos
    const running = entries.get(digest)
    if (running !== undefined) return { owned: false, entry: running, report: constVoid }
    const progress: PullProgress = { receivedBytes: 0, totalBytes: expectedSize }
    let entry: InflightEntry = { digest, kind, expectedSize, startedAt: Timestamp.make(now), progress }
    entries.set(digest, entry)
    yield* report
    return {
      owned: true,
      entry,
      report: (progress: PullProgress) => {
        if (entries.get(digest) !== entry) return
        entry = { ...entry, progress }
        entries.set(digest, entry)
      }
    }
  })

  const release = (claim: Claim) =>
    claim.owned
      ? Effect.andThen(
          Effect.sync(() => entries.delete(claim.entry.digest)),
          report
        )
      : Effect.void

  return Inflight.of({
    start: (digest, kind, expectedSize) => Effect.acquireRelease(claim(digest, kind, expectedSize), release),
    lookup: (digest) => Effect.sync(() => Option.fromUndefinedOr(entries.get(digest))),
    size: Effect.sync(() => entries.size)
  })
})

/** The pulls of this process. */
export const layer: Layer.Layer<Inflight, never, Metrics> = Layer.effect(Inflight, make)
