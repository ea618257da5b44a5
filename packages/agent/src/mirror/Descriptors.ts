/**
 * What manifests that passed through said about the blobs they name.
 */
import { RecentMap } from "@gantry/coord/RecentMap"
import { Manifest } from "@gantry/oci"
import type { ContentKind, Digest } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** A blob as its manifest describes it. The manifest's digest covers all of it. */
export interface Described {
  readonly kind: ContentKind
  /** In bytes. */
  readonly size: number
}

export interface Descriptors {
  /** Takes in a manifest, whose bytes are verified; gives what it names. Nothing if it is no manifest of ours. */
  readonly learn: (bytes: Uint8Array) => Option.Option<Manifest.Manifest>
  /** What is known of a blob. */
  readonly lookup: (digest: Digest) => Option.Option<Described>
}

/** The most blobs that are remembered, those of some hundred images; the oldest leave first. */
const capacity = 20_000

/** Remembers what manifests say of blobs. */
export const make = (): Descriptors => {
  const known = new RecentMap<Digest, Described>(capacity)
  return {
    learn: (bytes) =>
      Option.map(Result.getSuccess(Manifest.parse(bytes)), (manifest) => {
        for (const { digest, kind, size } of Manifest.entriesOf(manifest)) known.set(digest, { kind, size })
        return manifest
      }),
    lookup: (digest) => Option.fromUndefinedOr(known.get(digest))
  }
}
