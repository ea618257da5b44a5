/**
 * A closed loop: so many workers, each asking again when it has been answered.
 */
import * as Effect from "effect/Effect"

/** How many workers there are, in turn. */
export const concurrencies = [1, 16, 64, 256]

/** Requests of a run. */
export const countAt = (concurrency: number): number => (concurrency === 1 ? 2_000 : 12_000)

/** Requests of each kind before those that count: V8 compiles their path for the last time after some 15,000. */
export const warmUp = 20_000

/** What one run showed. */
export interface Sample {
  /** Requests a second. */
  readonly rate: number
  /** The median of the times from question to answer, in milliseconds. */
  readonly p50: number
}

/** The requests of a run, handed out to its workers. */
export interface Requests {
  /** The next one's number, from 0; none once all have been handed out. */
  readonly next: () => number | undefined
  /** Notes that a request begun at a time (of `performance.now()`) has been answered. */
  readonly answered: (begunAt: number) => void
}

/** One worker, until there is nothing left to ask. */
export type Worker = (requests: Requests) => Effect.Effect<void>

/** A worker that asks with an effect. */
export const asking =
  <E>(ask: (index: number) => Effect.Effect<unknown, E>): Worker =>
  (requests) =>
    Effect.gen(function* () {
      for (let index = requests.next(); index !== undefined; index = requests.next()) {
        const begunAt = performance.now()
        yield* ask(index)
        requests.answered(begunAt)
      }
    }).pipe(Effect.orDie)

/** A worker that asks with a promise. */
export const awaiting =
  (ask: (index: number) => Promise<unknown>): Worker =>
  (requests) =>
    Effect.promise(async () => {
      for (let index = requests.next(); index !== undefined; index = requests.next()) {
        const begunAt = performance.now()
        await ask(index)
        requests.answered(begunAt)
      }
    })

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2
}

/** Asks `count` times, `concurrency` at once. */
export const run = Effect.fnUntraced(function* (worker: Worker, concurrency: number, count: number) {
  const times: Array<number> = []
  let handedOut = 0
  const requests: Requests = {
    next: () => (handedOut < count ? handedOut++ : undefined),
    answered: (begunAt) => void times.push(performance.now() - begunAt)
  }
  const begunAt = performance.now()
  yield* Effect.all(
    Array.from({ length: concurrency }, () => worker(requests)),
    { concurrency: "unbounded", discard: true }
  )
  return { rate: count / ((performance.now() - begunAt) / 1_000), p50: median(times) } satisfies Sample
})
