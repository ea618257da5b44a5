/**
 * What the code under fuzzing did, from the counters that `instrument.ts` puts
 * into it.
 */

/** Tells inputs that do something new from those that don't. */
export interface Coverage {
  /** Whether what ran since the last look went where nothing went before, or more often. Forgets what ran. */
  readonly look: () => boolean
  /** Places that were reached, of how many. */
  readonly reached: () => { readonly places: number; readonly of: number }
}

/** How often a place was reached, roughly: 1, 2-3, 4-7 and so on, as a bit. */
const magnitude = (count: number): number => 1 << (31 - Math.clz32(count))

/** Counters of places: the values are the counts. */
export type Counters = Array<number> | Record<number, number>

/** Coverage by these counters, which it resets. */
export const make = (counters: ReadonlyArray<Counters>): Coverage => {
  const groups = counters.map((counts) => ({ counts, seen: new Uint32Array(Object.keys(counts).length) }))
  return {
    look() {
      let isNew = false
      for (const { counts, seen } of groups) {
        for (let place = 0; place < seen.length; place++) {
          const count = counts[place] as number
          if (count === 0) continue
          counts[place] = 0
          const before = seen[place] as number
          const after = before | magnitude(count)
          if (after === before) continue
          seen[place] = after
          isNew = true
        }
      }
      return isNew
    },
    reached: () => ({
      places: groups.reduce((sum, { seen }) => sum + seen.filter((magnitudes) => magnitudes > 0).length, 0),
      of: groups.reduce((sum, { seen }) => sum + seen.length, 0)
    })
  }
}

/** What the instrumented code keeps about one of its files: statements, functions, and the ways of each branch. */
interface FileCoverage {
  readonly s: Record<number, number>
  readonly f: Record<number, number>
  readonly b: Record<number, Array<number>>
}

/** The counters of the instrumented code in this process; none without it. */
export const countersOfProcess = (): ReadonlyArray<Counters> => {
  const files: Record<string, FileCoverage> =
    (globalThis as { __coverage__?: Record<string, FileCoverage> }).__coverage__ ?? {}
  return Object.values(files).flatMap(({ b, f, s }) => [s, f, ...Object.values(b)])
}
