/**
 * The program of a node process.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { run } from "./NodeProgram.ts"

/** Standard output belongs to the events. When it was is told by where the line appears. */
const brief = Logger.map(Logger.formatStructured, ({ cause, level, message }) =>
  [level, ...(Array.isArray(message) ? message : [message]), ...(cause === undefined ? [] : [cause])].join(" ")
)
const logger = Layer.mergeAll(
  Logger.layer([Logger.withConsoleError(brief)]),
  Layer.succeed(References.MinimumLogLevel, "Warn")
)

NodeRuntime.runMain(Effect.provide(run, [NodeServices.layer, logger]))
