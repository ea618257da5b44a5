/**
 * Blobs on their way into the store, for others to read while they grow.
 */
import type { StoreError } from "@gantry/coord/Store"
import { Digest } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { BlobStore, type BlobWriteError, type BlobWriter, type WriterOptions } from "./BlobStore.ts"

/**
 * Who vouches for the bytes of a fill before its digest is proved. `origin`: the
 * registry itself sends them. `peer`: nobody.
 */
export type Source = "origin" | "peer"

/**
 * `Ended`: without the blob; another fill, or the store, may have the rest.
 * `Restarted`: it begins again, and those bytes that were read of it may be wrong.
 */
export class FillError extends Schema.TaggedError<FillError>("@gantry/oci/FillError")("FillError", {
  reason: Schema.Literals(["Ended", "Restarted"]),
  digest: Digest,
  /** Up to which byte it was read. */
  offset: Schema.Int
}) {
  override get message(): string {
    return `${this.digest} stopped growing at byte ${this.offset}`
  }
}

/** A blob that grows. */
export interface Fill {
  readonly source: Source
  /** In bytes, once it is known. */
  readonly size: Effect.Effect<Option.Option<number>>
  /** Succeeds once the byte at the offset may be read, or there will be none. */
  readonly reaches: (offset: number) => Effect.Effect<void, FillError>
  /**
   * Reads `length` bytes from `offset`, waiting for what is still missing. Each
   * piece is in memory that is used again for the next one. The last 64 KiB of the
   * blob wait for its digest, so that no reader has all of a blob that is wrong.
   */
  readonly runForEach: <E, R>(
    range: { readonly offset: number; readonly length: number },
    use: (piece: Uint8Array) => Effect.Effect<void, E, R>
  ) => Effect.Effect<void, BlobWriteError | FillError | StoreError | E, R>
}

/** The fills of this node. */
export class Fills extends Context.Service<
  Fills,
  {
    /** The fill of a digest that has the most to offer: one from the origin before one from a peer. */
    readonly lookup: (digest: Digest) => Effect.Effect<Option.Option<Fill>>
    /** The first fill of a digest from such a source: one that is under way, or the next that begins. */
    readonly begun: (digest: Digest, source: Source) => Effect.Effect<Fill>
  }
>()("@gantry/oci/Fills") {}

/** What a reader does not get before the digest is proved, in bytes at the end of a blob. */
export const heldBack = 64 * 1024

/** What is read at once. */
const pieceSize = 256 * 1024

/** What is known of a fill, and who waits for more of it. */
interface Growth {
  readonly source: Source
  size: number | undefined
  length: number
  /** How often it began anew. */
  restarts: number
  state: "growing" | "stored" | "ended"
  /** Reads that are under way. */
  reading: number
  readonly waiting: Set<() => void>
}

/** Waits until it holds; asked again whenever the fill changes. */
const until = (growth: Growth, holds: () => boolean): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const look = () => {
      if (!holds()) return
      growth.waiting.delete(look)
      resume(Effect.void)
    }
    growth.waiting.add(look)
    look()
    return Effect.sync(() => void growth.waiting.delete(look))
  })

const change = (growth: Growth, update: (growth: Growth) => void) => {
  update(growth)
  for (const look of [...growth.waiting]) look()
}

/** Up to which byte it may be read. */
const readable = ({ length, size, state }: Growth): number => {
  if (state === "stored") return length
  return Math.max(Math.min(length, (size ?? length) - heldBack), 0)
}

const makeFill = (digest: Digest, growth: Growth, writer: BlobWriter, store: BlobStore["Service"]): Fill => {
  const fail = (offset: number) =>
    Effect.fail(new FillError({ reason: growth.state === "ended" ? "Ended" : "Restarted", digest, offset }))

  /** Waits until the byte at the position may be read; `beginning` is that of the bytes read before, if there were any. */
  const arrives = (position: number, beginning: number | undefined) => {
    const isAnother = () => beginning !== undefined && growth.restarts !== beginning
    return Effect.andThen(
      until(growth, () => readable(growth) > position || growth.state !== "growing" || isAnother()),
      Effect.suspend(() => (growth.state === "ended" || isAnother() ? fail(position) : Effect.void))
    )
  }

  /** While it runs the writer keeps its file open. */
  const readWritten = (position: number, into: Uint8Array) =>
    Effect.acquireUseRelease(
      Effect.sync(() => void growth.reading++),
      () => writer.read(position, into),
      () => Effect.sync(() => change(growth, (read) => read.reading--))
    )

  /** The rest of a blob that is stored. */
  const readStored = Effect.fnUntraced(function* <E, R>(
    offset: number,
    length: number,
    use: (piece: Uint8Array) => Effect.Effect<void, E, R>
  ) {
    const blob = yield* store.open(digest, { offset, length })
    if (Option.isNone(blob)) return yield* new FillError({ reason: "Ended", digest, offset })
    return yield* blob.value.runForEach(use)
  }, Effect.scoped)

  return {
    source: growth.source,
    size: Effect.sync(() => Option.fromUndefinedOr(growth.state === "stored" ? growth.length : growth.size)),
    reaches: (offset) => arrives(offset, undefined),
    runForEach: Effect.fnUntraced(function* (range, use) {
      const end = range.offset + range.length
      const memory = Buffer.allocUnsafeSlow(Math.min(pieceSize, range.length))
      let position = range.offset
      let beginning: number | undefined
      while (position < end) {
        yield* arrives(position, beginning)
        if (growth.state === "stored") return yield* readStored(position, end - position, use)
        beginning ??= growth.restarts
        const piece = memory.subarray(0, Math.min(memory.length, readable(growth) - position, end - position))
        const size = yield* readWritten(position, piece)
        // What was read while it began anew may be of either beginning.
        if (size === 0 || growth.restarts !== beginning) return yield* fail(position)
        yield* use(piece.subarray(0, size))
        position += size
      }
    })
  }
}

