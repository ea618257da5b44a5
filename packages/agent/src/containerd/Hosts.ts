/**
 * Points containerd at the mirror and away from it again (agent, section 9).
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Host from "effect/net/Host"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { Settings } from "../config/Settings.ts"
import * as HostsFile from "./HostsFile.ts"
import * as MarkedFile from "./MarkedFile.ts"

/** A registry that containerd should ask the mirror for, and where it is itself. */
export interface Target {
  /** The directory of its hosts file; `_default` for all registries without one. */
  readonly name: string
  readonly server: Option.Option<string>
}

/** How this machine reaches an address that somebody listens on. */
export const urlOf = ({ host, port }: Host.HostPort): string => {
  const text = Host.formatHost(host)
  const reached = text === "0.0.0.0" ? "127.0.0.1" : text === "::" ? "::1" : text
  return `http://${reached.includes(":") ? `[${reached}]` : reached}:${port}`
}

/** The registries of a configuration, by all names that they are asked for by. */
export const targetsOf = ({ upstream_registries, wildcard_registries }: Settings): ReadonlyArray<Target> => [
  ...upstream_registries.flatMap(({ endpoint, name, ns_alias }) =>
    [name, ...Option.toArray(ns_alias)].map((name): Target => ({ name, server: Option.some(endpoint) }))
  ),
  ...(wildcard_registries ? [{ name: "_default", server: Option.none() }] : [])
]

/** containerd looks for `host_port_` before `host:port`, since not every file system has colons. */
const namesOf = (name: string): ReadonlyArray<string> => {
  const [, host, port] = /^(.+):(\d+)$/.exec(name) ?? []
  return host === undefined ? [name] : [`${host}_${port}_`, name]
}

const hostsFile = "hosts.toml"

/** The certificates that containerd would take from a directory without a hosts file. */
const certificatesIn = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const files = yield* Effect.orElseSucceed(fs.readDirectory(directory), (): ReadonlyArray<string> => [])
  const inPlace = (file: string) => path.join(directory, file)
  return {
    ca: files.filter((file) => file.endsWith(".crt")).map(inPlace),
    client: files
      .filter((file) => file.endsWith(".cert"))
      .map((file) => {
        const key = `${file.slice(0, -".cert".length)}.key`
        return files.includes(key) ? ([inPlace(file), inPlace(key)] as const) : ([inPlace(file)] as const)
      })
  }
})

/** Writes the hosts file of one registry into a directory of containerd's. */
const configureOne = Effect.fnUntraced(function* (root: string, url: string, { name, server }: Target) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const isThere = (directory: string) => Effect.orElseSucceed(fs.exists(directory), () => false)
  const existing = yield* Effect.filter(
    namesOf(name).map((name) => path.join(root, name)),
    isThere
  )
  const directory = existing[0] ?? path.join(root, name)
  const mirror = {
    url,
    server,
    certificates: yield* certificatesIn(directory),
    hasDirectory: existing.length > 0
  }
  return yield* MarkedFile.write(path.join(directory, hostsFile), (text) => HostsFile.configure(text, mirror))
})

/** Writes the hosts files of all registries. */
export const configure = (
  root: string,
  url: string,
  targets: ReadonlyArray<Target>
): Effect.Effect<ReadonlyArray<MarkedFile.Change>, never, FileSystem.FileSystem | Path.Path> =>
  Effect.forEach(targets, (target) => configureOne(root, url, target))

/** Takes the mirror out of every hosts file below a directory, whatever the configuration names by now. */
export const restore = Effect.fnUntraced(function* (root: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const names = yield* Effect.orElseSucceed(fs.readDirectory(root), (): ReadonlyArray<string> => [])
  const changes = yield* Effect.forEach(names.toSorted(), (name) =>
    MarkedFile.restore(path.join(root, name, hostsFile))
  )
  return changes.flatMap(Option.toArray)
})

/** How a hosts file stands to a mirror. */
export type Standing = "ours" | "foreign" | "absent"

/** How the hosts file of a registry stands to a mirror. */
export const standingOf = Effect.fnUntraced(function* (roots: ReadonlyArray<string>, url: string, name: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const files = roots.flatMap((root) => namesOf(name).map((name) => path.join(root, name, hostsFile)))
  for (const file of files) {
    const text = yield* Effect.option(fs.readFileString(file))
    if (Option.isNone(text)) continue
    const standing: Standing = HostsFile.isConfigured(text.value, url) ? "ours" : "foreign"
    return { file, standing }
  }
  const standing: Standing = "absent"
  return { file: path.join(roots[0] ?? "", name, hostsFile), standing }
})
