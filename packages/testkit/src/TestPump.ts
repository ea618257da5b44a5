/**
 * A pump that does what a test says.
 */
import { type PullRequest, Pump, PumpResult } from "@gantry/coord/Pump"
import { type Digest, Timestamp } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { makeScript } from "./internal/script.ts"

/** Governs the {@link Pump} of the same layer. */
export class TestPump extends Context.Service<
  TestPump,
  {
    /**
     * Answers for a digest, one per request, the last one also to all that follow.
     * `Effect.never` hangs, `Effect.die` is a defect. Any other digest is Started now.
     */
    readonly answer: (digest: Digest, ...answers: ReadonlyArray<Effect.Effect<PumpResult>>) => Effect.Effect<void>
    /** All requests so far, in order. */
    readonly requests: Effect.Effect<ReadonlyArray<PullRequest>>
  }
>()("@gantry/testkit/TestPump") {}

const startedNow: Effect.Effect<PumpResult> = Effect.map(Clock.currentTimeNanos, (now) =>
  PumpResult.Started({ startedAt: Timestamp.make(now) })
)

const make = Effect.sync(() => {
  const { respond, ...control } = makeScript(
    (request: PullRequest) => request.ref.digest,
    () => startedNow
  )
  return Context.make(Pump, Pump.of({ pull: respond })).pipe(Context.add(TestPump, TestPump.of(control)))
})

/** A pump that starts whatever it is asked to. */
export const layer: Layer.Layer<Pump | TestPump> = Layer.effectContext(make)
