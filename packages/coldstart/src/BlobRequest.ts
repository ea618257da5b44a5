/**
 * What a requester asks for, and where it came from.
 */
import type { ContentKind, NodeId, OriginRef } from "@gantry/protocol"
import type * as Option from "effect/Option"

/** A blob that this node wants. */
export interface BlobRequest {
  readonly ref: OriginRef
  readonly kind: ContentKind
  /** In bytes, where a descriptor tells. */
  readonly size: Option.Option<number>
}

/** Where the bytes came from: they were here, a peer handed them over, or this node pulled them from the origin. */
export type BlobSource =
  | { readonly _tag: "Local" }
  | { readonly _tag: "Peer"; readonly holder: NodeId; readonly bytes: number }
  | { readonly _tag: "Origin" }
