/**
 * What the demo and its node processes say to each other: one JSON document
 * per line, over the process's standard input and output.
 */

import { Image } from "@gantry/node/ImagePull"
import { Digest, Member, NodeId } from "@gantry/protocol"
import * as Schema from "effect/Schema"

/** How a node is to be run. */
export const Start = Schema.TaggedStruct("Start", {
  nodeId: NodeId,
  /** The image layout that the node keeps; created if it does not exist. */
  directory: Schema.String,
  /** Where its key is; created if it does not exist. */
  identityFile: Schema.String,
  /** A docker `config.json` with the node's credentials. */
  dockerConfig: Schema.NullOr(Schema.String),
  /** By registry, as `host:port`: whether it is asked over `http`, where somebody has said so. */
  upstreams: Schema.Record(Schema.String, Schema.Struct({ plainHttp: Schema.Boolean })),
  /** How much longer the node's seconds are than those of a node that has a machine to itself. */
  slowness: Schema.Finite
})
export type Start = typeof Start.Type

/** What a node is told. The first is `Start`; when its input ends, the node ends. */
export const Command = Schema.Union([
  Start,
  /** The members of the cluster from now on. */
  Schema.TaggedStruct("Join", { members: Schema.Array(Member) }),
  /** Ask a member about a digest, to see that it answers. */
  Schema.TaggedStruct("Greet", { nodeId: NodeId, digest: Digest }),
  Schema.TaggedStruct("Pull", { image: Image })
])
export type Command = typeof Command.Type

/** What a node tells. */
export const Event = Schema.Union([
  /** It serves, as this member. */
  Schema.TaggedStruct("Ready", { member: Member }),
  /** It knows the members it was given. */
  Schema.TaggedStruct("Joined", {}),
  /** The member that it was to greet has answered. */
  Schema.TaggedStruct("Greeted", {}),
  /** How much of the image is there, of what is known of it so far. */
  Schema.TaggedStruct("Progress", {
    bytes: Schema.Int,
    totalBytes: Schema.Int,
    digests: Schema.Int,
    totalDigests: Schema.Int
  }),
  /** A digest has arrived. */
  Schema.TaggedStruct("Obtained", { digest: Digest, from: Schema.Literals(["Local", "Peer", "Origin"]) }),
  /** A pull from the origin has ended, after so many bytes. */
  Schema.TaggedStruct("Pulled", { digest: Digest, bytes: Schema.Int, stored: Schema.Boolean }),
  /** The whole image has arrived and has its name. */
  Schema.TaggedStruct("Finished", {}),
  /** The image cannot be brought in. */
  Schema.TaggedStruct("Failed", { detail: Schema.String })
])
export type Event = typeof Event.Type

/** The longest line that either side reads; a membership of 64 nodes has some 20 kB. */
export const maxLineBytes = 1024 * 1024

/** The lines of a node's input. */
export const commandLine = Schema.toCodecJson(Command)

/** The lines of a node's output. */
export const eventLine = Schema.toCodecJson(Event)
