/**
 * What to do next about a blob, from what is known: the order of the page
 * (parts, asking for a digest), and nothing but decisions.
 */
import type { NodeId, PullIntent } from "@gantry/protocol"
import * as Data from "effect/Data"
import * as Option from "effect/Option"
import * as PeerState from "./PeerState.ts"
import * as PursuitState from "./PursuitState.ts"
import type { Answers } from "./Round.ts"
import { hedgeMillis } from "./Watch.ts"

/** A step, with the number that the page gives it. */
export type Step = Data.TaggedEnum<{
  /** The bytes are here. */
  Have: {}
  /** 2. Somebody has it. */
  Fetch: { readonly holders: ReadonlyArray<NodeId> }
  /** 3. Somebody is pulling it. */
  Wait: { readonly pullers: ReadonlyArray<NodeId> }
  /** 3. Somebody is pulling it, and another one is to pull it too. */
  Hedge: { readonly puller: NodeId; readonly pullers: ReadonlyArray<NodeId> }
  /** 4. Nobody of the best can be reached, or can bear witness. */
  Widen: {}
  /** 5. The best one left is to pull it. */
  Ask: { readonly puller: NodeId }
  /** 5. The last witness has spoken. */
  Conclude: { readonly verdict: PursuitState.Statement }
  /** 6. Nobody is left. */
  HoldBack: {}
  /** 6. Nobody is left, and we have waited our while. */
  PullOurselves: {}
  /** 6. Our own pulls come to nothing, and do not tell why. */
  GiveUp: {}
}>
export const Step = Data.taggedEnum<Step>()

/** What is known when a round is over. */
export interface Situation {
  readonly state: PursuitState.PursuitState
  readonly now: PursuitState.Now
  /** The candidates that count, best first. */
  readonly ranks: ReadonlyArray<NodeId>
  /** How many nodes may be brought to ask the origin: the K of the page. */
  readonly limit: number
  /** Whether more candidates may still be brought in. */
  readonly canWiden: boolean
  readonly answers: Answers
}

/** How many of our own pulls as the last resort may end without the bytes. */
const maxOwnPulls = 2

/** The first rule that applies. What a node says about its failures in a query plays no part: it is a hint, not a verdict. */
export const next = (situation: Situation): Step => {
  const { answers, canWiden, limit, now, ranks, state } = situation
  const has = (node: NodeId) => said(situation, node, (intent) => intent.hasCached)
  if (has(state.self)) return Step.Have()

  const nodes = [...answers.keys()]
  const holders = nodes.filter((node) => has(node) && PeerState.isCredible(PursuitState.peerOf(state, node)))
  if (holders.length > 0) return Step.Fetch({ holders })

  // Asked now it says why its pull failed; once its cooldown is over it would pull once more.
  const witness = ranks.find((node) => hasFailed(situation, node))
  if (witness !== undefined && !isConclusive(situation)) return Step.Ask({ puller: witness })

  const pullers = nodes.filter((node) => PursuitState.isPulling(state, node, now))
  if (pullers.length > 0) return Option.getOrElse(hedge(situation, pullers), () => Step.Wait({ pullers }))

  const { statements } = state
  const last = statements.at(-1)
  if (last !== undefined && isConclusive(situation)) return Step.Conclude({ verdict: last })

  const reachable = reachableRanks(situation)
  if (reachable.length === 0 && canWiden) return Step.Widen()

  const willing = reachable.filter((node) => isWilling(situation, node))
  // Who took the pull on and has ended it without the bytes knows why.
  const puller = willing.find((node) => PursuitState.peerOf(state, node).asks > 0) ?? willing[0]
  if (puller !== undefined) return Step.Ask({ puller })

  if (last !== undefined) {
    // One node's failure says as much about that node: a further witness is worth looking for.
    const isWanted = canWiden && state.ownPulls === 0 && PursuitState.failures(state) < limit
    return isWanted ? Step.Widen() : Step.Conclude({ verdict: last })
  }

  if (!state.hasHeldBack) return Step.HoldBack()
  return state.ownPulls < maxOwnPulls ? Step.PullOurselves() : Step.GiveUp()
}

const said = ({ answers }: Situation, node: NodeId, what: (intent: PullIntent) => boolean): boolean =>
  Option.exists(Option.flatten(Option.fromUndefinedOr(answers.get(node))), what)

const reachableRanks = (situation: Situation) => situation.ranks.filter((node) => said(situation, node, () => true))

const isWilling = ({ state }: Situation, node: NodeId) => PursuitState.peerOf(state, node).exclusion === undefined

/** Whether the node has taken the pull on, has ended it, and says that a pull of this digest failed. */
const hasFailed = (situation: Situation, node: NodeId) => {
  const { asks, watch } = PursuitState.peerOf(situation.state, node)
  const hasEnded = asks > 0 && watch?.isRunning === false && isWilling(situation, node)
  return hasEnded && said(situation, node, ({ recentlyFailed }) => recentlyFailed)
}

/** Whether the registry itself has told everybody to wait. */
const isRateLimited = ({ state: { statements } }: Situation) =>
  statements.some(({ failureClass }) => failureClass === "rate_limited")

/** Whether nobody else needs to be heard about why pulls fail. */
const isConclusive = (situation: Situation) => {
  const { limit, state } = situation
  const absences = state.statements.filter(({ failureClass }) => failureClass === "not_found")
  return isRateLimited(situation) || absences.length >= 2 || state.statements.length >= limit
}

/**
 * A second pull of a manifest or a config costs a few kB, and waiting for it
 * stops a whole image. One more node pulls it each time that the pull which has
 * been watched the longest has taken another while; nobody is given up for it.
 */
const hedge = (situation: Situation, pullers: ReadonlyArray<NodeId>): Option.Option<Step> => {
  const { limit, now, state } = situation
  const waits = pullers.map((node) => now.at - (PursuitState.peerOf(state, node).watch?.since ?? now.at))
  const due = 1 + Math.floor(Math.max(...waits) / hedgeMillis)
  const isDue = state.request.kind !== "layer" && pullers.length < Math.min(due, limit)
  // A pull that waits because the registry said so is not sped up by asking the registry once more.
  const isFutile =
    isRateLimited(situation) ||
    pullers.some((node) =>
      said(situation, node, (intent) => intent.recentlyFailed && intent.failureClass === "rate_limited")
    )
  if (!isDue || isFutile) return Option.none()
  const puller = reachableRanks(situation).find((node) => isWilling(situation, node) && !pullers.includes(node))
  return Option.map(Option.fromUndefinedOr(puller), (puller) => Step.Hedge({ puller, pullers }))
}
