/**
 * What to do next about a digest, from what is known: the order of the page
 * (parts, asking for a digest), and nothing but decisions.
 */
import type { NodeId } from "@gantry/protocol"
import * as Data from "effect/Data"
import * as Option from "effect/Option"
import * as Note from "./Note.ts"
import type { Answers } from "./Round.ts"

/** A step, with the number that the page gives it. */
export type Step = Data.TaggedEnum<{
  /** The bytes are here. */
  Have: {}
  /** 2. Somebody has it. */
  Fetch: { readonly holders: ReadonlyArray<NodeId> }
  /** 3. Somebody is pulling it. */
  Wait: { readonly pullers: ReadonlyArray<NodeId> }
  /** 4. Nobody of the best can be reached. */
  Widen: {}
  /** 5. The best one left is to pull it. */
  Ask: { readonly puller: NodeId }
  /** 6. Nobody is left. */
  Fallback: {}
}>
export const Step = Data.taggedEnum<Step>()

/** What is known when a round is over. */
export interface Situation {
  readonly self: NodeId
  /** The candidates that count, best first. */
  readonly ranks: ReadonlyArray<NodeId>
  /** Whether more candidates may still be brought in. */
  readonly canWiden: boolean
  readonly answers: Answers
  readonly noteOf: (node: NodeId) => Note.Note
  /** Whether a node is pulling, as far as we will believe it. */
  readonly isPulling: (node: NodeId) => boolean
}

/** The first rule that applies. What a node says about its failures plays no part: it is a hint, not a verdict. */
export const next = (situation: Situation): Step => {
  const { answers, canWiden, noteOf, ranks, self } = situation
  const answerOf = (node: NodeId) => Option.flatten(Option.fromUndefinedOr(answers.get(node)))
  const has = (node: NodeId) => Option.exists(answerOf(node), (intent) => intent.hasCached)
  if (has(self)) return Step.Have()

  const nodes = [...answers.keys()]
  const holders = nodes.filter((node) => has(node) && Note.isCredible(noteOf(node)))
  if (holders.length > 0) return Step.Fetch({ holders })

  const pullers = nodes.filter(situation.isPulling)
  if (pullers.length > 0) return Step.Wait({ pullers })

  const reachable = ranks.filter((node) => Option.isSome(answerOf(node)))
  if (reachable.length === 0 && canWiden) return Step.Widen()

  const willing = reachable.filter((node) => noteOf(node).passedOver === undefined)
  // Who took the pull on and has ended it without the bytes knows why.
  const puller = willing.find((node) => noteOf(node).asks > 0) ?? willing[0]
  return puller === undefined ? Step.Fallback() : Step.Ask({ puller })
}
