/**
 * Blobs for the mirror, wherever they come from: the store, a fill that is under
 * way, or the cluster and the registry.
 */
import type { BlobRequest } from "@gantry/coldstart/BlobRequest"
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import { BlobStore, Fills, type HttpSend } from "@gantry/oci"
import type { Digest, OriginRef } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Miss, unavailable } from "./Miss.ts"

/** Where bytes came from, as headers and metrics name it. */
export type Origin = "store" | "peer" | "origin"

/** Brings blobs into the store, from peers or from the registry. */
export class Obtaining extends Context.Service<
  Obtaining,
  {
    /** Succeeds once the blob is verified and stored. */
    readonly obtain: (wanted: BlobRequest) => Effect.Effect<Origin, Miss>
    /** The size of a blob that is not here, as the registry tells it. */
    readonly sizeAtOrigin: (ref: OriginRef) => Effect.Effect<number, Miss>
  }
>()("@gantry/agent/mirror/Obtaining") {}

/** A blob on its way to a client. */
export interface Delivery {
  /** How many bytes it has, as far as it is known now. */
  readonly size: Effect.Effect<Option.Option<number>>
  /** Where its bytes come from, as far as it is known now. */
  readonly source: Effect.Effect<Option.Option<Origin>>
  /** Waits until the size is known. */
  readonly sized: Effect.Effect<number, Miss>
  /** Waits until the blob is verified and in the store. */
  readonly stored: Effect.Effect<void, Miss>
  /** Waits until the byte at the offset may be sent. */
  readonly reaches: (offset: number) => Effect.Effect<void, Miss>
  /**
   * Hands out the bytes of the range as they come: none that neither the registry
   * itself sent nor the digest has proved. Fails when none comes for the stall
   * timeout; the digest is then refused for a while, so that the client takes the
   * rest from the registry.
   */
  readonly runForEach: (
    range: BlobStore.ByteRange,
    use: (piece: Uint8Array) => Effect.Effect<void, HttpSend.SendError>
  ) => Effect.Effect<void, Miss | HttpSend.SendError>
}

/** Settings; a duration that is not positive is ignored. */
export interface Options {
  /** How long a body may stay without a further byte; 45 seconds. */
  readonly stallTimeout: Duration.Duration
  /** Blobs that are brought in at once, with or without a client that waits for them; 1024. */
  readonly maxObtained?: number | undefined
}

/** Opens blobs for clients. */
export class BlobSource extends Context.Service<
  BlobSource,
  {
    /** Begins to bring in a blob that is not here, and tells of it while it comes. Goes on when the client leaves. */
    readonly open: (wanted: BlobRequest) => Effect.Effect<Delivery, Miss>
    /** The size of a blob, without bringing it in. */
    readonly size: (wanted: BlobRequest) => Effect.Effect<number, Miss>
  }
>()("@gantry/agent/mirror/BlobSource") {}

/** For how long a digest is refused whose delivery broke off. */
const refusal = Duration.seconds(30)

