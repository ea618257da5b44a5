import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import * as Coverage from "../src/Coverage.ts"
import * as Fuzzer from "../src/Fuzzer.ts"
import { headerBytes } from "../src/Input.ts"
import type { Target } from "../src/Target.ts"
import { Violation } from "../src/Violation.ts"

/** Where the word is looked for: behind what the fuzzer takes for a length. */
const at = headerBytes + 4

/** A defect behind a word, which is read byte by byte, and how often each of its bytes was. */
const hidden = (word: string) => {
  const counters = new Array<number>(word.length).fill(0)
  const target: Target = (bytes) => {
    for (let index = 0; index < word.length; index++) {
      counters[index] = (counters[index] as number) + 1
      if (bytes[at + index] !== word.charCodeAt(index)) return
    }
    throw new Violation("the word is not known", word)
  }
  return { counters, target }
}

const search = (
  options: Pick<Fuzzer.Options, "target" | "coverage"> & { readonly runs?: number; readonly seed?: number }
) =>
  Fuzzer.run({ runs: 60_000, seeds: [new Uint8Array(headerBytes + 12)], ...options }).pipe(
    Random.withSeed(options.seed ?? 3)
  )

describe("Fuzzer", () => {
  it.effect("finds what is hidden behind one condition after the other", () =>
    Effect.gen(function* () {
      const { counters, target } = hidden("bug!")
      const { findings } = yield* search({ target, coverage: Coverage.make([counters]) })
      assert.deepStrictEqual(
        findings.map(({ input, what }) => [what, Buffer.from(input.subarray(at, at + 4)).toString()]),
        [["the word is not known", "bug!"]]
      )
    })
  )

  it.effect("is guided there by coverage, and not by chance", () =>
    Effect.gen(function* () {
      const { target } = hidden("bug!")
      const { corpus, findings } = yield* search({ target, coverage: Coverage.make([]) })
      assert.deepStrictEqual({ corpus, findings }, { corpus: [], findings: [] })
    })
  )

  it.effect("takes the same course from the same seed, and another from another", () =>
    Effect.gen(function* () {
      const corpora = yield* Effect.forEach([7, 7, 8], (seed) => {
        const { counters, target } = hidden("bug!")
        const searched = search({ target, coverage: Coverage.make([counters]), runs: 20_000, seed })
        return Effect.map(searched, ({ corpus }) => corpus)
      })
      assert.deepStrictEqual(corpora[0], corpora[1])
      assert.notDeepEqual(corpora[0], corpora[2])
    })
  )

  it.effect("goes on after a finding, and keeps the first of each kind", () =>
    Effect.gen(function* () {
      const target: Target = (bytes) => {
        throw bytes.length % 2 === 0 ? new Violation("even", String(bytes.length)) : new Error("odd")
      }
      const { executions, findings } = yield* search({ target, coverage: Coverage.make([]), runs: 1_000 })
      assert.strictEqual(executions, 1_000)
      assert.sameMembers(
        findings.map(({ what }) => what),
        ["even", "an unexpected Error"]
      )
    })
  )
})

describe("Coverage", () => {
  it("is new where a place is reached first, or by a power of two more often", () => {
    const counts = [0, 0]
    const { look, reached } = Coverage.make([counts])
    const reach = (place: number, times: number) => {
      counts[place] = times
      return look()
    }
    assert.deepStrictEqual(
      [reach(0, 1), reach(0, 1), reach(0, 2), reach(0, 3), reach(0, 4)],
      [true, false, true, false, true]
    )
    assert.deepStrictEqual(reached(), { places: 1, of: 2 })
    assert.isTrue(reach(1, 1))
    assert.deepStrictEqual(reached(), { places: 2, of: 2 })
  })
})
