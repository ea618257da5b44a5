/**
 * Members that the configuration lists itself.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Listed } from "./Listed.ts"
import type { MemberSource } from "./MemberSource.ts"

/** These members, from the beginning to the end. */
export const make = (members: ReadonlyArray<Listed>): MemberSource => ({
  name: "static",
  follow: (accept, nudge) => Effect.forever(Effect.andThen(accept(Result.succeed(members)), nudge))
})
