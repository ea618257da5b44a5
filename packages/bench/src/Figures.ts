/**
 * What a run of the benchmark came to.
 */
import { median } from "./Load.ts"

/** A figure with what it is to be: at least or at most the target. */
export interface Ratio {
  readonly name: string
  readonly value: number
  readonly target: number
  readonly met: boolean
}

/** Collects figures. */
export interface Figures {
  /** Notes a value of a round; the median of all rounds counts. */
  readonly note: (name: string, unit: string, value: number) => void
  /** The median of the rounds' quotients: what disturbs a round disturbs both. */
  readonly quotient: (name: string, of: string, by: string, bound: Bound) => void
  /** Holds the median of a value against a target. */
  readonly hold: (name: string, value: string, bound: Bound) => void
  /** Holds a value against a target. */
  readonly judge: (name: string, value: number, bound: Bound) => void
  readonly medians: () => ReadonlyArray<{ readonly name: string; readonly unit: string; readonly median: number }>
  readonly ratios: ReadonlyArray<Ratio>
}

/** Where a figure is to stay. */
export type Bound = { readonly atLeast: number } | { readonly atMost: number }

export const make = (): Figures => {
  const notes = new Map<string, { readonly unit: string; readonly values: Array<number> }>()
  const ratios: Array<Ratio> = []
  const valuesOf = (name: string): ReadonlyArray<number> => notes.get(name)?.values ?? []

  const judge = (name: string, value: number, bound: Bound) => {
    const [target, met] =
      "atLeast" in bound ? [bound.atLeast, value >= bound.atLeast] : [bound.atMost, value <= bound.atMost]
    ratios.push({ name, value, target, met })
  }

  return {
    note(name, unit, value) {
      const known = notes.get(name)
      if (known === undefined) notes.set(name, { unit, values: [value] })
      else known.values.push(value)
    },
    quotient(name, of, by, bound) {
      const bys = valuesOf(by)
      judge(name, median(valuesOf(of).map((value, round) => value / (bys[round] ?? Number.NaN))), bound)
    },
    judge,
    hold: (name, value, bound) => judge(name, median(valuesOf(value)), bound),
    medians: () => [...notes].map(([name, { unit, values }]) => ({ name, unit, median: median(values) })),
    ratios
  }
}

const digits = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3))

/** Rows whose columns stand below each other; the first one to the left, the others to the right. */
export const table = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  ")
    )
    .join("\n")
}

/** The medians and how they stand to the targets, for people. */
export const format = (figures: Figures): string =>
  [
    table(figures.medians().map(({ median, name, unit }) => [name, digits(median), unit.padEnd(12)])),
    table([
      ["figure", "value", "target", ""],
      ...figures.ratios.map(({ met, name, target, value }) => [
        name,
        digits(value),
        digits(target),
        met ? "met" : "MISSED"
      ])
    ])
  ].join("\n\n")
