/**
 * Random picks from a long list.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/**
 * So many of the items at random, none of the excluded ones. Shuffles only as
 * far as it draws, and the list stays as it is: it may have ten thousand items.
 */
export const draw = Effect.fnUntraced(function* <A>(items: ReadonlyArray<A>, count: number, excluded: ReadonlySet<A>) {
  /** Which item is at a place that the shuffle has touched. */
  const moved = new Map<number, number>()
  const drawn: Array<A> = []
  for (let left = items.length; left > 0 && drawn.length < count; left--) {
    const place = yield* Random.nextIntBetween(0, left, { halfOpen: true })
    const item = items[moved.get(place) ?? place] as A
    moved.set(place, moved.get(left - 1) ?? left - 1)
    if (!excluded.has(item)) drawn.push(item)
  }
  return drawn
})
