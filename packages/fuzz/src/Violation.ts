/**
 * An invariant that did not hold.
 */

/** What a target throws. `invariant` is the same text whatever the input, so that findings can be told apart. */
export class Violation extends Error {
  override readonly name = "Violation"
  readonly invariant: string
  readonly detail: string

  constructor(invariant: string, detail: string) {
    super(`${invariant}: ${detail}`)
    this.invariant = invariant
    this.detail = detail
  }
}

/** Throws unless the condition holds. */
export function check(condition: boolean, invariant: string, detail: () => string): asserts condition {
  if (!condition) throw new Violation(invariant, detail())
}
