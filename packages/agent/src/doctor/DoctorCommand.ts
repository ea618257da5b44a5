/**
 * `gantry doctor`: what keeps this machine from pulling through its agent, and
 * what to do about it (agent, section 9).
 */
import { NodeHttpClient } from "@effect/platform-node"
import { Command, Flag } from "effect/cli"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as HttpClient from "effect/http/HttpClient"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Configuration from "../config/Configuration.ts"
import { formatProblem } from "../config/Problem.ts"
import type { Settings } from "../config/Settings.ts"
import * as SettingsFlags from "../config/SettingsFlags.ts"
import * as ContainerdFlags from "../containerd/ContainerdFlags.ts"
import * as ConfiguredSource from "../members/ConfiguredSource.ts"
import { print, printJson } from "../runtime/Output.ts"
import * as CheckAgent from "./checkAgent.ts"
import * as CheckRegistries from "./checkRegistries.ts"
import * as CheckRuntime from "./checkRuntime.ts"
import { type Check, Finding, on } from "./Finding.ts"

/** Something is not as it should be. It has been shown. */
export class DoctorFailed extends Schema.TaggedError<DoctorFailed>("@gantry/agent/DoctorFailed")("DoctorFailed", {
  problems: Schema.Int
}) {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return `${this.problems} problems`
  }
}

/** Where the parts of containerd are. */
export interface Containerd {
  readonly config: string
  readonly configPath: Option.Option<string>
  readonly command: string
}

/** Everything that is looked at from outside the agent, in the order of a pull. */
export const checks = (
  settings: Settings,
  containerd: Containerd
): ReadonlyArray<Check<HttpClient.HttpClient | FileSystem.FileSystem | Path.Path | ChildProcessSpawner>> => [
  CheckRuntime.configPath(containerd.config, containerd.configPath),
  CheckRuntime.hostsFiles(settings, containerd.config, containerd.configPath),
  CheckRuntime.version(containerd.command),
  CheckAgent.mirror(settings),
  CheckAgent.disk(settings),
  CheckAgent.peers(ConfiguredSource.of(settings), settings),
  CheckRegistries.registries(settings)
]

const marks: Record<Finding["verdict"], string> = {
  ok: "ok     ",
  note: "note   ",
  problem: "PROBLEM",
  skipped: "skipped"
}

const format = ({ about, detail, remedy, verdict }: Finding): string => {
  const line = `${marks[verdict]}  ${about}: ${detail}`
  return remedy === undefined ? line : `${line}\n         -> ${remedy.replaceAll("\n", "\n            ")}`
}

const Report = Schema.Struct({ problems: Schema.Int, findings: Schema.Array(Finding) })

const examine = Effect.fnUntraced(function* (given: SettingsFlags.Given, containerd: Containerd) {
  const { ok, problem } = on("configuration")
  const read = yield* Effect.result(Configuration.load(SettingsFlags.sourcesOf(given)))
  if (read._tag === "Failure") {
    return read.failure.problems.map((wrong) => problem(formatProblem(wrong), "mend it: gantry config check"))
  }
  const file = Option.getOrElse(read.success.file, () => "the configuration")
  const found = yield* Effect.all(checks(read.success.settings, containerd), { concurrency: "unbounded" })
  return [ok(`${file} is valid`), ...found.flat()]
})

/** `gantry doctor`. */
export const doctor = Command.make(
  "doctor",
  {
    file: SettingsFlags.file,
    config: ContainerdFlags.config,
    configPath: ContainerdFlags.configPath,
    command: Flag.String("containerd").pipe(
      Flag.withDescription("The program containerd, to ask for its version"),
      Flag.withDefault("containerd")
    ),
    json: Flag.Boolean("json").pipe(Flag.withDescription("Print one JSON document"), Flag.withDefault(false))
  },
  Effect.fnUntraced(function* ({ file, json, ...containerd }) {
    const findings = yield* examine({ file }, containerd)
    const problems = findings.filter(({ verdict }) => verdict === "problem").length
    yield* json ? printJson(Report, { problems, findings }) : print(...findings.map(format))
    if (problems > 0) return yield* new DoctorFailed({ problems })
  }, Effect.provide(NodeHttpClient.layerUndici))
).pipe(
  Command.withDescription("Find what keeps this machine from pulling through its agent; exit code 1 if anything does")
)
