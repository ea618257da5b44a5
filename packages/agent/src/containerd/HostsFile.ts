/**
 * containerd's `hosts.toml` of a registry, with our mirror in it before all
 * others (agent, section 9).
 */
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { TomlTable } from "smol-toml"
import * as MarkedBlock from "./MarkedBlock.ts"
import * as TomlEdit from "./TomlEdit.ts"

/** Certificates that containerd finds in the directory by their names, as long as there is no `hosts.toml`. */
export interface Certificates {
  readonly ca: ReadonlyArray<string>
  /** Certificates, each with its key if that is a file of its own. */
  readonly client: ReadonlyArray<readonly [certificate: string] | readonly [certificate: string, key: string]>
}

/** What the file is to say. */
export interface Mirror {
  /** `http://127.0.0.1:5000`. */
  readonly url: string
  /** Where the registry itself is; none for all registries. */
  readonly server: Option.Option<string>
  /** What a file that is made must name, because containerd does not look for it any more. */
  readonly certificates: Certificates
  /** Whether there is a directory for the file; it goes with the file if there is none. */
  readonly hasDirectory: boolean
}

/**
 * What containerd waits for a connection, where it knows this key (2.0.10, 2.1
 * and later); others pass over it. An agent on the same machine is there or not.
 */
export const dialTimeout = "200ms"

const text = (value: string): string => JSON.stringify(value)

const hostLines = (url: string): ReadonlyArray<string> => [
  `[host.${text(url)}]`,
  '  capabilities = ["pull", "resolve"]',
  `  dial_timeout = ${text(dialTimeout)}`
]

const pathsOf = (files: Certificates["client"][number]): string =>
  files.length > 1 ? `[${files.map(text).join(", ")}]` : text(files[0])

/** The keys of the registry itself, by which a file that we make says what containerd knew without it. */
const rootKeysOf = ({ certificates: { ca, client }, server }: Mirror): ReadonlyArray<readonly [string, string]> => [
  ...Option.match(server, { onNone: () => [], onSome: (server) => [["server", text(server)] as const] }),
  ...(ca.length > 0 ? [["ca", `[${ca.map(text).join(", ")}]`] as const] : []),
  ...(client.length > 0 ? [["client", `[${client.map(pathsOf).join(", ")}]`] as const] : [])
]

const hostsOf = (document: TomlTable) => TomlEdit.tableAt(document, ["host"])

/**
 * The file with the mirror in it; the same text if it is there already. Fails
 * with why the file must stay as it is.
 */
export const configure = (original: Option.Option<string>, mirror: Mirror): Result.Result<string, string> => {
  const { made, text: foreign } = MarkedBlock.originalOf(original)
  return Result.flatMap(TomlEdit.parse(foreign), (document) => {
    const hosts = hostsOf(document)
    if (mirror.url in hosts) return Result.fail(`it has a host ${mirror.url} of its own: remove that first`)
    // A file that says nothing is to containerd as good as none.
    const isOurs = made.includes("file") || Object.keys(document).length === 0
    const added = isOurs ? rootKeysOf(mirror).filter(([key]) => !(key in document)) : []
    const root = added.map(([key, value]) => `${key} = ${value}`)
    const block = {
      lines: [...root, ...(root.length > 0 ? [""] : []), ...hostLines(mirror.url)],
      made: Option.isNone(original) && !mirror.hasDirectory ? [...made, "directory"] : made
    }
    // The keys of the registry itself come before all tables.
    const places = [...TomlEdit.linesOf(foreign, /^\s*\[/).map(({ from }) => from), foreign.length]
    const isRight = (changed: TomlTable) => {
      const { [mirror.url]: ours, ...others } = hostsOf(changed)
      const isFirst = Object.keys(hostsOf(changed))[0] === mirror.url
      const kept = Object.entries(changed).filter(([key]) => key in document)
      const isElseSame = TomlEdit.isSame({ ...document, host: hosts }, { ...Object.fromEntries(kept), host: others })
      return ours !== undefined && isFirst && isElseSame && added.every(([key]) => key in changed)
    }
    return Result.fromOption(
      TomlEdit.apply(
        foreign,
        places.map((place) => ({ from: place, to: place, block })),
        isRight
      ),
      () => "its hosts are written in a way that has no room for another"
    )
  })
}

/** Whether our mirror is in a file, as it is written now. */
export const isConfigured = (written: string, url: string): boolean =>
  Option.isSome(MarkedBlock.remove(written)) && written.includes(`[host.${text(url)}]`)
