/**
 * Reads the configuration (agent, section 2): defaults, then the file, then
 * the environment, then flags, each over the one before.
 */

import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Order from "effect/Order"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { closest, distance } from "fastest-levenshtein"
import { MemberEntry } from "../members/MemberEntry.ts"
import * as Document from "./Document.ts"
import * as Legacy from "./Legacy.ts"
import { ConfigurationError, Origin, type Problem, problemAt } from "./Problem.ts"
import { rules } from "./Rules.ts"
import { factsOf, type Key, keys, Settings } from "./Settings.ts"
import { Upstream } from "./Upstream.ts"

/** Where settings are looked for. */
export interface Sources {
  /** The file that was asked for; without one it is `defaultFile`, if that exists. */
  readonly file: Option.Option<string>
  readonly environment: Readonly<Record<string, string | undefined>>
  /** What flags say, by the keys of their settings. */
  readonly flags: Readonly<Partial<Record<Key, string>>>
}

/** The file that is read if it is there. */
export const defaultFile = "/etc/gantry/config.yaml"

/** A configuration that has been read. */
export interface Configuration {
  readonly settings: Settings
  /** Where each setting comes from. */
  readonly originOf: (key: Key) => Origin
  /** What has no effect and should be removed. */
  readonly warnings: ReadonlyArray<Problem>
  /** The file that was read. */
  readonly file: Option.Option<string>
}

/** More than any configuration needs. */
const maxFileBytes = 1024 * 1024

/** A value as somebody wrote it. */
interface Given {
  readonly value: unknown
  readonly form: "value" | "text"
  readonly originOf: (path: ReadonlyArray<PropertyKey>) => Origin
}

type Decode = (input: unknown) => Result.Result<unknown, Schema.SchemaError>

/** Every setting by itself, so that all errors are found: as YAML has it, and as text. */
const decoders: ReadonlyMap<Key, { readonly value: Decode; readonly text: Decode }> = new Map(
  keys.map((key) => {
    const alone = Schema.Struct({ [key]: Settings.fields[key] })
    const options = { errors: "all", onExcessProperty: "error" } as const
    return [
      key,
      {
        value: Schema.decodeUnknownResult(alone, options),
        text: Schema.decodeUnknownResult(Schema.toCodecStringTree(alone), options)
      }
    ]
  })
)

const isKey = (text: string): text is Key => decoders.has(text as Key)

/** Lists are set in the file alone. */
export const isList = (key: Key): boolean => Array.isArray(factsOf(key).byDefault)

/** The name of the variable that sets a setting. */
export const variableOf = (key: Key): string => `GANTRY_${key.toUpperCase()}`

/** The name of the flag that sets a setting, without its dashes. */
export const flagOf = (key: Key): string => key.replaceAll("_", "-")

// What people read

/** How far a name may be from the one that was meant. */
const isNear = (name: string, other: string): boolean =>
  distance(name, other) <= Math.max(2, Math.floor(name.length / 3))

const unknownKey = (key: string, known: ReadonlyArray<string>): string => {
  const nearest = closest(key, known)
  return isNear(key, nearest) ? `unknown key, did you mean ${nearest}?` : "unknown key"
}

/** The keys of what the lists hold. */
const keysWithin: Readonly<Record<string, ReadonlyArray<string>>> = {
  upstream_registries: Object.keys(Upstream.fields),
  members_static: Object.keys(MemberEntry.fields)
}

const formatPath = ([key, ...rest]: ReadonlyArray<PropertyKey>): string =>
  rest.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : `${text}.${String(part)}`),
    String(key)
  )

const valueAt = (value: unknown, path: ReadonlyArray<PropertyKey>): unknown =>
  path.reduce((inner: unknown, part) => (inner as Record<PropertyKey, unknown> | undefined)?.[part], value)

/** The longest value that is repeated in full. */
const maxShown = 60

