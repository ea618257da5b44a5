/**
 * `gantry config`: what the agent would do with its configuration (agent,
 * section 2).
 */
import { Command, Flag } from "effect/cli"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { stringify } from "yaml"
import { print, printJson } from "../runtime/Output.ts"
import * as Configuration from "./Configuration.ts"
import { type ConfigurationError, formatOrigin, formatProblem, Problem } from "./Problem.ts"
import { factsOf, type Key, keys, Settings } from "./Settings.ts"
import * as SettingsFlags from "./SettingsFlags.ts"

const json = Flag.Boolean("json").pipe(Flag.withDescription("Print one JSON document"), Flag.withDefault(false))

/** What `check` finds, as JSON. */
const Verdict = Schema.Struct({
  valid: Schema.Boolean,
  file: Schema.NullOr(Schema.String),
  problems: Schema.Array(Problem),
  warnings: Schema.Array(Problem)
})

const verdictOf = (
  read: Result.Result<Configuration.Configuration, ConfigurationError>,
  asked: Option.Option<string>
): typeof Verdict.Type =>
  Result.match(read, {
    onFailure: ({ problems }) => ({ valid: false, file: Option.getOrNull(asked), problems, warnings: [] }),
    onSuccess: ({ file, warnings }) => ({ valid: true, file: Option.getOrNull(file), problems: [], warnings })
  })

const check = Command.make(
  "check",
  { ...SettingsFlags.flags, json },
  Effect.fnUntraced(function* (flags) {
    const read = yield* Effect.result(Configuration.load(SettingsFlags.sourcesOf(flags)))
    const verdict = verdictOf(read, flags.file)
    const lines = [
      ...verdict.problems.map(formatProblem),
      ...verdict.warnings.map((warning) => `warning: ${formatProblem(warning)}`),
      ...(verdict.valid ? [`${verdict.file ?? "the configuration"} is valid`] : [])
    ]
    yield* flags.json ? printJson(Verdict, verdict) : print(...lines)
    if (Result.isFailure(read)) return yield* read.failure
  })
).pipe(Command.withDescription("Say everything that is wrong with the configuration; exit code 2 if anything is"))

/** A setting and where it comes from, as JSON. */
const Printed = Schema.Record(Schema.String, Schema.Struct({ value: Schema.Unknown, from: Schema.String }))

const written = ({ originOf, settings }: Configuration.Configuration): typeof Printed.Type => {
  const values: Partial<Record<Key, unknown>> = Schema.encodeSync(Settings)(settings)
  return Object.fromEntries(keys.map((key) => [key, { value: values[key] ?? null, from: formatOrigin(originOf(key)) }]))
}

/** Settings as YAML that the agent would read again, each with where it comes from. */
const asYaml = (printed: typeof Printed.Type): ReadonlyArray<string> =>
  Object.entries(printed).flatMap(([key, { from, value }]) => {
    // What is not set is a key without a value.
    const [first = "", ...more] = stringify({ [key]: value }, { nullStr: "", lineWidth: 0 })
      .trimEnd()
      .split("\n")
    return [`${first.padEnd(56)} # ${from}`, ...more]
  })

const show = Command.make(
  "print",
  { ...SettingsFlags.flags, json },
  Effect.fnUntraced(function* (flags) {
    const printed = written(yield* SettingsFlags.load(flags))
    yield* flags.json ? printJson(Printed, printed) : print(...asYaml(printed))
  })
).pipe(Command.withDescription("Show every setting and where it comes from"))

const describe = (key: Key): { readonly description: string; readonly default?: unknown } => {
  const { byDefault, reason, reloadable } = factsOf(key)
  const description = reloadable ? `${reason}. A reload applies it.` : reason
  return byDefault === undefined ? { description } : { description, default: byDefault }
}

/** The settings as JSON Schema, draft 2020-12. */
export const jsonSchema = (): Record<string, unknown> => {
  const { definitions, schema } = Schema.toJsonSchemaDocument(Settings, {
    onExcessProperty: "error",
    includeAnnotationKey: (key) => key === "pattern"
  })
  const forms = schema.properties as Readonly<Record<Key, object>>
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "The configuration of a Gantry agent",
    ...schema,
    properties: Object.fromEntries(keys.map((key) => [key, { ...describe(key), ...forms[key] }])),
    ...(Object.keys(definitions).length > 0 ? { $defs: definitions } : {})
  }
}

const schema = Command.make(
  "schema",
  { json },
  // The output is JSON either way.
  ({ json }) => print(JSON.stringify(jsonSchema(), null, json ? 0 : 2))
).pipe(Command.withDescription("Print the JSON Schema of the configuration, for editors and checks"))

/** `gantry config`. */
export const config = Command.make("config").pipe(
  Command.withDescription("Check and show the configuration"),
  Command.withSubcommands([check, show, schema])
)
