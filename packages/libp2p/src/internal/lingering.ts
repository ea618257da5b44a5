/**
 * Streams that wait for their peer to end its side.
 */
import * as Timers from "@gantry/coord/Timers"
import type { Stream } from "@libp2p/interface"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { lingerMillis } from "./limits.ts"

/** Bears with a stream that was closed on this side for a second, then resets it. */
export type Linger = (stream: Stream) => Effect.Effect<void>

export const makeLinger: Effect.Effect<Linger, never, Scope.Scope> = Effect.map(
  Timers.make(Duration.millis(lingerMillis)),
  (timers) => (stream) =>
    Effect.withFiber((fiber) => {
      stream.addEventListener(
        "close",
        timers(fiber, () => stream.abort(new Error("the peer does not end its side")))
      )
      return Effect.void
    })
)
