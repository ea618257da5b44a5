/**
 * `gantry containerd`: makes containerd pull through the mirror, and undoes it
 * (agent, section 9).
 */
import { NodeHttpClient } from "@effect/platform-node"
import { Command, Flag } from "effect/cli"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as SettingsFlags from "../config/SettingsFlags.ts"
import { Time } from "../config/Units.ts"
import { print, printError, printJson } from "../runtime/Output.ts"
import * as ConfigPath from "./ConfigPath.ts"
import * as ContainerdFlags from "./ContainerdFlags.ts"
import * as Hosts from "./Hosts.ts"
import * as HostsFile from "./HostsFile.ts"
import * as MarkedFile from "./MarkedFile.ts"
import * as Readiness from "./Readiness.ts"
import * as RuntimeConfig from "./RuntimeConfig.ts"

/** A run after which containerd does not do what was asked for. What is missing has been shown. */
export class ContainerdFailed extends Data.TaggedError("ContainerdFailed")<{
  readonly problems: ReadonlyArray<string>
}> {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return this.problems.join("\n")
  }
}

const json = Flag.Boolean("json").pipe(Flag.withDescription("Print one JSON document"), Flag.withDefault(false))

const { config: containerdConfig, configPath } = ContainerdFlags

const writeConfig = Flag.Boolean("write-config").pipe(
  Flag.withDescription("Set config_path in containerd's configuration, too, where it is missing or a list"),
  Flag.withDefault(false)
)

const wait = Flag.String("wait").pipe(
  Flag.withDescription("How long to wait for the agent to be ready; 10s"),
  Flag.withSchema(Time),
  Flag.withDefault(Duration.seconds(10))
)

const unready = Flag.Boolean("unready").pipe(
  Flag.withDescription("Do not ask whether the agent is ready"),
  Flag.withDefault(false)
)

/** What a run did, as JSON. */
const Report = Schema.Struct({
  changes: Schema.Array(MarkedFile.Change),
  /** What keeps containerd from using the mirror. */
  problems: Schema.Array(Schema.Struct({ problem: Schema.String, remedy: Schema.String }))
})
type Report = typeof Report.Type

const formatChange = ({ detail, outcome, path }: MarkedFile.Change): string =>
  detail === undefined ? `${outcome} ${path}` : `${outcome} ${path}: ${detail}`

/** Shows a report; fails if it tells of problems. */
const show = Effect.fnUntraced(function* (report: Report, asJson: boolean) {
  if (asJson) yield* printJson(Report, report)
  else {
    if (report.changes.length > 0) yield* print(...report.changes.map(formatChange))
    for (const { problem, remedy } of report.problems)
      yield* printError(problem, `  ${remedy.replaceAll("\n", "\n  ")}`)
  }
  const refusals = report.changes.filter(({ outcome }) => outcome === "refused").map(formatChange)
  const problems = [...refusals, ...report.problems.map(({ problem }) => problem)]
  if (problems.length > 0) return yield* new ContainerdFailed({ problems })
})

/** Has containerd look into the directory, where it does not. */
const configureRuntime = Effect.fnUntraced(function* (runtime: RuntimeConfig.RuntimeConfig, root: string) {
  const changed = yield* MarkedFile.write(runtime.configPathIn, (text) => RuntimeConfig.setConfigPath(text, root))
  if (changed.outcome === "written") yield* printError("restart containerd: its configuration has changed")
  return changed
})

/** Says on standard error why nothing was done. */
const orExplain = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>, remedy: string) =>
  Effect.catch(effect, ({ message }) =>
    Effect.andThen(printError(message, `  ${remedy}`), Effect.fail(new ContainerdFailed({ problems: [message] })))
  )

const configure = Command.make(
  "configure",
  { file: SettingsFlags.file, containerdConfig, configPath, writeConfig, wait, unready, json },
  Effect.fnUntraced(function* (flags) {
    const { settings } = yield* SettingsFlags.load(flags)
    const runtime = yield* RuntimeConfig.read(flags.containerdConfig).pipe((read) =>
      orExplain(read, "say where it is with --containerd-config")
    )
    if (!flags.unready) {
      const remedy = "start gantry agent, or write all the same with --unready; nothing has been written"
      yield* orExplain(Readiness.wait(settings, flags.wait), remedy)
    }
    const root = Option.getOrElse(flags.configPath, () => ConfigPath.rootOf(runtime))
    const hosts = yield* Hosts.configure(root, Hosts.urlOf(settings.mirror_listen), Hosts.targetsOf(settings))
    const standing = yield* ConfigPath.standingOf(runtime, root)
    const isToWrite = flags.writeConfig && standing !== "set"
    const changes = isToWrite ? [...hosts, yield* configureRuntime(runtime, root)] : hosts
    const problems = isToWrite ? [] : Option.toArray(ConfigPath.explain(standing, runtime, root))
    yield* show({ changes, problems }, flags.json)
  }, Effect.provide(NodeHttpClient.layerUndici))
).pipe(
  Command.withDescription(
    `Write a hosts.toml for every registry that is mirrored, with dial_timeout = "${HostsFile.dialTimeout}", once the agent is ready. What is there stays, behind the mirror`
  )
)

const restore = Command.make(
  "restore",
  { containerdConfig, configPath, json },
  Effect.fnUntraced(function* (flags) {
    const runtime = yield* RuntimeConfig.read(flags.containerdConfig).pipe((read) =>
      orExplain(read, "say where it is with --containerd-config")
    )
    const roots = new Set([
      ...Option.toArray(flags.configPath),
      ...RuntimeConfig.directoriesOf(runtime),
      RuntimeConfig.defaultConfigPath
    ])
    const hosts = yield* Effect.forEach(roots, Hosts.restore)
    const own = yield* Effect.forEach(new Set([runtime.path, runtime.configPathIn]), MarkedFile.restore)
    const changes = [...hosts.flat(), ...own.flatMap(Option.toArray)]
    if (own.some(Option.isSome)) yield* printError("restart containerd: its configuration has changed")
    if (changes.length === 0 && !flags.json) yield* print("nothing of Gantry is in containerd's files")
    yield* show({ changes, problems: [] }, flags.json)
  })
).pipe(Command.withDescription("Take out again what configure has written, byte for byte"))

/** `gantry containerd`. */
export const containerd = Command.make("containerd").pipe(
  Command.withDescription("Make containerd pull through this machine's agent"),
  Command.withSubcommands([configure, restore])
)
