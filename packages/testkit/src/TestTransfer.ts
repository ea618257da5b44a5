/**
 * Transfers that end as a test says.
 */
import {
  NoHolder,
  Transfer,
  type TransferAttempt,
  TransferError,
  type TransferReport,
  type TransferRequest
} from "@gantry/coord/Transfer"
import type { Digest, NodeId } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { makeScript } from "./internal/script.ts"

/** Governs the {@link Transfer} of the same layer. */
export class TestTransfer extends Context.Service<
  TestTransfer,
  {
    /**
     * Answers for a digest, one per request, the last one also to all that follow.
     * Any other digest comes at once from the first holder.
     */
    readonly answer: (
      digest: Digest,
      ...answers: ReadonlyArray<Effect.Effect<TransferReport, TransferError>>
    ) => Effect.Effect<void>
    /** All requests so far, in order. */
    readonly requests: Effect.Effect<ReadonlyArray<TransferRequest>>
  }
>()("@gantry/testkit/TestTransfer") {}

/** What a holder did instead of delivering, with details that do not matter. */
export const attemptOf = (tag: TransferAttempt["_tag"], holder: NodeId): TransferAttempt => ({
  _tag: tag,
  holder,
  detail: "as the test says",
  retryAfter: Option.none(),
  remaining: Duration.seconds(1)
})

const fromFirst = ({ digest, holders, size }: TransferRequest): Effect.Effect<TransferReport, TransferError> => {
  const first = holders[0]
  return first === undefined
    ? Effect.fail(new TransferError({ digest, reason: new NoHolder({ attempts: [] }) }))
    : Effect.succeed({ bytes: Option.getOrElse(size, () => 0), holder: first.nodeId })
}

const make = Effect.sync(() => {
  const { respond, ...control } = makeScript(({ digest }: TransferRequest) => digest, fromFirst)
  return Context.make(Transfer, Transfer.of({ fetch: respond })).pipe(
    Context.add(TestTransfer, TestTransfer.of(control))
  )
})

/** Transfers that succeed wherever there is a holder. */
export const layer: Layer.Layer<Transfer | TestTransfer> = Layer.effectContext(make)
