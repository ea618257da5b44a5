/**
 * Asks a node, or ourselves, to pull a blob from the origin.
 */
import { CoordClient, type CoordClientError } from "@gantry/coord/CoordClient"
import { CoordServer } from "@gantry/coord/CoordServer"
import { Members } from "@gantry/coord/Members"
import type { PullReason } from "@gantry/coord/Pump"
import { type NodeId, type PleasePullOutcome, PleasePullRequest, Unspecified, type Verdict } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { BlobRequest } from "../BlobRequest.ts"
import { resetBackoff } from "./Round.ts"
import type { Settings } from "./settings.ts"

/**
 * What came of it: the node's verdict, or how it failed to give one. `NoAnswer`:
 * the request may have arrived. `OutOfReach`: it certainly has not.
 */
export type Reply = Verdict | { readonly _tag: "NoAnswer" } | { readonly _tag: "OutOfReach" }
const noAnswer: Reply = { _tag: "NoAnswer" }
const outOfReach: Reply = { _tag: "OutOfReach" }

/** There never was a connection that carried the request, or nobody at its end to take it. */
const isOutOfReach = ({ phase, reason }: CoordClientError): boolean => {
  switch (reason) {
    case "CannotResolve":
    case "UnsupportedProtocol":
      return true
    case "Unreachable":
    case "TimedOut":
      return phase === "resolve" || phase === "dial"
    default:
      return false
  }
}

/** The client has the first word on a call whose time is up, for it knows how far the request got. */
const clientsWord = Duration.millis(250)

export const make = Effect.fnUntraced(function* (settings: Settings) {
  const client = yield* CoordClient
  const server = yield* CoordServer
  const { self } = yield* Members
  const timeout = Duration.sum(settings.pleasePullTimeout, clientsWord)

  const requestFor = ({ kind, ref: { digest, registry, repository } }: BlobRequest) =>
    new PleasePullRequest({ registry, repository, kind, digests: [digest] })

  const callPeer = (node: NodeId, request: PleasePullRequest) =>
    Effect.retry(client.pleasePull(node, request), {
      while: (error) => error.reason === "Reset",
      schedule: resetBackoff
    })

  const call = (node: NodeId, blob: BlobRequest, reason: PullReason): Effect.Effect<Reply> => {
    const request = requestFor(blob)
    const verdictOf = (outcomes: ReadonlyArray<PleasePullOutcome>): Reply =>
      outcomes.find(({ digest }) => digest === blob.ref.digest)?.verdict ?? new Unspecified()
    return (node === self ? server.startLocalPull(request, reason) : callPeer(node, request)).pipe(
      Effect.map(verdictOf),
      Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.succeed(noAnswer) }),
      Effect.tapError((error) => Effect.logDebug(error.message)),
      Effect.catch((error) => Effect.succeed(isOutOfReach(error) ? outOfReach : noAnswer))
    )
  }

  /**
   * The reply may be lost while the pull runs: the same node is asked twice
   * before anyone else is thought of, and one that is out of reach by then may
   * be pulling still. `reason` is for the record of our own pulls.
   */
  return Effect.fnUntraced(function* (node: NodeId, blob: BlobRequest, reason: PullReason) {
    const first = yield* call(node, blob, reason)
    if (first._tag !== "NoAnswer") return first
    const second = yield* call(node, blob, reason)
    return second._tag === "OutOfReach" ? first : second
  })
})
