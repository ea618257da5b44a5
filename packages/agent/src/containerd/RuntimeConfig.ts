/**
 * containerd's own configuration, as far as a mirror depends on it: whether and
 * where containerd looks for `hosts.toml` (agent, section 9).
 */
import { describeCause } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import { escape } from "effect/RegExp"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { TomlTable } from "smol-toml"
import * as MarkedBlock from "./MarkedBlock.ts"
import * as TomlEdit from "./TomlEdit.ts"

/** Where it is, unless the distribution has it elsewhere. */
export const defaultPath = "/etc/containerd/config.toml"

/** Where hosts files are, unless containerd is told otherwise. */
export const defaultConfigPath = "/etc/containerd/certs.d"

/** Why containerd's configuration cannot be read. */
export class RuntimeConfigError extends Schema.TaggedError<RuntimeConfigError>("@gantry/agent/RuntimeConfigError")(
  "RuntimeConfigError",
  { path: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `cannot use containerd's configuration in ${this.path}: ${this.detail}`
  }
}

/** What containerd is told. */
export interface RuntimeConfig {
  readonly path: string
  /** Its text; none if there is no such file and containerd uses its defaults. */
  readonly text: Option.Option<string>
  /** As it is written: one directory, or several with colons between them. */
  readonly configPath: Option.Option<string>
  /** The file that says so, which may be one that the other imports. */
  readonly configPathIn: string
  /** Whether the plugin that pulls for Kubernetes is switched off, as Docker's package of containerd does. */
  readonly isCriDisabled: boolean
  /** Settings of mirrors of the old form, beside which containerd refuses to start the plugin with a `config_path`. */
  readonly oldSettings: ReadonlyArray<string>
}

/** The tables of the registry settings, by the version of the configuration. */
const registryTables = {
  1: ["plugins", "cri", "registry"],
  2: ["plugins", "io.containerd.grpc.v1.cri", "registry"],
  3: ["plugins", "io.containerd.cri.v1.images", "registry"]
} as const

const tables = Object.values(registryTables)

const versionOf = (document: TomlTable): 1 | 2 | 3 => {
  const version = document.version ?? 1
  return version === 3 || version === 2 ? version : 1
}

const configPathOf = (document: TomlTable): Option.Option<string> =>
  Option.fromUndefinedOr(
    tables
      .map((table) => TomlEdit.tableAt(document, table).config_path)
      .find((path): path is string => typeof path === "string" && path !== "")
  )

const oldSettingsOf = (document: TomlTable): ReadonlyArray<string> =>
  tables.flatMap((table) => {
    const registry = TomlEdit.tableAt(document, table)
    const configs = Object.entries(TomlEdit.tableAt(registry, ["configs"]))
    return [
      ...(Object.keys(TomlEdit.tableAt(registry, ["mirrors"])).length > 0 ? ["registry.mirrors"] : []),
      ...configs.flatMap(([host, config]) =>
        Object.keys(TomlEdit.tableAt({ config }, ["config", "tls"])).length > 0
          ? [`registry.configs."${host}".tls`]
          : []
      )
    ]
  })

const criPlugins: ReadonlySet<unknown> = new Set([
  "cri",
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime"
])

const isCriDisabledIn = ({ disabled_plugins }: TomlTable): boolean =>
  Array.isArray(disabled_plugins) && disabled_plugins.some((plugin) => criPlugins.has(plugin))

/** A pattern of file names with `*` in it, as containerd's imports have it. */
const globOf = (pattern: string): RegExp => new RegExp(`^${pattern.split("*").map(escape).join("[^/]*")}$`)

/** More than any configuration has. */
const maxImports = 100

const readText = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* fs.readFileString(path).pipe(
    Effect.asSome,
    Effect.catchReason("PlatformError", "NotFound", () => Effect.succeedNone),
    Effect.mapError((error) => new RuntimeConfigError({ path, detail: describeCause(error) }))
  )
})

const parse = (path: string, text: string) =>
  Effect.mapError(Effect.fromResult(TomlEdit.parse(text)), (detail) => new RuntimeConfigError({ path, detail }))

