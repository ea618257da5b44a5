/**
 * How a node that misses a digest obtains it.
 */
import type { CoordClient } from "@gantry/coord/CoordClient"
import type { CoordServer } from "@gantry/coord/CoordServer"
import type { Members } from "@gantry/coord/Members"
import type { Metrics } from "@gantry/coord/Metrics"
import { Store } from "@gantry/coord/Store"
import type { Transfer } from "@gantry/coord/Transfer"
import type { ContentKind, NodeId, OriginRef } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Fiber from "effect/Fiber"
import * as Hash from "effect/Hash"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import { ColdStartError } from "./ColdStartError.ts"
import * as Cooldowns from "./internal/Cooldowns.ts"
import * as Pursuit from "./internal/Pursuit.ts"
import * as Settings from "./internal/settings.ts"

export { ColdStartError } from "./ColdStartError.ts"

/** A digest that this node wants. */
export interface Wanted {
  readonly ref: OriginRef
  readonly kind: ContentKind
  /** In bytes, where a descriptor tells. */
  readonly size: Option.Option<number>
}

/** Where the bytes came from: they were here, a peer handed them over, or this node pulled them from the origin. */
export type Obtained =
  | { readonly _tag: "Local" }
  | { readonly _tag: "Peer"; readonly holder: NodeId; readonly bytes: number }
  | { readonly _tag: "Origin" }

/** The requester's side of coordination (parts, asking for a digest). */
export class ColdStart extends Context.Service<
  ColdStart,
  {
    /**
     * Succeeds once the digest is verified and in this node's store; fails at the
     * latest when the deadline passes. Concurrent calls for one digest share the
     * work, which stops when the last of them is interrupted.
     */
    readonly obtain: (wanted: Wanted) => Effect.Effect<Obtained, ColdStartError>
  }
>()("@gantry/coldstart/ColdStart") {}

/** Settings of the requester; a value that is not positive is ignored. */
export interface Options {
  /** How many of the best-ranked candidates are asked; twice as many once none of them can be reached; 3. */
  readonly ranks?: number | undefined
  /** How many random candidates are asked for a copy besides, while the holders among the ranks are busy; 4. */
  readonly strays?: number | undefined
  /** How long a parallel round of queries waits for answers; 2 seconds. */
  readonly roundTimeout?: Duration.Input | undefined
  /** How long a round waits for the others once an answer has settled what comes next; 250 milliseconds. */
  readonly roundGrace?: Duration.Input | undefined
  /** How long one please_pull waits for its answer; 2 seconds. */
  readonly pleasePullTimeout?: Duration.Input | undefined
  /** How often to ask about a running pull of a manifest or a config; 200 milliseconds. */
  readonly manifestPoll?: Duration.Input | undefined
  /** How often to ask about a running pull of a layer; 1 second. */
  readonly layerPoll?: Duration.Input | undefined
  /** The longest delay before a direct pull, times the natural logarithm of the number of members; 3 seconds. */
  readonly fallbackDelay?: Duration.Input | undefined
  /** The longest time for which a passing failure fails further calls at once; 30 seconds. */
  readonly cooldownCap?: Duration.Input | undefined
  /** How long one call may take, whatever it waits for; 30 minutes. */
  readonly deadline?: Duration.Input | undefined
}

/** What the calls for one digest share. Whoever comes first says how it is pursued. */
class Flight implements Equal.Equal {
  readonly key: string
  readonly wanted: Wanted
  constructor(key: string, wanted: Wanted) {
    this.key = key
    this.wanted = wanted
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof Flight && that.key === this.key
  }
  [Hash.symbol](): number {
    return Hash.string(this.key)
  }
}

/** One call's view of the flight that it shares. */
interface Seat {
  journal: Pursuit.Journal
}

const make = Effect.fnUntraced(function* (options?: Options) {
  const settings = Settings.make(options)
  const store = yield* Store
  const cooldowns = Cooldowns.make(settings.cooldownCap)
  const pursue = yield* Pursuit.make(settings, cooldowns)

  const flights = yield* RcMap.make({
    lookup: Effect.fnUntraced(function* ({ wanted }: Flight) {
      const journal: Pursuit.Journal = { doing: "starting" }
      return { journal, fiber: yield* Effect.forkScoped(pursue(wanted, journal)) }
    })
  })

  /** A store that cannot say is not known to have it. */
  const isHere = (wanted: Wanted) =>
    store.has(wanted.ref.digest).pipe(
      Effect.tapError((error) => Effect.logDebug(error.message)),
      Effect.orElseSucceed(() => false)
    )

  /** A failure of another reference says nothing about ours, which is then pursued apart. */
  const share = (wanted: Wanted, seat: Seat) => {
    const board = (key: string) =>
      RcMap.get(flights, new Flight(key, wanted)).pipe(
        Effect.tap(({ journal }) => Effect.sync(() => (seat.journal = journal))),
        Effect.flatMap(({ fiber }) => Fiber.join(fiber)),
        Effect.scoped
      )
    return Effect.catchIf(
      board(wanted.ref.digest),
      (error) => !Equal.equals(error.ref, wanted.ref),
      () => board(wanted.ref.toString())
    )
  }

  const seek = Effect.fnUntraced(function* (wanted: Wanted, seat: Seat) {
    if (yield* isHere(wanted)) return { _tag: "Local" } satisfies Obtained
    const failure = yield* cooldowns.lookup(wanted.ref)
    if (Option.isSome(failure)) return yield* failure.value
    return yield* share(wanted, seat)
  })

  const timedOut = ({ kind, ref }: Wanted, { journal }: Seat) =>
    new ColdStartError({
      reason: "TimedOut",
      ref,
      kind,
      failureClass: "unspecified",
      detail: `${Duration.format(settings.deadline)} passed, at last ${journal.doing}`
    })

  const obtain = Effect.fn("ColdStart.obtain")(function* (wanted: Wanted) {
    yield* Effect.annotateCurrentSpan({ ref: wanted.ref.toString(), kind: wanted.kind })
    const seat: Seat = { journal: { doing: "asking our own store" } }
    return yield* Effect.timeoutOrElse(seek(wanted, seat), {
      duration: settings.deadline,
      orElse: () => Effect.fail(timedOut(wanted, seat))
    })
  })

  return ColdStart.of({ obtain })
})

/** Obtains digests through the cluster. */
export const layer = (
  options?: Options
): Layer.Layer<ColdStart, never, Members | CoordClient | CoordServer | Store | Transfer | Metrics> =>
  Layer.effect(ColdStart, make(options))
