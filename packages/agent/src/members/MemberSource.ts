/**
 * Where the members of a cluster are listed (agent, section 5).
 */
import type * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Listed } from "./Listed.ts"

/**
 * Why a source does not list the members. `Unavailable`: it cannot be read or
 * reached. `Malformed`: what it says cannot be understood. `Empty`: it lists
 * nobody. `TooMany`: it lists more than a cluster has.
 */
export class MemberSourceError extends Schema.TaggedError<MemberSourceError>("@gantry/agent/MemberSourceError")(
  "MemberSourceError",
  {
    reason: Schema.Literals(["Unavailable", "Malformed", "Empty", "TooMany"]),
    source: Schema.String,
    detail: Schema.String
  }
) {
  override get message(): string {
    return `${this.source} does not list the members: ${this.detail}`
  }
}

/** What a source says: the members, all of them, or why it does not list them. */
export type Answer = Result.Result<ReadonlyArray<Listed>, MemberSourceError>

/** A source that is followed for as long as it is needed. */
export interface MemberSource<R = never> {
  /** What people call it: `dns _gantry._tcp.example.com`. */
  readonly name: string
  /** Gives every answer to `accept`. Asks at once, rather than when it would, each time that `nudge` ends. */
  readonly follow: (
    accept: (answer: Answer) => Effect.Effect<void>,
    nudge: Effect.Effect<void>
  ) => Effect.Effect<never, never, R>
}

/** More members than any cluster is built for. */
export const maxMembers = 10_000
