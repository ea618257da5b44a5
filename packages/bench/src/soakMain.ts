/**
 * `npm run soak`: many calls, some of them aborted, and what they leave behind.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Soak from "./Soak.ts"

const soak = Command.make(
  "soak",
  {
    rpcs: Flag.Int("rpcs").pipe(Flag.withDefault(1_000_000), Flag.withDescription("How many calls to make")),
    concurrency: Flag.Int("concurrency").pipe(Flag.withDefault(64), Flag.withDescription("How many at once")),
    seed: Flag.Int("seed").pipe(Flag.withDefault(1), Flag.withDescription("What decides which calls are aborted"))
  },
  Effect.fnUntraced(function* (options) {
    if (!(yield* Soak.run(options))) process.exitCode = 1
  })
).pipe(Command.withDescription("Makes calls to a server, aborts some of them, and tells what they leave behind"))

Command.run(soak, { version: "0.1.0" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
