import { assert, describe, it } from "@effect/vitest"
import {
  maxDigestsPerPleasePull,
  maxMessageBytes,
  maxVarintBytes,
  NodeId,
  protocolId,
  queriedRanks
} from "@gantry/protocol"
import { Schema } from "effect"

describe("Constants", () => {
  it("are those that every peer has", () => {
    assert.deepStrictEqual(
      { protocolId, maxMessageBytes, maxVarintBytes, maxDigestsPerPleasePull, queriedRanks },
      {
        protocolId: "/gantry/coord/1.0.0",
        maxMessageBytes: 1_048_576,
        maxVarintBytes: 9,
        maxDigestsPerPleasePull: 256,
        queriedRanks: 3
      }
    )
  })
})

describe("NodeId", () => {
  it("is any text that UTF-8 can carry", () => {
    assert.deepStrictEqual(["node-1", "a", "节点", "😀"].map(Schema.is(NodeId)), [true, true, true, true])
  })

  it("is never empty, nor a lone surrogate, which has no bytes to hash", () => {
    assert.deepStrictEqual(["", "\ud83d", "a\ude00"].map(Schema.is(NodeId)), [false, false, false])
  })
})
