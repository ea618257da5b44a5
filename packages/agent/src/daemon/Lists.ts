/**
 * Questions that only the registry answers: the tags of a repository, and what
 * refers to a manifest. Passed through.
 */
import type { HttpSend } from "@gantry/oci"
import * as Effect from "effect/Effect"
import { Miss } from "../mirror/Miss.ts"
import type { Route } from "../mirror/Route.ts"

/** Passes a question on to the registry. */
export const make = Effect.succeed(
  (route: Route & { readonly _tag: "TagsList" | "Referrers" }): Effect.Effect<HttpSend.Message<Miss>, Miss> =>
    Effect.fail(
      new Miss({ reason: "Unavailable", rule: "list", detail: `${route._tag} is answered by the registry alone` })
    )
)
