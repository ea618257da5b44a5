/**
 * How the mirror's misses are met: by the cluster, and in the end by a registry.
 */
import { ColdStart } from "@gantry/coldstart"
import { BlobStore, Manifest, RegistryClient } from "@gantry/oci"
import type { OriginRef } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { BlobSource, Obtaining, type Origin } from "../mirror/BlobSource.ts"
import type { ServedManifest } from "../mirror/Mirror.ts"
import { Miss, unavailable } from "../mirror/Miss.ts"

/** How long a client of the mirror bears a failure that may pass; it has seconds. */
const patience = Duration.seconds(12)

const missOf = ({ message, reason }: ColdStart.ColdStartError): Miss =>
  reason._tag === "OriginFailed" && reason.failureClass === "not_found"
    ? new Miss({ reason: "NotFound", rule: "origin", detail: message })
    : unavailable(reason._tag, message)

const origins: Record<ColdStart.BlobSource["_tag"], Origin> = { Local: "store", Peer: "peer", Origin: "origin" }

/** Obtains blobs through the cluster. */
export const layerObtaining: Layer.Layer<Obtaining, never, ColdStart.ColdStart | RegistryClient.RegistryClient> =
  Layer.effect(
    Obtaining,
    Effect.gen(function* () {
      const coldStart = yield* ColdStart.ColdStart
      const registry = yield* RegistryClient.RegistryClient
      return Obtaining.of({
        obtain: (wanted) =>
          coldStart
            .obtain(wanted, { patience })
            .pipe(Effect.mapBoth({ onSuccess: ({ _tag }) => origins[_tag], onFailure: missOf })),
        // What a registry announces of a blob, no digest covers; a client that asks by HEAD asks for no more.
        sizeAtOrigin: (ref) =>
          Effect.scoped(registry.fetch({ ref, kind: "layer" })).pipe(
            Effect.mapError((error) => unavailable("origin", error.message)),
            Effect.flatMap(({ totalSize }) =>
              Effect.mapError(Effect.fromOption(totalSize), () => unavailable("origin", "it does not tell the size"))
            )
          )
      })
    })
  )

/** Brings in manifests, whole and verified. */
export const manifests = Effect.gen(function* () {
  const blobs = yield* BlobSource
  const store = yield* BlobStore.BlobStore
  return Effect.fn("Mirror.manifest")(function* (ref: OriginRef): Effect.fn.Return<ServedManifest, Miss> {
    const delivery = yield* blobs.open({ ref, kind: "manifest", size: Option.none() })
    yield* delivery.stored
    const source = Option.getOrElse(yield* delivery.source, () => "store" as const)
    return yield* Effect.scoped(
      Effect.gen(function* () {
        const blob = yield* store.open(ref.digest)
        if (Option.isNone(blob)) return yield* unavailable("gone", "it has left the store again")
        if (blob.value.size > Manifest.maxBytes) {
          return yield* unavailable("manifest", `it has ${blob.value.size} bytes, and ${Manifest.maxBytes} are allowed`)
        }
        const bytes = Buffer.concat(yield* Stream.runCollect(blob.value.stream))
        const mediaType = Manifest.mediaTypeOf(bytes)
        if (Option.isNone(mediaType)) return yield* unavailable("manifest", "the digest is not that of a manifest")
        return { digest: ref.digest, mediaType: mediaType.value, bytes, source }
      })
    ).pipe(Effect.catchTag("StoreError", ({ message }) => Effect.fail(unavailable("store", message))))
  })
})