const make = Effect.fnUntraced(function* (options: Options) {
  const store = yield* BlobStore.BlobStore
  const fills = yield* Fills.Fills
  const { obtain, sizeAtOrigin } = yield* Obtaining
  const obtained = yield* FiberMap.make<Digest, Origin, Miss>()
  const maxObtained = options.maxObtained ?? 1024
  /** Until when a digest is refused, of the monotonic clock. */
  const refused = new Map<Digest, number>()

  const storeFailed = (error: { readonly message: string }) => Effect.fail(unavailable("store", error.message))

  const checkRefused = Effect.fnUntraced(function* (digest: Digest) {
    const now = yield* MonotonicClock.millis
    for (const [one, until] of refused) {
      if (until <= now) refused.delete(one)
    }
    if (refused.has(digest)) return yield* unavailable("broken", "its delivery broke off a moment ago")
  })

  const refuse = (digest: Digest) =>
    Effect.map(MonotonicClock.millis, (now) => void refused.set(digest, now + Duration.toMillis(refusal)))

  /** One fiber for a digest, whoever asks; it lives on when they leave. */
  const bring = Effect.fnUntraced(function* (wanted: BlobRequest) {
    const { digest } = wanted.ref
    const running = yield* FiberMap.get(obtained, digest)
    if (Option.isSome(running)) return running.value
    if ((yield* FiberMap.size(obtained)) >= maxObtained) {
      return yield* unavailable("busy", `${maxObtained} blobs are being brought in`)
    }
    return yield* FiberMap.run(obtained, digest, obtain(wanted), { onlyIfMissing: true })
  })

  const deliver = (wanted: BlobRequest, bringing: Option.Option<Fiber.Fiber<Origin, Miss>>): Delivery => {
    const { digest } = wanted.ref
    const arrived = Option.match(bringing, {
      onNone: () => Effect.fail(unavailable("gone", "it has left the store again")),
      onSome: (fiber) => Fiber.join(fiber)
    })
    const stored = Effect.catch(store.size(digest), () => Effect.succeedNone)
    const vouched = Effect.map(
      fills.lookup(digest),
      Option.filter(({ source }) => source === "origin")
    )

    const size = Effect.gen(function* () {
      const whole = yield* stored
      if (Option.isSome(whole)) return whole
      const fill = yield* fills.lookup(digest)
      // What a peer announces, no digest covers.
      const announced = Option.isSome(fill) && fill.value.source === "origin" ? yield* fill.value.size : Option.none()
      return Option.orElse(wanted.size, () => announced)
    })

    const sizeOfStored = Effect.flatMap(
      Effect.catch(store.size(digest), storeFailed),
      Option.match({
        onNone: () => Effect.fail(unavailable("gone", "it has left the store again")),
        onSome: (size) => Effect.succeed(size)
      })
    )

    const sized = Effect.flatMap(
      size,
      Option.match({
        onSome: (known) => Effect.succeed(known),
        onNone: () =>
          Effect.raceFirst(
            Effect.andThen(arrived, sizeOfStored),
            Effect.flatMap(fills.begun(digest, "origin"), (fill) =>
              // Its first byte comes with the headers that tell its size, or never.
              Effect.andThen(
                Effect.ignore(fill.reaches(0)),
                Effect.flatMap(size, Option.match({ onNone: () => Effect.never, onSome: (n) => Effect.succeed(n) }))
              )
            )
          )
      })
    )

    /** Waits for bytes from the registry itself, or for the whole. */
    const progress = (offset: number) =>
      Effect.raceFirst(
        Effect.asVoid(arrived),
        Effect.flatMap(fills.begun(digest, "origin"), (fill) =>
          Effect.catch(fill.reaches(offset), () => Effect.asVoid(arrived))
        )
      )

    const reaches = Effect.fnUntraced(function* (offset: number) {
      if (Option.isSome(yield* stored)) return
      yield* progress(offset)
    })

    const follow = Effect.fnUntraced(function* (
      range: BlobStore.ByteRange,
      use: (piece: Uint8Array) => Effect.Effect<void, HttpSend.SendError>
    ) {
      const end = range.offset + range.length
      let position = range.offset
      const pass = (piece: Uint8Array) => {
        position += piece.length
        return use(piece)
      }
      while (position < end) {
        const from = { offset: position, length: end - position }
        const whole = yield* Effect.catch(store.open(digest, from), storeFailed)
        if (Option.isSome(whole)) {
          yield* Effect.catchTag(whole.value.runForEach(pass), "StoreError", storeFailed)
          return
        }
        const fill = yield* vouched
        if (Option.isNone(fill)) yield* progress(position)
        else {
          yield* fill.value.runForEach(from, pass).pipe(
            Effect.catchTag("FillError", (error) =>
              // What went out may be wrong, and nothing right may follow it.
              error.reason === "Restarted" ? Effect.fail(unavailable("broken", error.message)) : Effect.asVoid(arrived)
            ),
            Effect.catchTags({ BlobWriteError: storeFailed, StoreError: storeFailed })
          )
        }
      }
    }, Effect.scoped)

    const runForEach = Effect.fnUntraced(function* (
      range: BlobStore.ByteRange,
      use: (piece: Uint8Array) => Effect.Effect<void, HttpSend.SendError>
    ) {
      let last = yield* MonotonicClock.millis
      const silence = Effect.gen(function* () {
        while (true) {
          const quiet = (yield* MonotonicClock.millis) - last
          const left = Duration.toMillis(options.stallTimeout) - quiet
          if (left <= 0) {
            const limit = Duration.format(options.stallTimeout)
            return yield* unavailable("stalled", `no byte came for ${limit}`)
          }
          yield* Effect.sleep(left)
        }
      })
      const watched = (piece: Uint8Array) =>
        Effect.andThen(
          use(piece),
          Effect.map(MonotonicClock.millis, (now) => {
            last = now
          })
        )
      yield* Effect.raceFirst(follow(range, watched), silence).pipe(
        Effect.tapError((error) => (error instanceof Miss ? refuse(digest) : Effect.void))
      )
    })

    return {
      size,
      sized,
      stored: Option.isNone(bringing) ? Effect.void : Effect.asVoid(arrived),
      reaches,
      runForEach,
      source: Effect.gen(function* () {
        if (Option.isNone(bringing)) return Option.some("store" as const)
        const exit = bringing.value.pollUnsafe()
        if (exit !== undefined && Exit.isSuccess(exit)) return Option.some(exit.value)
        return Option.as(yield* vouched, "origin" as const)
      })
    }
  }

  const open = Effect.fn("BlobSource.open")(function* (wanted: BlobRequest) {
    const { digest } = wanted.ref
    const here = yield* Effect.catch(store.size(digest), storeFailed)
    if (Option.isSome(here)) return deliver({ ...wanted, size: here }, Option.none())
    yield* checkRefused(digest)
    return deliver(wanted, Option.some(yield* bring(wanted)))
  })

  const size = Effect.fn("BlobSource.size")(function* ({ ref, size }: BlobRequest) {
    const here = yield* Effect.catch(store.size(ref.digest), storeFailed)
    const known = Option.orElse(here, () => size)
    return Option.isSome(known) ? known.value : yield* sizeAtOrigin(ref)
  })

  return BlobSource.of({ open, size })
})

/** Serves from the store, and from what others bring in. */
export const layer = (
  options: Options
): Layer.Layer<BlobSource, never, BlobStore.BlobStore | Fills.Fills | Obtaining> =>
  Layer.effect(BlobSource, make(options))
