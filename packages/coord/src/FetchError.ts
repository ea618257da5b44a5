/**
 * Why a pull from the origin failed, as far as it matters to others.
 */
import * as Schema from "effect/Schema"

/**
 * The registry itself refused or did not deliver. Recorded, so that the
 * reference is left alone for a while (parts, NegativeCache).
 */
export class OriginFailure extends Schema.TaggedClass<OriginFailure>("@gantry/coord/OriginFailure")("OriginFailure", {
  /**
   * `auth`: 401, 403. `not_found`: 404. `rate_limited`: 429, and 503 with
   * `Retry-After`. `transient`: all else, such as 5xx, no connection, a
   * timeout, the wrong digest.
   */
  failureClass: Schema.Literals(["auth", "not_found", "rate_limited", "transient"]),
  /** How long the registry asks to be left alone. */
  retryAfter: Schema.optionalKey(Schema.Duration)
}) {}

/** This node's store takes no bytes: full, read-only or out of reach. No failure of the image: nothing is recorded. */
export class StoreFault extends Schema.TaggedClass<StoreFault>("@gantry/coord/StoreFault")("StoreFault", {}) {}

/**
 * This node has no way to the registry: no route, no name server, no
 * credentials that it can read. No failure of the image: nothing is recorded.
 */
export class AccessFault extends Schema.TaggedClass<AccessFault>("@gantry/coord/AccessFault")("AccessFault", {}) {}

/** A pull that failed: by the registry's word, or because this node cannot pull. */
export class FetchError extends Schema.TaggedError<FetchError>("@gantry/coord/FetchError")("FetchError", {
  reason: Schema.Union([OriginFailure, StoreFault, AccessFault]),
  /** What happened and to whom, in a sentence for the log. */
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}
