/**
 * Fetches what a client will want next: the config and the layers of a manifest
 * that it was given (agent, section 7).
 */
import { BlobStore, type Manifest } from "@gantry/oci"
import { type ContentKind, OriginRef } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import { LiveSettings } from "../config/LiveSettings.ts"
import { BlobSource } from "../mirror/BlobSource.ts"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const batches = counter("p2p_prefetch_batches_total", "Manifests whose children were fetched ahead.")
const digests = counter("p2p_prefetch_digests_total", "Blobs that were fetched ahead.")

/** Blobs that are fetched ahead at once; what clients wait for is not counted. */
const concurrency = 3

/** Manifests whose children are being fetched; further ones are left to the clients. */
const maxBatches = 64

/**
 * Takes each manifest that is served. An index starts nothing: the manifest that
 * the client chooses from it does.
 */
export const make = Effect.gen(function* () {
  const live = yield* LiveSettings
  const blobs = yield* BlobSource
  const store = yield* BlobStore.BlobStore
  const running = yield* FiberSet.make<void>()
  const permits = yield* Semaphore.make(concurrency)

  const fetch = Effect.fnUntraced(
    function* (ref: OriginRef, kind: ContentKind, size: number) {
      if (yield* store.has(ref.digest)) return
      yield* Metric.update(digests, 1)
      const delivery = yield* blobs.open({ ref, kind, size: Option.some(size) })
      yield* delivery.stored
    },
    (effect, ref) => Effect.catch(effect, (error) => Effect.logDebug(`${ref} was not fetched ahead: ${error.message}`))
  )

  return Effect.fnUntraced(function* (ref: OriginRef, manifest: Manifest.Manifest) {
    const { prefetch } = yield* live.current
    if (!prefetch || manifest._tag === "Index" || (yield* FiberSet.size(running)) >= maxBatches) return
    yield* Metric.update(batches, 1)
    const children = [manifest.config, ...manifest.layers].map(({ digest, kind, size }) =>
      permits.withPermit(fetch(new OriginRef({ ...ref, digest }), kind, size))
    )
    yield* FiberSet.run(running, Effect.asVoid(Effect.all(children, { concurrency: "unbounded", discard: true })))
  })
})
