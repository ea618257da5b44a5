/**
 * What the mirror's tags are told by: the registries, and the manifests that
 * their tags name.
 */
import { BlobStore, RegistryClient, type RegistryError } from "@gantry/oci"
import { type Digest, OriginRef, Registry } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { ServedManifest } from "../mirror/Mirror.ts"
import type { Miss } from "../mirror/Miss.ts"
import { nameOf, type Sources, TagError, type TaggedManifest, type TagRef } from "../mirror/TagCache.ts"

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
export const make = Effect.fnUntraced(function* (
  manifest: (ref: OriginRef) => Effect.Effect<ServedManifest, Miss>
): Effect.fn.Return<
  Sources,
  never,
  RegistryClient.RegistryClient | BlobStore.BlobStore | CircuitBreaker.CircuitBreakerStore | Scope.Scope
> {
  const registry = yield* RegistryClient.RegistryClient
  const store = yield* BlobStore.BlobStore
  const breaker = yield* CircuitBreaker.make(breakerOptions)

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
