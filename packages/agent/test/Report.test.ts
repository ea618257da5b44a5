import { assert, describe, it } from "@effect/vitest"
import { Digest, NodeId } from "@gantry/protocol"
import * as Schema from "effect/Schema"
import * as Report from "../src/demo/Report.ts"

const digest = (letter: string) => Digest.make(`sha256:${letter.repeat(64)}`)
const node = (number: number) => NodeId.make(`node-${number}`)

const manifest = { digest: digest("a"), kind: "manifest", size: 1000 } as const
const layer = { digest: digest("b"), kind: "layer", size: 5_000_000 } as const
const blobs = [manifest, layer]
const everything = new Set(blobs.map((blob) => blob.digest))

const outcome = (number: number, changes: Partial<Report.NodeOutcome> = {}): Report.NodeOutcome => ({
  nodeId: node(number),
  failure: undefined,
  verified: everything,
  flaws: [],
  ...changes
})

const pull = (blob: Report.ExpectedBlob, number: number) => ({
  digest: blob.digest,
  account: node(number),
  bytes: blob.size
})

const good: Report.Findings = {
  blobs,
  nodes: [outcome(1), outcome(2), outcome(3)],
  killed: undefined,
  designated: (digest) => (digest === manifest.digest ? node(1) : node(2)),
  originPulls: [pull(manifest, 1), pull(layer, 2)],
  peerTransfers: new Map(blobs.map((blob) => [blob.digest, 2])),
  secondsToLastNode: 1.25
}

describe("Report", () => {
  it("has no problems where every digest left the origin once and every node has the right bytes", () => {
    assert.deepStrictEqual(Report.make(good), {
      nodes: 3,
      digests: 2,
      originPulls: { max: 1, total: 2 },
      verified: 6,
      failed: 0,
      bytesFromOrigin: 5_001_000,
      bytesDirect: 15_003_000,
      secondsToLastNode: 1.25,
      killed: null,
      problems: [],
      pulls: [
        { ...manifest, puller: node(1), originPulls: 1, peerTransfers: 2 },
        { ...layer, puller: node(2), originPulls: 1, peerTransfers: 2 }
      ]
    })
  })

  it("blames a digest that left the origin twice, and names who took it", () => {
    const report = Report.make({ ...good, originPulls: [...good.originPulls, pull(layer, 3)] })
    assert.strictEqual(report.originPulls.max, 2)
    assert.deepStrictEqual(report.problems, ["the layer bbbbbbbbbbbb left the origin 2 times, to node-2, node-3"])
  })

  it("does not believe records by which a digest that is there never left the origin", () => {
    assert.deepStrictEqual(Report.make({ ...good, originPulls: [pull(layer, 2)] }).problems, [
      "the manifest aaaaaaaaaaaa is there, and by the records never left the origin"
    ])
  })

  it("lets a digest leave the origin twice where the node that pulled it was killed, and only there", () => {
    const killed = { ...good, nodes: [outcome(1), outcome(3)], killed: node(2) }
    const takenOver = { ...killed, originPulls: [...good.originPulls, pull(layer, 3)] }
    assert.deepStrictEqual(Report.make(takenOver).problems, [])
    assert.strictEqual(Report.make(takenOver).nodes, 3)
    assert.strictEqual(Report.make(takenOver).verified, 4)
    const thrice = { ...killed, originPulls: [...takenOver.originPulls, pull(layer, 1)] }
    assert.deepStrictEqual(Report.make(thrice).problems, [
      "the layer bbbbbbbbbbbb left the origin 3 times, to node-2, node-3, node-1"
    ])
    const elsewhere = { ...killed, originPulls: [...takenOver.originPulls, pull(manifest, 3)] }
    assert.deepStrictEqual(Report.make(elsewhere).problems, [
      "the manifest aaaaaaaaaaaa left the origin 2 times, to node-1, node-3"
    ])
  })

  it("blames a node with wrong bytes, with what was found", () => {
    const report = Report.make({
      ...good,
      nodes: [
        outcome(1),
        outcome(2, { verified: new Set([manifest.digest]), flaws: ["the layer bbbbbbbbbbbb has other bytes"] }),
        outcome(3)
      ]
    })
    assert.strictEqual(report.verified, 5)
    assert.strictEqual(report.failed, 1)
    assert.deepStrictEqual(report.problems, ["node-2: it lacks bbbbbbbbbbbb; the layer bbbbbbbbbbbb has other bytes"])
  })

  it("blames a node that lacks a digest, and one that gave up", () => {
    const report = Report.make({
      ...good,
      nodes: [outcome(1, { verified: new Set() }), outcome(2, { failure: "the origin is gone" }), outcome(3)]
    })
    assert.strictEqual(report.failed, 2)
    assert.deepStrictEqual(report.problems, [
      "node-1: it lacks aaaaaaaaaaaa, bbbbbbbbbbbb",
      "node-2: the origin is gone"
    ])
  })

  it("blames a node whose index does not name the image although all bytes are there", () => {
    const report = Report.make({ ...good, nodes: [outcome(1, { flaws: ["index.json does not name v1"] })] })
    assert.strictEqual(report.failed, 0)
    assert.deepStrictEqual(report.problems, ["node-1: index.json does not name v1"])
  })

  it("survives the way to JSON and back", () => {
    const json = Schema.fromJsonString(Report.Report)
    const text = Schema.encodeSync(json)(Report.make(good))
    assert.notInclude(text, "\n")
    assert.deepStrictEqual(Schema.decodeSync(json)(text), Report.make(good))
  })

  it("reads as a table of the digests and a summary", () => {
    assert.deepStrictEqual(Report.render(Report.make(good)), [
      "digest        kind        size  puller  origin pulls  peer transfers",
      "------------  --------  ------  ------  ------------  --------------",
      "aaaaaaaaaaaa  manifest  1.0 kB  node-1             1               2",
      "bbbbbbbbbbbb  layer     5.0 MB  node-2             1               2",
      "",
      "3 nodes, 2 digests, 2 pulls from the origin, at most 1 of one digest",
      "from the origin 5.0 MB; 3 direct pulls would have taken 15.0 MB, 3.0 times as much",
      "the last node had everything after 1.3 s",
      "6 blobs on disk have their digest"
    ])
  })
})
