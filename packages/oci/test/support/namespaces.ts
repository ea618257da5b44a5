/**
 * Processes in namespaces of their own: other process numbers, other mounts.
 */
import { execFileSync } from "node:child_process"
import { assert, type TestContext } from "@effect/vitest"
import { Effect } from "effect"

/** Why `unshare` does not work here; none if it does. */
const refusal = ((): string | undefined => {
  try {
    const mount = ["mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    execFileSync("unshare", ["--map-root-user", "--pid", "--mount", "--fork", ...mount], { stdio: "pipe" })
    return undefined
  } catch (error) {
    return `no namespaces here: ${String(error)}`
  }
})()

/** Skips a test where there are no namespaces, and says why; a continuous integration has to have them. */
export const needNamespaces = (context: TestContext): Effect.Effect<void> =>
  Effect.sync(() => {
    if (refusal === undefined) return
    if (process.env.CI === "true") assert.fail(refusal)
    context.skip(refusal)
  })
