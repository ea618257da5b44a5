/**
 * Why the mirror does not serve something.
 */
import * as Schema from "effect/Schema"

/**
 * `NotFound`: the registry said so for this repository, or the image is none of
 * ours: final, and answered 404. `Unavailable`: everything else, answered 503, so
 * that the client asks the registry at once.
 */
export class Miss extends Schema.TaggedError<Miss>("@gantry/agent/mirror/Miss")("Miss", {
  reason: Schema.Literals(["NotFound", "Unavailable"]),
  /** Which rule decided, in a word that `gantry explain` knows. */
  rule: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.rule}: ${this.detail}`
  }
}

/** A miss upon which the client asks the registry. */
export const unavailable = (rule: string, detail: string): Miss => new Miss({ reason: "Unavailable", rule, detail })
