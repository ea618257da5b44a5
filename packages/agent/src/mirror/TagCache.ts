/**
 * What tags name: fresh enough to follow a registry, and still answered while
 * that registry is out of reach.
 */
import { createHash } from "node:crypto"
import { Digest } from "@gantry/protocol"
import * as Cache from "effect/Cache"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Schema from "effect/Schema"
import type { Place } from "./Route.ts"

/** A manifest that a tag names, as a client is told of it. All of it is proved by the bytes in our store. */
export const TaggedManifest = Schema.Struct({
  digest: Digest,
  mediaType: Schema.String,
  /** In bytes. */
  size: Schema.Int
})
export type TaggedManifest = typeof TaggedManifest.Type

/** A tag of a repository. */
export interface TagRef extends Place {
  readonly tag: string
}

/** How an answer came about, as metrics label it. */
export type How = "fresh" | "revalidated" | "immutable" | "stale"

/** What a tag names. */
export interface TagAnswer {
  readonly manifest: TaggedManifest
  readonly how: How
  /** When the registry last confirmed it, in milliseconds since 1970. */
  readonly checkedAt: number
}

/**
 * Why a tag is not answered. `NotFound`: the registry has no such tag.
 * `Unauthorized`: it refuses this node. `Unavailable`: it cannot be asked, or its
 * manifest cannot be had, and nothing is known that could be served in its place.
 */
export class TagError extends Schema.TaggedError<TagError>("@gantry/agent/TagError")("TagError", {
  reason: Schema.Literals(["NotFound", "Unauthorized", "Unavailable"]),
  tag: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `cannot tell what ${this.tag} names: ${this.detail}`
  }
}

/** What the cache asks of its surroundings. */
export interface Sources {
  /** The digest that the registry has for the tag now. */
  readonly digestOf: (ref: TagRef) => Effect.Effect<Digest, TagError>
  /** Brings the manifest into our store, verified, and tells what it is. */
  readonly obtain: (place: Place, digest: Digest) => Effect.Effect<TaggedManifest, TagError>
  /** Whether the manifest is in our store. */
  readonly has: (digest: Digest) => Effect.Effect<boolean>
}

/** How tags are kept; read for each question, so that a reload counts at once. */
export interface Policy {
  /** How long an answer is good without asking. */
  readonly ttl: (ref: TagRef) => Duration.Duration
  /** How long an answer is good while the registry does not answer. */
  readonly staleIfError: Duration.Duration
  /** Tags that never change: once known the registry is not asked again. */
  readonly isImmutable: (ref: TagRef) => boolean
  /** Tags that are left to the registry. */
  readonly isPassed: (ref: TagRef) => boolean
}

/** Tells what tags name. */
export interface TagCache {
  readonly resolve: (ref: TagRef) => Effect.Effect<TagAnswer, TagError>
}

/** How long the registry has to say what a tag names. */
const askTimeout = Duration.seconds(5)

/** Tags that are asked about at once, one question each. */
const maxQuestions = 10_000

const Known = Schema.Struct({
  tag: Schema.String,
  manifest: TaggedManifest,
  checkedAt: Schema.Int
})

/** A tag as people write it, and as patterns of the configuration match it. */
export const nameOf = ({ registry, repository, tag }: TagRef): string => `${registry}/${repository}:${tag}`

/** A file name for any tag: names may be longer than those. */
const keyOf = (ref: TagRef) => createHash("sha256").update(nameOf(ref)).digest("hex")

/**
 * A cache over a store that survives a restart. A tag is answered only once the
 * manifest that it names is in our own store, so that the question for the digest
 * that follows cannot miss. Concurrent questions about a tag share one answer.
 */
export const make = Effect.fnUntraced(function* (sources: Sources, policy: Effect.Effect<Policy>) {
  const known = KeyValueStore.toSchemaStore(yield* KeyValueStore.KeyValueStore, Known)

  /** What cannot be read is not known; it is written anew after the next answer. */
  const recall = Effect.fnUntraced(
    function* (ref: TagRef) {
      return Option.filter(yield* known.get(keyOf(ref)), ({ tag }) => tag === nameOf(ref))
    },
    (effect, ref) =>
      Effect.catch(effect, (error) =>
        Effect.as(Effect.logWarning(`what ${nameOf(ref)} named is lost: ${error.message}`), Option.none())
      )
  )

  const remember = (ref: TagRef, manifest: TaggedManifest, checkedAt: number) =>
    Effect.catch(known.set(keyOf(ref), { tag: nameOf(ref), manifest, checkedAt }), (error) =>
      Effect.logWarning(`${nameOf(ref)} will be forgotten at the next start: ${error.message}`)
    )

  const forget = (ref: TagRef) => Effect.ignore(known.remove(keyOf(ref)))

  const digestOf = (ref: TagRef) =>
    Effect.timeoutOrElse(sources.digestOf(ref), {
      duration: askTimeout,
      orElse: () =>
        Effect.fail(
          new TagError({
            reason: "Unavailable",
            tag: nameOf(ref),
            detail: `no answer within ${Duration.format(askTimeout)}`
          })
        )
    })

  const ask = Effect.fnUntraced(function* (ref: TagRef) {
    const digest = yield* digestOf(ref)
    const checkedAt = yield* Clock.currentTimeMillis
    const manifest = yield* sources.obtain(ref, digest)
    yield* remember(ref, manifest, checkedAt)
    return { manifest, how: "revalidated", checkedAt } satisfies TagAnswer
  })

  /** The last answer, while it may still be given and its manifest is here. */
  const stale = Effect.fnUntraced(function* (
    last: Option.Option<typeof Known.Type>,
    error: TagError,
    staleIfError: Duration.Duration
  ) {
    const now = yield* Clock.currentTimeMillis
    if (error.reason !== "Unavailable" || Option.isNone(last)) return yield* error
    const { checkedAt, manifest } = last.value
    if (now - checkedAt > Duration.toMillis(staleIfError) || !(yield* sources.has(manifest.digest))) return yield* error
    yield* Effect.logDebug(`${error.message}; answering what it named before`)
    return { manifest, how: "stale", checkedAt } satisfies TagAnswer
  })

  const answer = Effect.fnUntraced(function* (ref: TagRef): Effect.fn.Return<TagAnswer, TagError> {
    const { isImmutable, isPassed, staleIfError, ttl } = yield* policy
    if (isPassed(ref)) {
      return yield* new TagError({ reason: "Unavailable", tag: nameOf(ref), detail: "it is left to the registry" })
    }
    const last = yield* recall(ref)
    const here = Option.isSome(last) && (yield* sources.has(last.value.manifest.digest))
    if (here) {
      const { checkedAt, manifest } = last.value
      const age = (yield* Clock.currentTimeMillis) - checkedAt
      if (isImmutable(ref)) return { manifest, how: "immutable", checkedAt }
      // After a clock that was set back nothing is known of its age.
      if (age >= 0 && age < Duration.toMillis(ttl(ref))) return { manifest, how: "fresh", checkedAt }
    }
    return yield* ask(ref).pipe(
      Effect.tapError((error) => (error.reason === "NotFound" ? forget(ref) : Effect.void)),
      Effect.catch((error) => stale(last, error, staleIfError))
    )
  })

  const questions = yield* Cache.make({
    capacity: maxQuestions,
    // Shared while it is being answered, and never kept: what is known decides the next time.
    timeToLive: Duration.zero,
    lookup: answer
  })

  return {
    resolve: ({ registry, repository, tag }) => Cache.get(questions, { registry, repository, tag })
  } satisfies TagCache
})