/** The files that a configuration imports, of which each overrides those before it. */
const importsOf = Effect.fnUntraced(function* (path: string, { imports }: TomlTable) {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const patterns = Array.isArray(imports) ? imports.filter((pattern) => typeof pattern === "string") : []
  const files = yield* Effect.forEach(patterns, (pattern) => {
    const whole = paths.resolve(paths.dirname(path), pattern)
    const directory = paths.dirname(whole)
    const name = globOf(paths.basename(whole))
    return Effect.orElseSucceed(fs.readDirectory(directory), () => []).pipe(
      Effect.map((entries) =>
        entries
          .filter((entry) => name.test(entry))
          .toSorted()
          .map((entry) => paths.join(directory, entry))
      )
    )
  })
  return files.flat().slice(0, maxImports)
})

/** Reads containerd's configuration with what it imports. */
export const read = Effect.fnUntraced(function* (
  path: string
): Effect.fn.Return<RuntimeConfig, RuntimeConfigError, FileSystem.FileSystem | Path.Path> {
  const text = yield* readText(path)
  const document = yield* parse(
    path,
    Option.getOrElse(text, () => "")
  )
  const documents = [{ path, document }]
  for (const imported of yield* importsOf(path, document)) {
    const text = yield* readText(imported)
    if (Option.isSome(text)) documents.push({ path: imported, document: yield* parse(imported, text.value) })
  }
  const telling = documents.findLast(({ document }) => Option.isSome(configPathOf(document)))
  return {
    path,
    text,
    configPath: telling === undefined ? Option.none() : configPathOf(telling.document),
    configPathIn: telling?.path ?? path,
    isCriDisabled: documents.some(({ document }) => isCriDisabledIn(document)),
    oldSettings: documents.flatMap(({ document }) => oldSettingsOf(document))
  }
})

/** The directories that containerd looks into, in turn. */
export const directoriesOf = ({ configPath }: RuntimeConfig): ReadonlyArray<string> =>
  Option.match(configPath, { onNone: () => [], onSome: (path) => path.split(":").filter((part) => part !== "") })

const keyOf = (part: string): string => (/^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part))

/** The header of a table, as people write it. */
const headerOf = (table: ReadonlyArray<string>): string => `[${table.map(keyOf).join(".")}]`

/** What an operator would write for containerd to look into a directory. */
export const snippet = (text: Option.Option<string>, directory: string): ReadonlyArray<string> => {
  const document = Result.getOrElse(TomlEdit.parse(Option.getOrElse(text, () => "")), () => ({}))
  // What says nothing is of no version; all that are in use read this one.
  const isBlank = Object.keys(document).length === 0
  return [
    ...(isBlank ? ["version = 2", ""] : []),
    headerOf(registryTables[isBlank ? 2 : versionOf(document)]),
    `  config_path = ${JSON.stringify(directory)}`
  ]
}

const withConfigPath = (document: TomlTable, table: ReadonlyArray<string>, directory: string): TomlTable => {
  const [key, ...rest] = table
  if (key === undefined) return { ...document, config_path: directory }
  return { ...document, [key]: withConfigPath(TomlEdit.tableAt(document, [key]), rest, directory) }
}

/**
 * A configuration that has containerd look into one directory and is otherwise
 * the same; the same text if it is that already. Fails with why it must stay as
 * it is.
 */
export const setConfigPath = (original: Option.Option<string>, directory: string): Result.Result<string, string> => {
  const { made, text: foreign } = MarkedBlock.originalOf(original)
  return Result.flatMap(TomlEdit.parse(foreign), (document) => {
    const [old] = oldSettingsOf(document)
    if (old !== undefined) return Result.fail(`it has ${old}, beside which containerd allows no config_path`)
    const table =
      tables.find((table) => Object.keys(TomlEdit.tableAt(document, table)).length > 0) ??
      registryTables[versionOf(document)]
    const block = { lines: [`config_path = ${JSON.stringify(directory)}`], made }
    const attempts = [
      ...TomlEdit.linesOf(foreign, /^\s*config_path\s*=/).map((line) => ({ ...line, block })),
      ...TomlEdit.linesOf(foreign, /^\s*\[/).map(({ to }) => ({ from: to, to, block })),
      { from: foreign.length, to: foreign.length, block: { lines: snippet(Option.some(foreign), directory), made } }
    ]
    const isBlank = Object.keys(document).length === 0
    const wanted = withConfigPath(isBlank ? { version: 2 } : document, isBlank ? registryTables[2] : table, directory)
    const changed = TomlEdit.apply(foreign, attempts, (document) => TomlEdit.isSame(document, wanted))
    return Result.fromOption(changed, () => `it has no room for config_path in ${headerOf(table)}`)
  })
}
