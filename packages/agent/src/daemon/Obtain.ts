/**
 * How the mirror's misses are met: by the cluster, and in the end by a registry.
 */
import { ColdStart } from "@gantry/coldstart"
import { BlobStore, Manifest, RegistryClient, type RegistryError } from "@gantry/oci"
import { type Digest, OriginRef, Registry } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { BlobSource, Obtaining, type Origin } from "../mirror/BlobSource.ts"
import type { ServedManifest } from "../mirror/Mirror.ts"
import { Miss } from "../mirror/Miss.ts"
import { type Sources, TagError, type TaggedManifest, type TagRef } from "../mirror/TagCache.ts"

/** How long a client of the mirror bears a failure that may pass; it has seconds. */
const patience = Duration.seconds(12)

const unavailable = (rule: string, detail: string) => new Miss({ reason: "Unavailable", rule, detail })

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
    yield* delivery.sized
    // Manifests are held back whole: they are here once the last byte may be sent.
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

/** Three failures in a row, and a registry is left alone for 5 seconds, at most for a minute. */
const breakerOptions = {
  tripPolicy: CircuitBreaker.consecutive(3),
  openDuration: Schedule.min([Schedule.exponential("5 seconds"), Schedule.spaced("60 seconds")])
}

/** A registry that says no is well: only silence and failure open the breaker. */
const classify = (exit: Exit.Exit<unknown, TagError>) =>
  Exit.isFailure(exit) && Option.exists(Exit.findErrorOption(exit), ({ reason }) => reason === "Unavailable")
    ? CircuitBreaker.failure()
    : CircuitBreaker.success

/** What tags are told by: the registries, and the manifests that they name. */
export const tagSources = Effect.fnUntraced(function* (
  manifest: (ref: OriginRef) => Effect.Effect<ServedManifest, Miss>
): Effect.fn.Return<
  Sources,
  never,
  RegistryClient.RegistryClient | BlobStore.BlobStore | CircuitBreaker.CircuitBreakerStore | Scope.Scope
> {
  const registry = yield* RegistryClient.RegistryClient
  const store = yield* BlobStore.BlobStore
  const breaker = yield* CircuitBreaker.make(breakerOptions)

  const nameOf = ({ registry, repository, tag }: TagRef) => `${registry}/${repository}:${tag}`
  const fail = (ref: TagRef, reason: TagError["reason"], detail: string) =>
    new TagError({ reason, tag: nameOf(ref), detail })

  const reasonOf = ({ failureClass }: RegistryError.RegistryError): TagError["reason"] => {
    if (failureClass === "not_found") return "NotFound"
    return failureClass === "auth" ? "Unauthorized" : "Unavailable"
  }

  const digestOf = Effect.fnUntraced(function* (ref: TagRef): Effect.fn.Return<Digest, TagError> {
    const asked = registry
      .resolve(Registry.make(ref.registry), ref.repository, RegistryClient.Tag.make(ref.tag))
      .pipe(Effect.mapError((error) => fail(ref, reasonOf(error), error.message)))
    const guarded = breaker.execute(asked, { key: ref.registry, classify })
    return yield* Effect.catchTag(guarded, "CircuitBreakerError", () =>
      Effect.fail(
        fail(ref, "Unavailable", `${ref.registry} failed three times in a row, and is left alone for a while`)
      )
    )
  })

  return {
    digestOf,
    obtain: (place, digest) =>
      Effect.mapBoth(
        manifest(new OriginRef({ registry: Registry.make(place.registry), repository: place.repository, digest })),
        {
          onSuccess: ({ bytes, mediaType }): TaggedManifest => ({ digest, mediaType, size: bytes.length }),
          onFailure: ({ detail }) =>
            new TagError({ reason: "Unavailable", tag: `${place.repository}@${digest}`, detail })
        }
      ),
    has: (digest) => Effect.orElseSucceed(store.has(digest), () => false)
  }
})
