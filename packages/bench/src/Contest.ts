/**
 * How two servers did under the same load, side by side.
 */
import { type Bound, type Figures, table } from "./Figures.ts"
import { median } from "./Load.ts"

/** What one run showed about one server. */
export interface Sample {
  /** Requests a second. */
  readonly rate: number
  /** Milliseconds from question to answer. */
  readonly p50: number
  readonly p99: number
  /** Processor time of the server for each request, in microseconds. */
  readonly cpu: number
}

/** The samples of one load: a pair of each round. */
interface Bout {
  readonly ours: Array<Sample>
  readonly theirs: Array<Sample>
}

/** What a load may be held against. */
type Measure = keyof Sample

/** Collects samples, load by load. */
export interface Contest {
  readonly note: (load: string, side: keyof Bout, sample: Sample) => void
  /** Holds ours divided by theirs against a target. */
  readonly hold: (load: string, measure: Measure, bound: Bound) => void
  /** The medians, for people. */
  readonly format: () => string
}

const names: Readonly<Record<Measure, string>> = { rate: "rate", p50: "p50", p99: "p99", cpu: "processor time" }

/** Enough of a number to compare it. */
const digits = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3))

/** Tells figures what it collects. */
export const make = (figures: Figures, rival: string): Contest => {
  const bouts = new Map<string, Bout>()
  const boutOf = (load: string): Bout => {
    const bout = bouts.get(load) ?? { ours: [], theirs: [] }
    bouts.set(load, bout)
    return bout
  }
  const of = (samples: ReadonlyArray<Sample>, measure: Measure) => samples.map((sample) => sample[measure])
  /** Round by round: what disturbs one server in a round disturbs the other. */
  const quotient = ({ ours, theirs }: Bout, measure: Measure) =>
    median(of(ours, measure).map((value, round) => value / (of(theirs, measure)[round] ?? Number.NaN)))

  return {
    note: (load, side, sample) => void boutOf(load)[side].push(sample),
    hold: (load, measure, bound) =>
      figures.judge(`${load}: ${names[measure]} / ${rival}`, quotient(boutOf(load), measure), bound),
    format: () =>
      table([
        ["load", "a second", rival, "ratio", "p50 ms", rival, "p99 ms", rival, "µs of CPU", rival, "ratio"],
        ...[...bouts].map(([load, bout]) => {
          const pair = (measure: Measure) =>
            [bout.ours, bout.theirs].map((samples) => digits(median(of(samples, measure))))
          const rates = [...pair("rate"), quotient(bout, "rate").toFixed(2)]
          const cpu = [...pair("cpu"), quotient(bout, "cpu").toFixed(2)]
          return [load, ...rates, ...pair("p50"), ...pair("p99"), ...cpu]
        })
      ])
  }
}
