/**
 * What the processes of a benchmark tell each other.
 */
import { PeerId } from "@gantry/protocol"
import * as Schema from "effect/Schema"
import { Census } from "./Census.ts"

/** What is asked of a server's process. It answers each command with one event, in order. */
export const Command = Schema.Union([
  /** Makes these the membership, among others up to a size; again and again with 1% of them new each second, if it churns. */
  Schema.TaggedStruct("Join", { peers: Schema.Array(PeerId), members: Schema.Int, churns: Schema.Boolean }),
  /** Lets so many references have failed. */
  Schema.TaggedStruct("Fail", { references: Schema.Int }),
  /** Takes its census. */
  Schema.TaggedStruct("Count", {}),
  /** Tells how it fares, and collects garbage. */
  Schema.TaggedStruct("Report", {}),
  /** Returns all memory that is not in use, and tells how much is left. */
  Schema.TaggedStruct("Weigh", {})
])
export type Command = typeof Command.Type

/** Where a server is to be found, or how it fares. */
export const Event = Schema.Union([
  Schema.TaggedStruct("Ready", { peerId: PeerId, addresses: Schema.Array(Schema.String) }),
  Schema.TaggedStruct("Done", {}),
  Schema.TaggedStruct("Counted", { census: Census }),
  Schema.TaggedStruct("Weight", {
    residentBytes: Schema.Finite,
    /** What is in use of it, by the heap and by buffers. */
    liveBytes: Schema.Finite
  }),
  Schema.TaggedStruct("Report", {
    /** Processor time of the process, since it started. */
    cpuMillis: Schema.Finite,
    /** The longest time in which no event was handled, since the last report; 0 in the first. */
    stallMillis: Schema.Finite
  })
])
export type Event = typeof Event.Type
export type Report = Extract<Event, { readonly _tag: "Report" }>
export type Weight = Extract<Event, { readonly _tag: "Weight" }>
