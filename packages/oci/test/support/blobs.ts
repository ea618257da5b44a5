import { BlobStore } from "@gantry/oci"
import { Effect, Layer } from "effect"

/** Blobs in memory, with some of the operations replaced. */
export const layerBlobs = (
  blobs: Iterable<Uint8Array>,
  replace: (store: BlobStore.BlobStore["Service"]) => Partial<BlobStore.BlobStore["Service"]>
): Layer.Layer<BlobStore.BlobStore> =>
  Layer.effect(
    BlobStore.BlobStore,
    Effect.map(BlobStore.BlobStore, (store) => ({ ...store, ...replace(store) }))
  ).pipe(Layer.provide(BlobStore.layerMemory(blobs)))
