/**
 * Serves the coordination protocol to peers, and the same answers in process.
 */
import type { Digest, PleasePullOutcome, PleasePullRequest, PullIntent } from "@gantry/protocol"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { PullReason } from "./Pump.ts"

/** What the server does for peers, for callers in the same process. Its layer serves the peers. */
export class CoordServer extends Context.Service<
  CoordServer,
  {
    /** The answer that a peer's query would get, without authorization and without counting as served. */
    readonly localPullIntent: (digest: Digest) => Effect.Effect<PullIntent>
    /**
     * What a peer's please_pull would do: one outcome per digest, in order. Splits
     * by the cap on digests instead of refusing, and never counts as served.
     */
    readonly startLocalPull: (
      request: PleasePullRequest,
      reason: PullReason
    ) => Effect.Effect<ReadonlyArray<PleasePullOutcome>>
  }
>()("@gantry/coord/CoordServer") {}
