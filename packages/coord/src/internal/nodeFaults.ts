/**
 * What keeps this node from pulling at all, remembered for a while: requests
 * that it cannot serve are declined at once, and others take them over.
 */
import type { Registry } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as MonotonicClock from "../MonotonicClock.ts"
import { RecentMap } from "../RecentMap.ts"

/** How long a fault of this node makes it decline (parts, NegativeCache). */
export const faultDuration = Duration.seconds(30)

/** The most registries out of reach that are remembered; the oldest leave first. */
const capacity = 1024

export interface NodeFaults {
  /** The store takes no bytes: nothing can be pulled. */
  readonly store: Effect.Effect<void>
  /** There is no way to a registry. */
  readonly access: (registry: Registry) => Effect.Effect<void>
  /** Whether one of these keeps this node from pulling from the registry. */
  readonly prevents: (registry: Registry) => Effect.Effect<boolean>
}

export const make = (): NodeFaults => {
  /** Until when, in milliseconds of the monotonic clock. */
  let storeUntil = Number.NEGATIVE_INFINITY
  const accessUntil = new RecentMap<string, number>(capacity)
  const keyOf = (registry: Registry) => registry.toLowerCase()
  const end = Effect.map(MonotonicClock.millis, (now) => now + Duration.toMillis(faultDuration))

  return {
    store: Effect.map(end, (until) => {
      storeUntil = until
    }),
    access: (registry) =>
      Effect.map(end, (until) => {
        accessUntil.set(keyOf(registry), until)
      }),
    prevents: (registry) =>
      Effect.map(MonotonicClock.millis, (now) => now < storeUntil || now < (accessUntil.get(keyOf(registry)) ?? now))
  }
}
