/**
 * Feeds a target with inputs, and keeps those that lead somewhere new.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { Coverage } from "./Coverage.ts"
import { type Draw, mutate } from "./Mutation.ts"
import { type Failure, failureOf, type Target } from "./Target.ts"

/** An input that showed something wrong, the first of its kind. */
export interface Finding extends Failure {
  readonly input: Uint8Array
}

/** How far a run has come. */
export interface Progress {
  readonly executions: number
  /** Of the run so far. */
  readonly millis: number
  /** Inputs that led somewhere new. */
  readonly corpus: ReadonlyArray<Uint8Array>
  readonly findings: ReadonlyArray<Finding>
}

/** What to run. */
export interface Options {
  readonly target: Target
  readonly coverage: Coverage
  /** What to begin with; at least one. */
  readonly seeds: ReadonlyArray<Uint8Array>
  /** The run ends after so many executions, */
  readonly runs: number
  /** or after so many milliseconds. */
  readonly millis?: number | undefined
  /** Told every few seconds. */
  readonly report?: (progress: Progress) => Effect.Effect<void>
}

/** Executions between two looks at the clock; other fibers and signals get through there. */
const executionsPerTurn = 256

const millisPerReport = 10_000

/** Runs the seeds, and then mutations of what is in the corpus. The course follows from Effect's random alone. */
export const run = Effect.fnUntraced(function* ({ coverage, millis, report, runs, seeds, target }: Options) {
  const random = yield* Random.Random
  const draw: Draw = (below) => Math.floor(random.nextDoubleUnsafe() * below)
  const began = yield* Clock.currentTimeMillis
  const corpus: Array<Uint8Array> = []
  const findings = new Map<string, Finding>()
  let executions = 0

  const execute = (input: Uint8Array) => {
    executions++
    const failure = failureOf(target, input)
    if (Option.isSome(failure) && !findings.has(failure.value.what)) {
      findings.set(failure.value.what, { ...failure.value, input: input.slice() })
    }
    if (coverage.look()) corpus.push(input.slice())
  }

  /** Half of the time one of the latest: what they found has hardly been looked into. */
  const pick = () => {
    const among = draw(2) === 0 ? Math.min(16, corpus.length) : corpus.length
    return (corpus[corpus.length - 1 - draw(among)] ?? seeds[draw(seeds.length)]) as Uint8Array
  }

  const progress = Effect.map(
    Clock.currentTimeMillis,
    (now): Progress => ({ executions, millis: now - began, corpus, findings: [...findings.values()] })
  )

  let reported = 0
  for (const seed of seeds.slice(0, runs)) execute(seed)
  while (executions < runs) {
    const until = Math.min(runs, executions + executionsPerTurn)
    while (executions < until) execute(mutate(pick(), pick(), draw))
    yield* Effect.yieldNow
    const now = yield* progress
    if (millis !== undefined && now.millis >= millis) break
    if (report !== undefined && now.millis - reported >= millisPerReport) {
      reported = now.millis
      yield* report(now)
    }
  }
  return yield* progress
})
