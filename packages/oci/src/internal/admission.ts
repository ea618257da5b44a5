/**
 * Decides how many of a kind may go on at once.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A share that somebody wants of what is bounded. */
export interface Claim {
  readonly of: string
  /** How many may have one at once. */
  readonly limit: number
}

/** Gives all claims until the scope closes, or none of them; never waits. */
export type Admission = (claims: ReadonlyArray<Claim>) => Effect.Effect<boolean, never, Scope.Scope>

export const make = (): Admission => {
  const taken = new Map<string, number>()
  const count = (of: string) => taken.get(of) ?? 0

  const take = (claims: ReadonlyArray<Claim>) => {
    if (claims.some(({ limit, of }) => count(of) >= limit)) return false
    for (const { of } of claims) taken.set(of, count(of) + 1)
    return true
  }
  const giveBack = (claims: ReadonlyArray<Claim>) => {
    for (const { of } of claims) {
      if (count(of) === 1) taken.delete(of)
      else taken.set(of, count(of) - 1)
    }
  }

  return (claims) =>
    Effect.acquireRelease(
      Effect.sync(() => take(claims)),
      (isTaken) => Effect.sync(() => void (isTaken && giveBack(claims)))
    )
}