const make = Effect.gen(function* () {
  const store = yield* BlobStore
  const growing = new Map<Digest, Map<Growth, Fill>>()
  const expected = new Map<Digest, Set<(fill: Fill) => void>>()

  const lookup = (digest: Digest): Option.Option<Fill> => {
    let best: readonly [Growth, Fill] | undefined
    const rank = ({ length, source }: Growth) => (source === "origin" ? Number.MAX_SAFE_INTEGER : 0) + length
    for (const fill of growing.get(digest) ?? []) {
      if (best === undefined || rank(fill[0]) > rank(best[0])) best = fill
    }
    return Option.map(Option.fromUndefinedOr(best), ([, fill]) => fill)
  }

  const begun = (digest: Digest, source: Source) =>
    Effect.callback<Fill>((resume) => {
      for (const fill of growing.get(digest)?.values() ?? []) {
        if (fill.source === source) return resume(Effect.succeed(fill))
      }
      const take = (fill: Fill) => {
        if (fill.source !== source) return
        takers.delete(take)
        resume(Effect.succeed(fill))
      }
      const takers = expected.get(digest) ?? new Set()
      expected.set(digest, takers.add(take))
      return Effect.sync(() => {
        takers.delete(take)
        if (takers.size === 0 && expected.get(digest) === takers) expected.delete(digest)
      })
    })

  const enter = (digest: Digest, growth: Growth, fill: Fill) => {
    const fills = growing.get(digest) ?? new Map()
    growing.set(digest, fills.set(growth, fill))
    const takers = expected.get(digest)
    for (const take of [...(takers ?? [])]) take(fill)
    if (takers?.size === 0) expected.delete(digest)
  }

  const leave = (digest: Digest, growth: Growth) => {
    const fills = growing.get(digest)
    fills?.delete(growth)
    if (fills?.size === 0) growing.delete(digest)
    if (growth.state === "growing") {
      change(growth, (ended) => {
        ended.state = "ended"
      })
    }
    return until(growth, () => growth.reading === 0)
  }

  const writer = Effect.fnUntraced(function* (digest: Digest, options?: WriterOptions) {
    const inner = yield* store.writer(digest, options)
    const growth: Growth = {
      source: options?.source ?? "peer",
      size: options?.size,
      length: 0,
      restarts: 0,
      state: "growing",
      reading: 0,
      waiting: new Set()
    }
    const watched: BlobWriter = {
      offset: inner.offset,
      read: inner.read,
      announce: (size) =>
        Effect.map(inner.announce(size), () =>
          change(growth, (known) => {
            known.size = size
          })
        ),
      append: (chunk) =>
        Effect.map(inner.append(chunk), () =>
          change(growth, (longer) => {
            longer.length += chunk.length
          })
        ),
      restart: Effect.map(inner.restart, () =>
        change(growth, (anew) => {
          anew.length = 0
          anew.restarts++
        })
      ),
      commit: Effect.map(inner.commit, () =>
        change(growth, (stored) => {
          stored.state = "stored"
        })
      )
    }
    enter(digest, growth, makeFill(digest, growth, inner, store))
    yield* Effect.addFinalizer(() => Effect.suspend(() => leave(digest, growth)))
    return watched
  })

  return Context.make(BlobStore, { ...store, writer }).pipe(
    Context.add(Fills, { lookup: (digest) => Effect.sync(() => lookup(digest)), begun })
  )
})

/** A blob store whose writers can be read from while they write. */
export const layer: Layer.Layer<BlobStore | Fills, never, BlobStore> = Layer.effectContext(make)
