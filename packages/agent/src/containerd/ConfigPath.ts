/**
 * What containerd makes of the directory that hosts files are in, and what to
 * do about it (agent, section 9).
 */

import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as RuntimeConfig from "./RuntimeConfig.ts"

/**
 * How `config_path` stands to a directory. `set`: containerd looks there.
 * `list`: the part of it that pulls since 2.1, the transfer service, takes a
 * list with colons for one directory, and finds nothing. `missing`: it looks
 * nowhere. `elsewhere`: it looks into another directory.
 */
export type Standing = "set" | "list" | "missing" | "elsewhere"

/** Where hosts files belong: the first of containerd's directories. */
export const rootOf = (config: RuntimeConfig.RuntimeConfig): string =>
  RuntimeConfig.directoriesOf(config)[0] ?? RuntimeConfig.defaultConfigPath

/** How containerd's configuration stands to a directory. */
export const standingOf = Effect.fnUntraced(function* (config: RuntimeConfig.RuntimeConfig, root: string) {
  const path = yield* Path.Path
  const directories = RuntimeConfig.directoriesOf(config).map((directory) => path.resolve(directory))
  const standing = (): Standing => {
    if (directories.length === 0) return "missing"
    if (!directories.includes(path.resolve(root))) return "elsewhere"
    return directories.length > 1 ? "list" : "set"
  }
  return standing()
})

/** What is wrong with `config_path`, and what to write; nothing if it is right. */
export const explain = (
  standing: Standing,
  config: RuntimeConfig.RuntimeConfig,
  root: string
): Option.Option<{ readonly problem: string; readonly remedy: string }> => {
  const written = Option.getOrElse(config.configPath, () => "")
  const restart = "then restart containerd"
  switch (standing) {
    case "set":
      return Option.none()
    case "list":
      return Option.some({
        problem: `config_path in ${config.configPathIn} is a list, ${written}: containerd 2.1 and later take it for one directory and use no mirror`,
        remedy: `write config_path = ${JSON.stringify(root)}, or run gantry containerd configure --write-config, ${restart}`
      })
    case "missing":
      return Option.some({
        problem: `config_path is not set in ${config.path}: containerd looks for no hosts files`,
        remedy: [
          `run gantry containerd configure --write-config, or write into ${config.path}`,
          ...RuntimeConfig.snippet(config.text, root).map((line) => `    ${line}`),
          restart
        ].join("\n")
      })
    case "elsewhere":
      return Option.some({
        problem: `config_path in ${config.configPathIn} is ${written}, and not ${root}`,
        remedy: `run gantry containerd configure without --config-path, or write config_path = ${JSON.stringify(root)}, ${restart}`
      })
  }
}
