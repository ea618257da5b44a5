/**
 * Time that passes only when everybody waits for it.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scheduler from "effect/Scheduler"

interface Sleep {
  readonly instant: number
  readonly order: number
  wake: (() => void) | undefined
}

const isBefore = (a: Sleep, b: Sleep) => a.instant < b.instant || (a.instant === b.instant && a.order < b.order)

/** A binary heap: the earliest sleep first, and of several the one that began first. */
class Sleeps {
  readonly #heap: Array<Sleep> = []

  push(sleep: Sleep): void {
    const heap = this.#heap
    let index = heap.push(sleep) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      const above = heap[parent] as Sleep
      if (!isBefore(sleep, above)) break
      heap[index] = above
      index = parent
    }
    heap[index] = sleep
  }

  pop(): Sleep | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || first === last) return first
    let index = 0
    while (true) {
      const left = 2 * index + 1
      if (left >= heap.length) break
      const right = left + 1
      const least = right < heap.length && isBefore(heap[right] as Sleep, heap[left] as Sleep) ? right : left
      const below = heap[least] as Sleep
      if (!isBefore(below, last)) break
      heap[index] = below
      index = least
    }
    heap[index] = last
    return first
  }
}

/** Nothing sleeps, nothing runs, and the effect has not ended. */
export class Deadlock extends Error {
  override readonly name = "Deadlock"
}

/**
 * Runs an effect with a clock that begins at zero and leaps to the next sleep
 * whenever nothing else is left to do, and with a scheduler that takes turns in
 * one fixed order, all without the event loop: what a test clock does, at a
 * fraction of its cost, so that thousands of nodes can be simulated. What waits
 * for the world outside waits in vain.
 */
export const run = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.contextWith((context: Context.Context<R>) =>
    Effect.suspend(() => {
      const sleeps = new Sleeps()
      const turns: Array<{ take: (() => void) | undefined }> = []
      let now = 0
      let order = 0

      const nanos = () => BigInt(Math.round(now * 1_000_000))
      const clock: Clock.Clock = {
        currentTimeMillisUnsafe: () => now,
        currentTimeMillis: Effect.sync(() => now),
        currentTimeNanosUnsafe: nanos,
        currentTimeNanos: Effect.sync(nanos),
        monotonicTimeNanosUnsafe: nanos,
        monotonicTimeNanos: Effect.sync(nanos),
        sleep: (duration) => {
          const millis = Duration.toMillis(duration)
          if (millis <= 0) return Effect.yieldNow
          if (millis === Number.POSITIVE_INFINITY) return Effect.never
          return Effect.callback<void>((resume) => {
            const sleep: Sleep = { instant: now + millis, order: order++, wake: () => resume(Effect.void) }
            sleeps.push(sleep)
            return Effect.sync(() => {
              sleep.wake = undefined
            })
          })
        }
      }
      const scheduler = new Scheduler.MixedScheduler("async", (take) => {
        const turn: { take: (() => void) | undefined } = { take }
        turns.push(turn)
        return () => {
          turn.take = undefined
        }
      })

      const takeTurns = () => {
        for (let next = 0; next < turns.length; next++) turns[next]?.take?.()
        turns.length = 0
      }

      const fiber = Effect.runForkWith(
        context.pipe(Context.add(Clock.Clock, clock), Context.add(Scheduler.Scheduler, scheduler))
      )(effect)
      takeTurns()
      while (fiber.pollUnsafe() === undefined) {
        const sleep = sleeps.pop()
        if (sleep === undefined) return Effect.die(new Deadlock(`nobody has anything to do at ${now} ms`))
        if (sleep.wake === undefined) continue
        now = sleep.instant
        sleep.wake()
        takeTurns()
      }
      return fiber.pollUnsafe() ?? Exit.void
    })
  ) as Effect.Effect<A, E, R>
