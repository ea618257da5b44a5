/**
 * How far the agent is in its life, for probes and for the mirror (agent,
 * section 1).
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"

/** `starting`: not every listener is bound, or the members are waited for. `draining`: it is being stopped. */
export type Phase = "starting" | "ready" | "draining"

/** The life of this agent. */
export class Readiness extends Context.Service<
  Readiness,
  {
    readonly phase: Effect.Effect<Phase>
    /** Succeeds once the agent is ready; it waits for the membership, never for other agents or a registry. */
    readonly ready: Effect.Effect<void>
    readonly become: (phase: Phase) => Effect.Effect<void>
  }
>()("@gantry/agent/daemon/Readiness") {}

/** Begins as `starting`. */
export const layer: Layer.Layer<Readiness> = Layer.effect(
  Readiness,
  Effect.gen(function* () {
    const reached = yield* Latch.make()
    let phase: Phase = "starting"
    return Readiness.of({
      phase: Effect.sync(() => phase),
      ready: reached.await,
      become: (next) =>
        Effect.suspend(() => {
          phase = next
          return next === "starting" ? Effect.void : Effect.asVoid(reached.open)
        })
    })
  })
)
