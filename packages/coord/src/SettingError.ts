/**
 * A setting that cannot be read.
 */
import * as Schema from "effect/Schema"

/** A setting is something else than what it has to be. The layer that it is for is not built. */
export class SettingError extends Schema.TaggedError<SettingError>("@gantry/coord/SettingError")("SettingError", {
  /** Its name, as the options have it. */
  setting: Schema.String,
  /** What it was set to. */
  value: Schema.Unknown,
  /** What it has to be, for example `a duration`. */
  expected: Schema.String
}) {
  override get message(): string {
    return `the setting ${this.setting} has to be ${this.expected}, and is ${JSON.stringify(this.value) ?? String(this.value)}`
  }
}
