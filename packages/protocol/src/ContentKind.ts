/**
 * What a digest names, and so how it is asked for.
 */
import * as Schema from "effect/Schema"

/**
 * A manifest (or index) is fetched from `/manifests/`, a config and a layer from
 * `/blobs/`. The names are those of the metric label `kind`.
 */
export const ContentKind = Schema.Literals(["manifest", "config", "layer"])
export type ContentKind = typeof ContentKind.Type
