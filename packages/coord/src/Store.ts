/**
 * What this node has.
 */
import { Digest, describeCause } from "@gantry/protocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/**
 * Why the store could not say. `Unavailable`: its backend cannot be reached.
 * `Failed`: anything else.
 */
export class StoreError extends Schema.TaggedError<StoreError>("@gantry/coord/StoreError")("StoreError", {
  reason: Schema.Literals(["Unavailable", "Failed"]),
  digest: Digest,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const what = this.reason === "Unavailable" ? "the store cannot be reached" : "the store failed"
    return `${what}, asked for ${this.digest}: ${describeCause(this.cause)}`
  }
}

/** The one question that coordination asks of a store. */
export class Store extends Context.Service<
  Store,
  {
    /** True only if the bytes of the digest can be opened and are whole (parts, Store). */
    readonly has: (digest: Digest) => Effect.Effect<boolean, StoreError>
  }
>()("@gantry/coord/Store") {}

/** A store that has the given digests and nothing else. */
export const layerMemory = (digests: Iterable<Digest> = []): Layer.Layer<Store> =>
  Layer.sync(Store, () => {
    const held = new Set(digests)
    return Store.of({ has: (digest) => Effect.sync(() => held.has(digest)) })
  })
