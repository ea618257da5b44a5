/**
 * What settings must have in common (agent, section 2: cross-checks).
 */
import * as Duration from "effect/Duration"
import * as Host from "effect/net/Host"
import * as Option from "effect/Option"
import * as MemberEntry from "../members/MemberEntry.ts"
import type { Key, Settings } from "./Settings.ts"
import * as Units from "./Units.ts"
import { isLoopback, isUnsafe, type Upstream } from "./Upstream.ts"

/** A rule that is broken: where, and what is wrong with what is there. */
export interface Breach {
  readonly path: readonly [key: Key, ...rest: ReadonlyArray<PropertyKey>]
  readonly problem: string
}

/** A rule about some settings. It is not asked where one of them cannot be read. */
export interface Rule {
  readonly keys: ReadonlyArray<Key>
  readonly check: (settings: Settings) => Iterable<Breach>
}

const rule = <const Keys extends ReadonlyArray<Key>>(
  keys: Keys,
  check: (settings: Pick<Settings, Keys[number]>) => Iterable<Breach>
): Rule => ({ keys, check })

const breach = (path: Breach["path"], value: string, allowed: string): Breach => ({
  path,
  problem: `${value}, must be ${allowed}`
})

const isLocal = ({ host }: Host.HostPort): boolean => isLoopback(Host.formatHost(host))

const namesOf = (upstream: Upstream): ReadonlyArray<readonly [field: "name" | "ns_alias", name: string]> => [
  ["name", upstream.name],
  ...Option.match(upstream.ns_alias, {
    onNone: () => [],
    onSome: (alias) => [["ns_alias", alias] as const]
  })
]

/** What comes again, each with where. */
const repeated = <A>(items: Iterable<readonly [value: string, where: A]>): ReadonlyArray<readonly [string, A]> => {
  const seen = new Set<string>()
  return [...items].filter(([value]) => seen.size === seen.add(value).size)
}

const sources = ["file", "dns", "static"] as const

/** All rules. */
export const rules: ReadonlyArray<Rule> = [
  rule(["mirror_listen", "mirror_bind_allow_non_loopback"], function* (settings) {
    if (settings.mirror_bind_allow_non_loopback || isLocal(settings.mirror_listen)) return
    const allowed = "a loopback address unless mirror_bind_allow_non_loopback is true"
    yield breach(["mirror_listen"], Host.formatHostPort(settings.mirror_listen), allowed)
  }),

  rule(["mirror_stall_timeout", "origin_stall_timeout"], function* (settings) {
    const [mirror, origin] = [settings.mirror_stall_timeout, settings.origin_stall_timeout]
    if (Duration.isGreaterThan(mirror, origin)) return
    const allowed = `above origin_stall_timeout, which is ${Units.formatTime(origin)}`
    yield breach(["mirror_stall_timeout"], Units.formatTime(mirror), allowed)
  }),

  rule(["store_low_water", "store_high_water"], function* (settings) {
    if (settings.store_low_water < settings.store_high_water) return
    const allowed = `below store_high_water, which is ${Units.formatShare(settings.store_high_water)}`
    yield breach(["store_low_water"], Units.formatShare(settings.store_low_water), allowed)
  }),

  rule(["origin_failure_cooldown_initial", "origin_failure_cooldown_max"], function* (settings) {
    const [initial, max] = [settings.origin_failure_cooldown_initial, settings.origin_failure_cooldown_max]
    if (Duration.isLessThanOrEqualTo(initial, max)) return
    const allowed = `at most origin_failure_cooldown_max, which is ${Units.formatTime(max)}`
    yield breach(["origin_failure_cooldown_initial"], Units.formatTime(initial), allowed)
  }),

  rule(["upstream_registries", "wildcard_registries"], function* (settings) {
    if (settings.upstream_registries.length > 0 || settings.wildcard_registries) return
    yield { path: ["upstream_registries"], problem: "none, must name a registry unless wildcard_registries is true" }
  }),

  rule(["upstream_registries"], function* ({ upstream_registries }) {
    const names = upstream_registries.flatMap((upstream, index) =>
      namesOf(upstream).map(([field, name]) => [name, [index, field]] as const)
    )
    for (const [name, where] of repeated(names)) {
      yield { path: ["upstream_registries", ...where], problem: `${name} is given twice, must be given once` }
    }
    for (const [index, upstream] of upstream_registries.entries()) {
      if (isUnsafe(upstream)) {
        const allowed = "https unless it is on loopback or plain_http is true"
        yield breach(["upstream_registries", index, "endpoint"], upstream.endpoint, allowed)
      }
      if (Option.isSome(upstream.client_key_path) && Option.isNone(upstream.client_cert_path)) {
        yield { path: ["upstream_registries", index], problem: "client_key_path must be given with client_cert_path" }
      }
    }
  }),

  rule(["default_registry", "upstream_registries", "wildcard_registries"], function* (settings) {
    if (Option.isNone(settings.default_registry) || settings.wildcard_registries) return
    const names = settings.upstream_registries.flatMap(namesOf).map(([, name]) => name)
    const registry = settings.default_registry.value
    if (!names.includes(registry)) {
      yield breach(["default_registry"], registry, `one of upstream_registries: ${names.join(", ") || "none is given"}`)
    }
  }),

  rule(["hrw_topology_scope", "zone"], function* (settings) {
    if (settings.hrw_topology_scope === "cluster" || Option.isSome(settings.zone)) return
    yield breach(["hrw_topology_scope"], "zone", "cluster unless zone says where this node is")
  }),

  rule(["members_source", "members_file", "members_dns", "members_static"], function* (settings) {
    const given = new Set(sourcesOf(settings))
    const source = settings.members_source
    if (source !== "auto" && !given.has(source)) {
      yield { path: ["members_source"], problem: `${source} needs members_${source}, which is not set` }
    }
    if (source === "auto" && given.size > 1) {
      const keys = [...given].map((source) => `members_${source}`).join(" and ")
      yield { path: ["members_source"], problem: `auto, must be one of ${[...given].join(", ")} where ${keys} are set` }
    }
  }),

  rule(["members_static"], function* ({ members_static }) {
    const addresses = members_static.map(
      ({ transfer_addr }, index) => [Host.formatHostPort(transfer_addr), index] as const
    )
    for (const [address, index] of repeated(addresses)) {
      yield {
        path: ["members_static", index, "transfer_addr"],
        problem: `${address} is given twice, must be given once`
      }
    }
    for (const [index, entry] of members_static.entries()) {
      if (MemberEntry.peerIdsOf(entry).size > 1) {
        yield { path: ["members_static", index], problem: "peer_id and p2p_addrs must name one peer" }
      }
    }
  })
]

/** The sources of members whose keys are set. */
export const sourcesOf = (
  settings: Pick<Settings, "members_file" | "members_dns" | "members_static">
): ReadonlyArray<(typeof sources)[number]> => {
  const isSet = {
    file: Option.isSome(settings.members_file),
    dns: Option.isSome(settings.members_dns),
    static: settings.members_static.length > 0
  }
  return sources.filter((source) => isSet[source])
}
