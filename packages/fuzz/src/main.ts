/**
 * `npm run fuzz -- --runs 1000000`: feeds the coordination with bytes that
 * nobody would send, tells what came of it, and fails if anything did.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Cli from "./Cli.ts"
import * as Coverage from "./Coverage.ts"

const main = Stdio.Stdio.use((stdio) => Effect.flatMap(stdio.args, Cli.run({}, Coverage.countersOfProcess())))

NodeRuntime.runMain(Effect.provide(main, NodeServices.layer))
