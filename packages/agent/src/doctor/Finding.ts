/**
 * What an examination of a machine finds (agent, section 9).
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** One thing that was looked at. */
export const Finding = Schema.Struct({
  /** What was looked at: `mirror`, `peers`. */
  about: Schema.String,
  /** `note`: it works, and could be better. `skipped`: it cannot be looked at here. */
  verdict: Schema.Literals(["ok", "note", "problem", "skipped"]),
  detail: Schema.String,
  /** What to do about it. */
  remedy: Schema.optionalKey(Schema.String)
})
export type Finding = typeof Finding.Type

/** Looks at something. What goes wrong on the way is a finding, too. */
export type Check<R = never> = Effect.Effect<ReadonlyArray<Finding>, never, R>

/** The ways to tell what was found about one thing. */
export const on = (about: string) => ({
  /** It is as it should be. */
  ok: (detail: string): Finding => ({ about, verdict: "ok", detail }),
  /** It works, and could be better. */
  note: (detail: string, remedy: string): Finding => ({ about, verdict: "note", detail, remedy }),
  /** It is not as it should be. */
  problem: (detail: string, remedy: string): Finding => ({ about, verdict: "problem", detail, remedy }),
  /** It cannot be looked at. */
  skipped: (detail: string): Finding => ({ about, verdict: "skipped", detail })
})