const show = (value: unknown): string => {
  if (Array.isArray(value)) return "a list"
  if (typeof value === "object" && value !== null) return "a mapping"
  const text = typeof value === "string" && value !== "" ? value : Formatter.format(value)
  return text.length > maxShown ? `${text.slice(0, maxShown)}…` : text
}

/** A value of the wrong type is told what its schema expects at last: of a count from 1 to 32 not any number. */
const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => {
    const annotations = issue._tag === "InvalidType" ? (issue.ast.checks?.at(-1) ?? issue.ast).annotations : undefined
    const expected = annotations?.expected
    return typeof expected === "string" ? `Expected ${expected}` : SchemaIssue.defaultLeafHook(issue)
  }
})

/** What a schema that knows no better calls its values. */
const plainWords: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  boolean: "true or false",
  '"true" | "false"': "true or false",
  array: "a list",
  object: "a mapping"
}

/** What the schema expects, to be read after "must be". */
const allowed = (message: string): string => {
  const expected = message.replace(/^Expected /, "")
  return plainWords[expected] ?? expected
}

/** The problems that a schema finds in what somebody wrote for a setting. */
const problemsOf = (key: Key, given: Given, error: Schema.SchemaError): ReadonlyArray<Problem> =>
  issuesOf(error.issue).issues.map(({ message, path: within }) => {
    const path = (within ?? []) as ReadonlyArray<PropertyKey>
    const describe = (): string => {
      if (message === "Missing key") return "missing, must be given"
      if (message === "Expected no excess property") return unknownKey(String(path.at(-1)), keysWithin[key] ?? [])
      return `${show(valueAt(given.value, path.slice(1)))}, must be ${allowed(message)}`
    }
    return problemAt(given.originOf(path), formatPath(path), describe())
  })

// The sources

/** What has been gathered on the way. */
interface Gathered {
  readonly given: Map<Key, Given>
  readonly problems: Array<Problem>
  /** Keys that have no effect. */
  readonly legacy: Array<readonly [key: string, origin: Origin]>
}

const gather = (gathered: Gathered, name: string, origin: Origin, given: Given): void => {
  if (isKey(name)) gathered.given.set(name, given)
  else if (Legacy.has(name)) gathered.legacy.push([name, origin])
  else gathered.problems.push(problemAt(origin, name, unknownKey(name, keys)))
}

/** The text of the file; none if there is no file and none was asked for. */
const readFile = Effect.fnUntraced(function* (
  asked: Option.Option<string>
): Effect.fn.Return<Option.Option<readonly [path: string, text: string]>, ConfigurationError, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const path = Option.getOrElse(asked, () => defaultFile)
  if (Option.isNone(asked) && !(yield* Effect.orElseSucceed(fs.exists(path), () => false))) return Option.none()
  const unusable = (problem: string) => new ConfigurationError({ problems: [{ where: path, key: "", problem }] })
  const { size } = yield* Effect.mapError(fs.stat(path), ({ message }) => unusable(message))
  if (size > maxFileBytes) return yield* unusable(`${size} bytes, must be at most ${maxFileBytes}`)
  const text = yield* Effect.mapError(fs.readFileString(path), ({ message }) => unusable(message))
  return Option.some([path, text] as const)
})

/** Whether the file could be taken apart; where it could not, every setting would seem to be missing. */
const addFile = (gathered: Gathered, path: string, text: string): boolean => {
  const at = (line: number) => Origin.File({ path, line })
  const { document, faults } = Document.parse(text)
  for (const { detail, key, line } of faults) gathered.problems.push(problemAt(at(line), key, detail))
  if (Option.isNone(document)) return false
  const { lineOf, value } = document.value
  if (value === null) return true
  if (typeof value !== "object" || Array.isArray(value)) {
    gathered.problems.push(problemAt(at(1), "", `${show(value)}, must be a mapping of settings`))
    return false
  }
  const originOf = (within: ReadonlyArray<PropertyKey>) => at(lineOf(within))
  for (const [name, written] of Object.entries(value)) {
    // A key without a value leaves the default.
    if (isKey(name) && written === null) continue
    gather(gathered, name, originOf([name]), { value: written, form: "value", originOf })
  }
  return true
}

