/**
 * What the agent writes to standard error.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import { LiveSettings } from "../config/LiveSettings.ts"
import type { Settings } from "../config/Settings.ts"

const levels: Record<Settings["log_level"], LogLevel.LogLevel> = {
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error"
}

const formats: Record<Settings["log_format"], Logger.Logger<unknown, void>> = {
  json: Logger.consoleJson,
  pretty: Logger.consolePretty()
}

/** Logs at the level and in the format of the settings, also after they have changed. */
export const layer: Layer.Layer<never, never, LiveSettings> = Layer.unwrap(
  Effect.gen(function* () {
    const live = yield* LiveSettings
    let settings = yield* live.current
    yield* Effect.forkScoped(
      Stream.runForEach(live.changes, (changed) =>
        Effect.sync(() => {
          settings = changed
        })
      )
    )
    const logger = Logger.make<unknown, void>((options) => {
      if (LogLevel.isGreaterThanOrEqualTo(options.logLevel, levels[settings.log_level])) {
        formats[settings.log_format].log(options)
      }
    })
    return Layer.mergeAll(
      Logger.layer([logger]),
      Layer.succeed(References.MinimumLogLevel, "Debug"),
      Layer.succeed(Logger.LogToStderr, true)
    )
  })
)
