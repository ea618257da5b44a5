#!/usr/bin/env node
/**
 * The program `gantry`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import * as Stdio from "effect/Stdio"
import * as Cli from "./Cli.ts"

const main = Stdio.Stdio.use((stdio) => Effect.flatMap(stdio.args, Cli.run))

/** Standard output belongs to what was asked for. */
const logger = Layer.succeed(Logger.LogToStderr, true)

/** A command that a signal ends says itself whether that is well. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  Runtime.defaultTeardown(exit, (code) => onExit(code === 130 && process.exitCode === 0 ? 0 : code))

NodeRuntime.runMain(Effect.provide(main, [NodeServices.layer, logger]), { teardown })
