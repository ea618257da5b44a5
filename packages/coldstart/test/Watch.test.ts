import { assert, describe, it } from "@effect/vitest"
import { type ContentKind, timestampFromMillis } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Watch from "../src/internal/Watch.ts"

const at = (millis: number) => Option.some(timestampFromMillis(millis))
const mebibyte = 1024 * 1024

/** What a node may say about its pull: which one runs, that none does, or nothing at all. */
const Words = Schema.Array(
  Schema.Struct({
    after: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5_000 })),
    word: Schema.Literals(["a", "b", "untold", "idle", "silence"])
  })
)

const instants = { a: at(1), b: at(2), untold: Option.none() }

describe("Watch", () => {
  for (const [kind, size, threshold] of [
    ["manifest", undefined, 5_000],
    ["manifest", 500 * mebibyte, 5_000],
    ["config", undefined, 5_000],
    ["config", 500 * mebibyte, 5_000],
    ["layer", undefined, 30_000],
    ["layer", 0, 30_000],
    ["layer", 500 * mebibyte, 30_000],
    ["layer", 1_000 * mebibyte, 60_000],
    ["layer", 5_000 * mebibyte, 300_000]
  ] satisfies ReadonlyArray<[ContentKind, number | undefined, number]>) {
    it(`gives a ${kind} of ${size ?? "unknown"} bytes ${threshold} ms`, () => {
      assert.strictEqual(Watch.stallThreshold(kind, Option.fromUndefinedOr(size)), threshold)
    })
  }

  it("calls a pull stale once it was watched for longer than the threshold, and no earlier", () => {
    const watch = Watch.seen(undefined, at(0), 1_000)
    assert.strictEqual(Watch.judge(watch, 6_000, 5_000), "running")
    assert.strictEqual(Watch.judge(watch, 6_001, 5_000), "stale")
  })

  it("takes a pull whose beginning is not told for the one that it watches", () => {
    const watch = Watch.seen(Watch.seen(Watch.seen(undefined, Option.none(), 0), at(7), 10), Option.none(), 20)
    assert.deepStrictEqual(watch, { startedAt: at(7), since: 0, running: true, restarts: 0, misses: 0 })
  })

  const watchThrough = (words: typeof Words.Type) => {
    let now = 0
    let watch = Watch.seen(undefined, at(1), now)
    for (const { after, word } of words) {
      now += after
      watch =
        word === "idle"
          ? Watch.ended(watch)
          : word === "silence"
            ? Watch.missed(watch)
            : Watch.seen(watch, instants[word], now)
    }
    return { now, watch }
  }

  it.prop("never waits for one node beyond the threshold times the restarts, whatever it says", [Words], ([words]) => {
    const { now, watch } = watchThrough(words)
    const patience = 5_000 * (Watch.maxRestarts + 1) + 5_000 * words.length
    return now <= patience || Watch.judge(watch, now + 5_001, 5_000) !== "running"
  })

  it.prop("waits for no node that has said nothing three times", [Words], ([words]) => {
    const { now, watch } = watchThrough(words)
    const silent = Watch.missed(Watch.missed(Watch.missed(watch)))
    return Watch.judge(silent, now, 5_000) !== "running"
  })

  it.prop("does not depend on the puller's clock", [Words, Schema.Int], ([words, skew]) => {
    const skewed = (watch: Watch.Watch | undefined, millis: number, now: number) =>
      Watch.seen(watch, at(millis + skew), now)
    let now = 0
    let here = Watch.seen(undefined, at(1), now)
    let there = skewed(undefined, 1, now)
    for (const { after, word } of words) {
      now += after
      if (word !== "a" && word !== "b") continue
      here = Watch.seen(here, instants[word], now)
      there = skewed(there, word === "a" ? 1 : 2, now)
    }
    return Watch.judge(here, now, 5_000) === Watch.judge(there, now, 5_000)
  })
})
