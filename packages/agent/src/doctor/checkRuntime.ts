/**
 * Looks at containerd: whether it would pull through the mirror (agent, section
 * 9).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import type { Settings } from "../config/Settings.ts"
import * as ConfigPath from "../containerd/ConfigPath.ts"
import * as Hosts from "../containerd/Hosts.ts"
import { dialTimeout } from "../containerd/HostsFile.ts"
import * as RuntimeConfig from "../containerd/RuntimeConfig.ts"
import { type Check, on } from "./Finding.ts"

/** containerd's configuration: `config_path`, and whether anything reads it. */
export const configPath = (file: string, root: Option.Option<string>): Check<FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const { ok, problem } = on("containerd config")
    const read = yield* Effect.result(RuntimeConfig.read(file))
    if (Result.isFailure(read)) {
      return [problem(read.failure.message, "mend it, or say where it is with --containerd-config")]
    }
    const config = read.success
    const directory = Option.getOrElse(root, () => ConfigPath.rootOf(config))
    const explained = ConfigPath.explain(yield* ConfigPath.standingOf(config, directory), config, directory)
    return [
      Option.match(explained, {
        onNone: () => ok(`config_path in ${config.configPathIn} is ${directory}`),
        onSome: ({ problem: detail, remedy }) => problem(detail, remedy)
      }),
      ...(config.isCriDisabled
        ? [problem(`the CRI plugin is disabled in ${file}`, "remove it from disabled_plugins, then restart containerd")]
        : []),
      ...config.oldSettings.map((setting) =>
        problem(
          `${setting} in ${file} does not go with config_path`,
          "write it into hosts.toml instead, then restart containerd"
        )
      )
    ]
  })

/** The hosts files of all registries that are mirrored. */
export const hostsFiles = (
  settings: Settings,
  file: string,
  root: Option.Option<string>
): Check<FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const { ok, problem } = on("hosts files")
    const config = yield* Effect.option(RuntimeConfig.read(file))
    const known = Option.match(config, { onNone: () => [], onSome: RuntimeConfig.directoriesOf })
    const roots = Option.match(root, {
      onNone: () => (known.length > 0 ? known : [RuntimeConfig.defaultConfigPath]),
      onSome: (root) => [root]
    })
    const url = Hosts.urlOf(settings.mirror_listen)
    return yield* Effect.forEach(
      Hosts.targetsOf(settings),
      Effect.fnUntraced(function* ({ name }) {
        const { file, standing } = yield* Hosts.standingOf(roots, url, name)
        if (standing === "ours") return ok(`${file} names ${url}`)
        const detail = standing === "absent" ? `${file} is missing` : `${file} does not name ${url}`
        const what = name === "_default" ? "registries without a file of their own are" : `${name} is`
        return problem(`${detail}: ${what} not pulled through the mirror`, "run gantry containerd configure")
      })
    )
  })

/** The numbers of a version, as `containerd --version` prints it. */
export const versionIn = (text: string): Option.Option<readonly [major: number, minor: number, patch: number]> => {
  const [, major, minor, patch] = /\bv?(\d+)\.(\d+)\.(\d+)/.exec(text) ?? []
  return patch === undefined ? Option.none() : Option.some([Number(major), Number(minor), Number(patch)] as const)
}

/** Whether a version of containerd knows `dial_timeout`: from 2.0.10, and from 2.1. */
export const knowsDialTimeout = ([major, minor, patch]: readonly [number, number, number]): boolean =>
  major > 2 || (major === 2 && (minor >= 1 || patch >= 10))

const patience = Duration.seconds(5)

/** What containerd does while the agent is down. */
export const version = (command: string): Check<ChildProcessSpawner> => {
  const { note, ok, skipped } = on("containerd version")
  const asked = ChildProcessSpawner.use((spawner) => spawner.string(ChildProcess.make(command, ["--version"])))
  return Effect.match(Effect.timeout(asked, patience), {
    onFailure: () => [skipped(`${command} is not to be run here`)],
    onSuccess: (text) => {
      const version = versionIn(text)
      if (Option.isNone(version)) return [skipped(`${command} --version says ${JSON.stringify(text.slice(0, 100))}`)]
      const name = `containerd ${version.value.join(".")}`
      return knowsDialTimeout(version.value)
        ? [ok(`${name} gives up on a mirror that cannot be reached after ${dialTimeout}`)]
        : [
            note(
              `${name} knows no dial_timeout: a mirror that cannot be reached may hold up a pull by 30s`,
              "upgrade to 2.0.10, 2.1 or later"
            )
          ]
    }
  })
}
