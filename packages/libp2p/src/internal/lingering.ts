/**
 * Streams that wait for their peer to end its side.
 */
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import type { Stream } from "@libp2p/interface"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { lingerMillis } from "./limits.ts"

/** Bears with a stream that was closed on this side for a second, then resets it. */
export type Linger = (stream: Stream) => Effect.Effect<void>

/**
 * One fiber looks after all of them, while there are any. A fiber for each, or
 * a set that lives long, would have the garbage collector take every stream for
 * one that stays.
 */
export const makeLinger: Effect.Effect<Linger, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const places: Array<{ readonly stream: Stream; readonly until: number } | undefined> = []
  const vacant: Array<number> = []
  let isWatched = false

  const watch = Effect.gen(function* () {
    while (true) {
      const now = yield* MonotonicClock.millis
      let next = Number.POSITIVE_INFINITY
      for (const guest of places) {
        if (guest === undefined) continue
        if (guest.until <= now) guest.stream.abort(new Error("the peer does not end its side"))
        else next = Math.min(next, guest.until)
      }
      if (next === Number.POSITIVE_INFINITY) break
      yield* Effect.sleep(next - now)
    }
    isWatched = false
  })

  return (stream) =>
    Effect.clockWith((clock) => {
      const place = vacant.pop() ?? places.length
      places[place] = { stream, until: MonotonicClock.millisUnsafe(clock) + lingerMillis }
      stream.addEventListener("close", () => {
        places[place] = undefined
        vacant.push(place)
      })
      if (isWatched) return Effect.void
      isWatched = true
      return Effect.asVoid(Effect.forkIn(watch, scope, { startImmediately: true }))
    })
})
