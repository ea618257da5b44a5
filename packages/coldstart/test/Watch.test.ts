import { assert, describe, it } from "@effect/vitest"
import { type ContentKind, timestampFromMillis } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Watch from "../src/internal/Watch.ts"

const at = (millis: number) => Option.some(timestampFromMillis(millis))
const mebibyte = 1024 * 1024

const layer: Watch.Blob = { kind: "layer", size: Option.some(1_000) }

const silent = (startedAt: Watch.Sighting["startedAt"]): Watch.Sighting => ({ startedAt, progress: Option.none() })

const telling = (startedAt: Watch.Sighting["startedAt"], receivedBytes: number): Watch.Sighting => ({
  startedAt,
  progress: Option.some({ receivedBytes, totalBytes: Option.none() })
})

/** What a node may say about its pull: which one runs and how far it is, that none does, or nothing at all. */
const Words = Schema.Array(
  Schema.Struct({
    after: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40_000 })),
    received: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2_000 })),
    word: Schema.Literals(["a", "b", "untold", "idle", "silence"])
  })
)

const instants = { a: at(1), b: at(2), untold: Option.none() }

describe("Watch", () => {
  for (const [kind, size, threshold] of [
    ["manifest", undefined, 40_000],
    ["manifest", 500 * mebibyte, 40_000],
    ["config", undefined, 40_000],
    ["config", 500 * mebibyte, 40_000],
    ["layer", undefined, 30_000],
    ["layer", 0, 30_000],
    ["layer", 500 * mebibyte, 30_000],
    ["layer", 1_000 * mebibyte, 60_000],
    ["layer", 5_000 * mebibyte, 300_000]
  ] satisfies ReadonlyArray<[ContentKind, number | undefined, number]>) {
    it(`gives a ${kind} of ${size ?? "unknown"} bytes ${threshold} ms where the node does not tell how far it is`, () => {
      const of: Watch.Blob = { kind, size: Option.fromUndefinedOr(size) }
      const watch = Watch.seen(undefined, silent(at(0)), 1_000, of)
      assert.strictEqual(Watch.judge(watch, 1_000 + threshold, of), "running")
      assert.strictEqual(Watch.judge(watch, 1_001 + threshold, of), "stale")
    })
  }

  it("gives every pull 40 s from its last growth where the node tells how far it is", () => {
    const layer: Watch.Blob = { kind: "layer", size: Option.some(5_000 * mebibyte) }
    const begun = Watch.seen(undefined, silent(at(0)), 0, layer)
    const first = Watch.seen(begun, telling(at(0), 0), 30_000, layer)
    assert.strictEqual(Watch.judge(first, 40_001, layer), "stale")
    const grown = Watch.seen(first, telling(at(0), mebibyte), 35_000, layer)
    assert.strictEqual(Watch.judge(grown, 75_000, layer), "running")
    assert.strictEqual(Watch.judge(grown, 75_001, layer), "stale")
    const again = Watch.seen(grown, telling(at(0), mebibyte), 60_000, layer)
    assert.strictEqual(Watch.judge(again, 75_001, layer), "stale")
  })

  it("takes a pull whose beginning is not told for the one that it watches", () => {
    const first = Watch.seen(undefined, silent(Option.none()), 0, layer)
    const watch = Watch.seen(Watch.seen(first, silent(at(7)), 10, layer), silent(Option.none()), 20, layer)
    assert.deepStrictEqual([watch.startedAt, watch.since, watch.restarts], [at(7), 0, 0])
  })

  const watchThrough = (words: typeof Words.Type) => {
    let now = 0
    let watch = Watch.seen(undefined, silent(at(1)), now, layer)
    for (const { after, received, word } of words) {
      now += after
      watch =
        word === "idle"
          ? Watch.ended(watch)
          : word === "silence"
            ? Watch.missed(watch)
            : Watch.seen(watch, telling(instants[word], received), now, layer)
    }
    return { now, watch }
  }

  it.prop("never waits for one node for ever, whatever it says", [Words], ([words]) => {
    // Each of its pulls can grow 46 times: 45 steps, and the last one to the whole.
    const { now, watch } = watchThrough(words)
    const patience = 40_000 * 47 * (Watch.maxRestarts + 1)
    return now <= patience || Watch.judge(watch, now, layer) !== "running"
  })

  it.prop("waits for no node that has said nothing three times", [Words], ([words]) => {
    const { now, watch } = watchThrough(words)
    const silent = Watch.missed(Watch.missed(Watch.missed(watch)))
    return Watch.judge(silent, now, layer) !== "running"
  })

  it.prop("does not depend on the puller's clock", [Words, Schema.Int], ([words, skew]) => {
    const skewed = (watch: Watch.Watch | undefined, millis: number, received: number, now: number) =>
      Watch.seen(watch, telling(at(millis + skew), received), now, layer)
    let now = 0
    let here = Watch.seen(undefined, telling(at(1), 0), now, layer)
    let there = skewed(undefined, 1, 0, now)
    for (const { after, received, word } of words) {
      now += after
      if (word !== "a" && word !== "b") continue
      here = Watch.seen(here, telling(instants[word], received), now, layer)
      there = skewed(there, word === "a" ? 1 : 2, received, now)
    }
    return Watch.judge(here, now, layer) === Watch.judge(there, now, layer)
  })
})
