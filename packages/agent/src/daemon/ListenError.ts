/**
 * A place where the agent cannot listen.
 */
import { describeCause } from "@gantry/protocol"
import * as Schema from "effect/Schema"

/** Names the setting to change. */
export class ListenError extends Schema.TaggedError<ListenError>("@gantry/agent/ListenError")("ListenError", {
  setting: Schema.String,
  address: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `${this.setting}: cannot listen on ${this.address}: ${describeCause(this.cause)}`
  }
}