const addText = (gathered: Gathered, name: string, text: string, origin: Origin): void => {
  if (isKey(name) && isList(name)) {
    gathered.problems.push(problemAt(origin, name, "a list, must be set in the file"))
    return
  }
  gather(gathered, name, origin, { value: text, form: "text", originOf: () => origin })
}

/** What Kubernetes sets for a service that is called gantry. */
const serviceLink = /^GANTRY_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_.+)?)$/

const addEnvironment = (gathered: Gathered, environment: Sources["environment"]): void => {
  for (const [name, text] of Object.entries(environment)) {
    if (!name.startsWith("GANTRY_") || text === undefined || text === "" || serviceLink.test(name)) continue
    addText(gathered, name.slice("GANTRY_".length).toLowerCase(), text, Origin.Environment({ name }))
  }
}

const addFlags = (gathered: Gathered, flags: Sources["flags"]): void => {
  for (const key of keys) {
    const text = flags[key]
    if (text !== undefined) addText(gathered, key, text, Origin.Flag({ name: `--${flagOf(key)}` }))
  }
}

const legacyWarnings = (legacy: Gathered["legacy"]): ReadonlyArray<Problem> => {
  const [first] = legacy
  if (first === undefined) return []
  const names = legacy.map(([key]) => key).join(", ")
  return [problemAt(first[1], names, "of another agent, without effect here")]
}

// All together

/** The settings that can be read, decoded; what is wrong with the others is added to the problems. */
const decodeAll = ({ given, problems }: Gathered): Partial<Record<Key, unknown>> => {
  const settings: Partial<Record<Key, unknown>> = {}
  for (const [key, decode] of decoders) {
    const written = given.get(key)
    const decoded = written === undefined ? decode.value({}) : decode[written.form]({ [key]: written.value })
    if (Result.isSuccess(decoded)) Object.assign(settings, decoded.success)
    else if (written !== undefined) problems.push(...problemsOf(key, written, decoded.failure))
  }
  return settings
}

/** The breaches of all rules that can be asked, each where one of the settings that it is about was given. */
const checkAll = ({ given, problems }: Gathered, settings: Partial<Record<Key, unknown>>, elsewhere: string): void => {
  for (const { check, keys } of rules) {
    if (!keys.every((key) => key in settings)) continue
    for (const { path, problem } of check(settings as Settings)) {
      const [key] = path
      const culprit = [key, ...keys].find((key) => given.has(key))
      const origin =
        culprit === undefined ? undefined : given.get(culprit)?.originOf(culprit === key ? path : [culprit])
      const text = formatPath(path)
      problems.push(origin === undefined ? { where: elsewhere, key: text, problem } : problemAt(origin, text, problem))
    }
  }
}

const byLine = Order.mapInput(Order.Number, ({ line }: Problem) => line ?? Number.POSITIVE_INFINITY)

/** Reads the configuration; fails with all that is wrong with it. */
export const load = Effect.fn("Configuration.load")(function* (
  sources: Sources
): Effect.fn.Return<Configuration, ConfigurationError, FileSystem.FileSystem> {
  const gathered: Gathered = { given: new Map(), problems: [], legacy: [] }
  const file = yield* readFile(sources.file)
  const isWhole = Option.isNone(file) || addFile(gathered, ...file.value)
  addEnvironment(gathered, sources.environment)
  addFlags(gathered, sources.flags)

  const settings = decodeAll(gathered)
  const path = Option.map(file, ([path]) => path)
  if (isWhole)
    checkAll(
      gathered,
      settings,
      Option.getOrElse(path, () => "configuration")
    )
  const { given, legacy, problems } = gathered
  if (problems.length > 0) return yield* new ConfigurationError({ problems: problems.toSorted(byLine) })
  return {
    settings: settings as Settings,
    originOf: (key) => given.get(key)?.originOf([key]) ?? Origin.Default(),
    warnings: legacyWarnings(legacy),
    file: path
  }
})
