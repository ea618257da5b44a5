/**
 * A negative cache with exactly the entries that a test puts in.
 */
import { NegativeCache, type NegativeEntry } from "@gantry/coord/NegativeCache"
import { type ContentKind, type Digest, type FailureClass, type OriginRef, timestampFromMillis } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/** What a pump recorded about a reference. */
export type Recorded = Data.TaggedEnum<{
  Failure: {
    readonly ref: OriginRef
    readonly kind: ContentKind
    readonly failureClass: FailureClass
    readonly retryAfter?: Duration.Duration
  }
  Success: { readonly ref: OriginRef; readonly kind: ContentKind }
}>
export const Recorded = Data.taggedEnum<Recorded>()

/** Governs the {@link NegativeCache} of the same layer. What is recorded changes no entry. */
export class TestNegativeCache extends Context.Service<
  TestNegativeCache,
  {
    /** Puts in an entry for every kind, active until it is taken out, whatever the time. */
    readonly put: (ref: OriginRef, entry: NegativeEntry) => Effect.Effect<void>
    readonly remove: (ref: OriginRef) => Effect.Effect<void>
    /** What was recorded so far, in order. */
    readonly recorded: Effect.Effect<ReadonlyArray<Recorded>>
  }
>()("@gantry/testkit/TestNegativeCache") {}

const make = Effect.sync(() => {
  const entries = new Map<string, { readonly digest: Digest; readonly entry: NegativeEntry }>()
  const recorded: Array<Recorded> = []

  const cache = NegativeCache.of({
    lookup: (digest) =>
      Effect.sync(() => {
        const found = [...entries.values()].filter((known) => known.digest === digest).map(({ entry }) => entry)
        const longest = found.reduce<NegativeEntry | undefined>(
          (best, entry) => (best !== undefined && best.cooldownUntil >= entry.cooldownUntil ? best : entry),
          undefined
        )
        return Option.fromUndefinedOr(longest)
      }),
    lookupRef: (ref) => Effect.sync(() => Option.fromUndefinedOr(entries.get(ref.toString())?.entry)),
    recordFailure: Effect.fnUntraced(function* (ref, kind, failureClass, retryAfter) {
      recorded.push(Recorded.Failure({ ref, kind, failureClass, ...(retryAfter !== undefined && { retryAfter }) }))
      return { cooldownUntil: timestampFromMillis(yield* Clock.currentTimeMillis), failureClass }
    }),
    recordSuccess: (ref, kind) =>
      Effect.sync(() => {
        recorded.push(Recorded.Success({ ref, kind }))
      }),
    size: Effect.sync(() => entries.size)
  })
  const control = TestNegativeCache.of({
    put: (ref, entry) => Effect.sync(() => entries.set(ref.toString(), { digest: ref.digest, entry })),
    remove: (ref) => Effect.sync(() => entries.delete(ref.toString())),
    recorded: Effect.sync(() => [...recorded])
  })
  return Context.make(NegativeCache, cache).pipe(Context.add(TestNegativeCache, control))
})

/** An empty cache. */
export const layer: Layer.Layer<NegativeCache | TestNegativeCache> = Layer.effectContext(make)
