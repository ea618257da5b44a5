/**
 * Why a digest was not obtained.
 */
import { ContentKind, FailureClass, OriginRef } from "@gantry/protocol"
import * as Schema from "effect/Schema"

/**
 * `OriginFailed`: the puller reports a failure that asking again would not
 * change. `CoolingDown`: a passing failure whose cooldown runs. `Exhausted`:
 * every way was tried. `TimedOut`: the deadline passed. The failure class is
 * the puller's, and `unspecified` where no puller gave one.
 */
export class ColdStartError extends Schema.TaggedError<ColdStartError>("@gantry/coldstart/ColdStartError")(
  "ColdStartError",
  {
    reason: Schema.Literals(["OriginFailed", "CoolingDown", "Exhausted", "TimedOut"]),
    ref: OriginRef,
    kind: ContentKind,
    failureClass: FailureClass,
    detail: Schema.String
  }
) {
  override get message(): string {
    return `cannot obtain ${this.ref} (${this.reason}, ${this.failureClass}): ${this.detail}`
  }
}
