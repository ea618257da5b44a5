/**
 * Why connections to registries cannot be set up as somebody wants them.
 */
import * as Schema from "effect/Schema"

/** The setting, or the variable of the environment, that is at fault. */
const setting = Schema.String

/** A file or directory that is named cannot be read. */
export class Unreadable extends Schema.TaggedError<Unreadable>("@gantry/oci/RegistryHttpError/Unreadable")(
  "Unreadable",
  { setting, path: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `${this.setting} names ${this.path}, which cannot be read: ${this.detail}`
  }
}

/** A file holds no certificate or key that can be used. */
export class Unusable extends Schema.TaggedError<Unusable>("@gantry/oci/RegistryHttpError/Unusable")("Unusable", {
  setting,
  path: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.setting} names ${this.path}, which is of no use: ${this.detail}`
  }
}

/** A proxy is no URL. Its text may hold a password, and is not repeated. */
export class InvalidProxy extends Schema.TaggedError<InvalidProxy>("@gantry/oci/RegistryHttpError/InvalidProxy")(
  "InvalidProxy",
  { setting }
) {
  override get message(): string {
    return `${this.setting} is not <host>:<port>, nor the URL of a proxy`
  }
}

/** Connections to registries cannot be set up. */
export class RegistryHttpError extends Schema.TaggedError<RegistryHttpError>("@gantry/oci/RegistryHttpError")(
  "RegistryHttpError",
  { reason: Schema.Union([Unreadable, Unusable, InvalidProxy]) }
) {
  override get message(): string {
    return `cannot set up connections to registries: ${this.reason.message}`
  }
}
