/**
 * A store that a test changes while it is in use.
 */
import { Store, StoreError } from "@gantry/coord/Store"
import type { Digest } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"

/** Governs the {@link Store} of the same layer. */
export class TestStore extends Context.Service<
  TestStore,
  {
    readonly add: (...digests: ReadonlyArray<Digest>) => Effect.Effect<void>
    readonly remove: (...digests: ReadonlyArray<Digest>) => Effect.Effect<void>
    /** From now on every question fails, until it recovers. */
    readonly fail: (reason: StoreError["reason"]) => Effect.Effect<void>
    /** From now on every question waits, until it recovers. */
    readonly hang: Effect.Effect<void>
    readonly recover: Effect.Effect<void>
    /** The digests asked for so far, in order. */
    readonly asked: Effect.Effect<ReadonlyArray<Digest>>
  }
>()("@gantry/testkit/TestStore") {}

const make = (digests: Iterable<Digest>) =>
  Effect.sync(() => {
    const held = new Set(digests)
    const asked: Array<Digest> = []
    const responsive = Latch.makeUnsafe(true)
    let failing: StoreError["reason"] | undefined

    const has = Effect.fnUntraced(function* (digest: Digest) {
      asked.push(digest)
      yield* responsive.await
      if (failing !== undefined) {
        return yield* new StoreError({ reason: failing, digest, cause: new Error("as the test wants it") })
      }
      return held.has(digest)
    })

    const control = TestStore.of({
      add: (...digests) => Effect.sync(() => digests.forEach((digest) => void held.add(digest))),
      remove: (...digests) => Effect.sync(() => digests.forEach((digest) => void held.delete(digest))),
      fail: (reason) =>
        Effect.sync(() => {
          failing = reason
        }),
      hang: Effect.asVoid(responsive.close),
      recover: Effect.suspend(() => {
        failing = undefined
        return Effect.asVoid(responsive.open)
      }),
      asked: Effect.sync(() => [...asked])
    })
    return Context.make(Store, Store.of({ has })).pipe(Context.add(TestStore, control))
  })

/** A store that has the given digests. */
export const layer = (digests: Iterable<Digest> = []): Layer.Layer<Store | TestStore> =>
  Layer.effectContext(make(digests))
