/**
 * What is wrong with a configuration, and where (agent, section 2).
 */
import * as Data from "effect/Data"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"

/** Where a value comes from. */
export type Origin = Data.TaggedEnum<{
  Default: {}
  File: { readonly path: string; readonly line: number }
  Environment: { readonly name: string }
  Flag: { readonly name: string }
}>
export const Origin = Data.taggedEnum<Origin>()

/** An origin as people read it: `config.yaml:7`, `GANTRY_TAGS_TTL`, `--tags-ttl`. */
export const formatOrigin: (origin: Origin) => string = Origin.$match({
  Default: () => "default",
  File: ({ line, path }) => `${path}:${line}`,
  Environment: ({ name }) => name,
  Flag: ({ name }) => name
})

/** One thing to mend. */
export const Problem = Schema.Struct({
  /** The origin, as people read it. */
  where: Schema.String,
  /** In the file, if it is there; from 1. */
  line: Schema.optionalKey(Schema.Int),
  /** The setting, or the part of one: `upstream_registries[0].endpoint`; empty if it is about the file. */
  key: Schema.String,
  /** What is wrong, and what is allowed. */
  problem: Schema.String
})
export type Problem = typeof Problem.Type

/** A problem with what is there. */
export const problemAt = (origin: Origin, key: string, problem: string): Problem => ({
  where: formatOrigin(origin),
  ...(origin._tag === "File" ? { line: origin.line } : {}),
  key,
  problem
})

/** A problem in one line: `config.yaml:7 mirror_header_deadline: 45s, must be below 30s`. */
export const formatProblem = ({ key, problem, where }: Problem): string =>
  key === "" ? `${where}: ${problem}` : `${where} ${key}: ${problem}`

/** Everything that is wrong with a configuration. Its message has a line for each problem. */
export class ConfigurationError extends Schema.TaggedError<ConfigurationError>("@gantry/agent/ConfigurationError")(
  "ConfigurationError",
  { problems: Schema.Array(Problem) }
) {
  override readonly [Runtime.errorExitCode] = 2
  /** Commands show it in their own way. */
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return this.problems.map(formatProblem).join("\n")
  }
}
