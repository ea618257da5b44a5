/**
 * Claims a directory, and says its name and the number that this process takes
 * itself to have. It waits to be killed.
 */
import { NodeServices } from "@effect/platform-node"
import { Console, Effect } from "effect"
import * as Ownership from "../../src/internal/ownership.ts"

const main = Effect.gen(function* () {
  const directory = yield* Ownership.claim(process.argv[2] ?? "")
  yield* Console.log(`${directory.slice(directory.lastIndexOf("/") + 1)} ${process.pid}`)
  return yield* Effect.never
})

// Keeps the process alive while nothing happens.
process.stdin.resume()
Effect.runFork(main.pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
