/**
 * The settings as flags of a command, and what a command does first: read the
 * configuration, or say what is wrong with it.
 */
import { Flag } from "effect/cli"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Stdio from "effect/Stdio"
import { printError } from "../runtime/Output.ts"
import * as Configuration from "./Configuration.ts"
import { type ConfigurationError, formatProblem } from "./Problem.ts"
import { factsOf, type Key, keys } from "./Settings.ts"

const flagOf = (key: Key): Flag.Flag<Option.Option<string>> => {
  const { byDefault, reason } = factsOf(key)
  const name = Configuration.flagOf(key)
  const flag = typeof byDefault === "boolean" ? Flag.map(Flag.Boolean(name), String) : Flag.String(name)
  const shown = byDefault === undefined ? "" : ` (default: ${String(byDefault)})`
  return flag.pipe(Flag.withDescription(`${reason}${shown}`), Flag.optional)
}

/** Says which file to read. */
export const file = Flag.String("config").pipe(
  Flag.withDescription(`The configuration to read; ${Configuration.defaultFile} if it exists`),
  Flag.withMetavar("file"),
  Flag.optional
)

/** `--config`, and a flag for each setting that is no list. */
export const flags = {
  file,
  settings: Object.fromEntries(
    keys.filter((key) => !Configuration.isList(key)).map((key) => [key, flagOf(key)])
  ) as Readonly<Record<Key, Flag.Flag<Option.Option<string>>>>
}

/** What the flags say. */
export interface Given {
  readonly file: Option.Option<string>
  readonly settings?: Readonly<Record<string, Option.Option<string>>> | undefined
}

/** Where a command that was called with these flags finds its settings. */
export const sourcesOf = ({ file, settings = {} }: Given): Configuration.Sources => ({
  file,
  environment: process.env,
  flags: Object.fromEntries(
    Object.entries(settings).flatMap(([key, text]) => (Option.isSome(text) ? [[key, text.value]] : []))
  )
})

/** Says on standard error what is wrong with a configuration. */
export const showProblems = (error: ConfigurationError): Effect.Effect<void, never, Stdio.Stdio> =>
  printError(...error.problems.map(formatProblem))

/** Reads the configuration; says what is wrong with it, or what in it has no effect. */
export const load = (
  given: Given
): Effect.Effect<Configuration.Configuration, ConfigurationError, FileSystem.FileSystem | Stdio.Stdio> =>
  Configuration.load(sourcesOf(given)).pipe(
    Effect.tapError(showProblems),
    Effect.tap(({ warnings }) =>
      warnings.length > 0 ? printError(...warnings.map((warning) => `warning: ${formatProblem(warning)}`)) : Effect.void
    )
  )
