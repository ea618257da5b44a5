/**
 * Every setting of the agent: its form, its default, its reason, and whether a
 * reload applies it (agent, section 2). What reads the configuration, prints
 * it, and describes it as JSON Schema or as flags does so from here.
 */
import { hostname } from "node:os"
import { maxDigestsPerPleasePull, Registry } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import { MemberEntry, ShortNodeId, Zone } from "../members/MemberEntry.ts"
import { TcpAddress } from "../members/TcpAddress.ts"
import * as Units from "./Units.ts"
import { AbsolutePath, Upstream } from "./Upstream.ts"

/** What a setting is for, and when it may change. */
export interface Facts {
  readonly reason: string
  /** Whether a reload applies it; else it waits for the next start. */
  readonly reloadable: boolean
  /** What it is where nobody says otherwise, as one would write it; absent if it is not set then, or derived. */
  readonly byDefault?: unknown
}

declare module "effect/Schema" {
  namespace Annotations {
    interface Key<T> {
      readonly gantry?: Facts | undefined
    }
  }
}

const described = <S extends Schema.Top>(schema: S, facts: Facts) => schema.pipe(Schema.annotateKey({ gantry: facts }))

/** A setting with a default. */
const setting = <S extends Schema.Top>(schema: S, reason: string, byDefault: S["Encoded"], reloadable = false) =>
  described(schema.pipe(Schema.withDecodingDefaultKey(Effect.succeed(byDefault))), { reason, reloadable, byDefault })

const reloadable = true

/** A setting whose default this machine tells. */
const local = <S extends Schema.Top>(schema: S, reason: string, byDefault: Effect.Effect<S["Encoded"]>) =>
  described(schema.pipe(Schema.withDecodingDefaultKey(byDefault)), { reason, reloadable: false })

/** A setting that may be left out. */
const optional = <S extends Schema.Top>(schema: S, reason: string, reloadable = false) =>
  described(Schema.OptionFromOptionalKey(schema), { reason, reloadable })

const Pattern = Schema.String.annotate({ expected: "a regular expression" }).pipe(
  Schema.decodeTo(Schema.instanceOf(RegExp), {
    decode: SchemaGetter.transformEffect((source) =>
      Effect.try({
        try: () => new RegExp(source, "u"),
        catch: () => new SchemaIssue.InvalidValue({ expected: "a regular expression" })
      })
    ),
    encode: SchemaGetter.transform(({ source }) => source)
  })
)

const Patterns = Schema.Array(Pattern)

const isUrl = (text: string): boolean => /^https?:$/.test(URL.parse(text)?.protocol ?? "")

const Url = Schema.String.check(Schema.makeFilter(isUrl, { expected: "an http or https URL" }))

const count = (minimum: number, maximum: number) => {
  const expected = `a whole number from ${minimum} to ${maximum}`
  const between = Schema.isBetween({ minimum, maximum }, { expected })
  return Schema.Number.annotate({ expected }).check(Schema.isInt({ expected }), between)
}

const choice = <const Choices extends ReadonlyArray<string>>(...choices: Choices) =>
  Schema.Literals(choices).annotate({ expected: `one of ${choices.join(", ")}` })

/** Linux keeps the path of a socket in 108 bytes. */
const SocketPath = AbsolutePath.check(Schema.isMaxLength(107, { expected: "a path of at most 107 characters" }))

/** A name to ask the DNS for; with a leading underscore for SRV records. */
const DnsName = Schema.String.check(
  Schema.isPattern(/^(?=.{1,253}$)_?[a-zA-Z0-9-]{1,62}(\._?[a-zA-Z0-9-]{1,62})*\.?$/u, {
    expected: "a DNS name such as agents.example.com or _gantry._tcp.example.com"
  })
)

const Ratio = Schema.Number.annotate({ expected: "a number from 0 to 1" }).check(
  Schema.isFinite(),
  Schema.isBetween({ minimum: 0, maximum: 1 }, { expected: "a number from 0 to 1" })
)

/** containerd gives up on a mirror after so long without headers. */
const containerdPatience = Duration.seconds(30)

const Deadline = Units.SomeTime.check(
  Schema.makeFilter((time: Duration.Duration) => Duration.isLessThan(time, containerdPatience), {
    expected: `below ${Units.formatTime(containerdPatience)}`
  })
)

/** The settings, by their names in the file. `GANTRY_A_B` and `--a-b` set `a_b`, unless it is a list. */
export const Settings = Schema.Struct({
  node_name: local(ShortNodeId, "ranks this node; the host name where it is left out", Effect.sync(hostname)),
  zone: optional(Zone, "peers of the same zone are asked first"),
  data_dir: setting(AbsolutePath, "store, tags and pins", "/var/lib/gantry"),
  drain_timeout: setting(Units.Time, "what running streams get when the agent is stopped", "25s"),

  mirror_listen: setting(Units.Address, "where containerd pulls; it is local", "127.0.0.1:5000"),
  mirror_bind_allow_non_loopback: setting(Schema.Boolean, "an open mirror hands out private images", false),
  mirror_header_deadline: setting(Deadline, "containerd gives up at 30 s", "20s"),
  mirror_manifest_deadline: setting(Deadline, "manifests are small, and everything waits for them", "10s"),
  mirror_stall_timeout: setting(
    Units.SomeTime,
    "above one source's stall, below the progress limit of a minute that some set",
    "45s"
  ),
  mirror_max_requests: setting(count(1, 65_536), "bounds memory; more get 503", 2048),

  upstream_registries: setting(Schema.Array(Upstream), "the registries that are mirrored", []),
  wildcard_registries: setting(Schema.Boolean, "mirrors every public registry", false),
  default_registry: optional(Registry, "for clients that name none; the only upstream where it is left out"),
  image_allow: setting(
    Patterns,
    "the images that are mirrored, as <registry>/<repository>; all if empty",
    [],
    reloadable
  ),
  image_deny: setting(Patterns, "the images that are not", [], reloadable),

  tags_ttl: setting(Units.Time, "one question to the registry for each tag in this time", "30s", reloadable),
  tags_stale_if_error: setting(Units.Time, "how long tags survive the registry", "24h", reloadable),
  tags_immutable: setting(Patterns, "tags that are never asked for again", [], reloadable),
  tags_pass: setting(Patterns, "tags that are never answered from here", [], reloadable),

  transfer_listen: setting(Units.Address, "where peers fetch blobs", "0.0.0.0:5001"),
  transfer_max_concurrent_serves: setting(
    Units.CountLimit,
    "beyond it peers are told that we are busy",
    10,
    reloadable
  ),
  transfer_max_per_peer: setting(Units.CountLimit, "keeps peers fair to each other", 2, reloadable),
  peer_connect_timeout: setting(Units.SomeTime, "a dead peer costs no more than this", "1s"),
  peer_stall_timeout: setting(Units.SomeTime, "then the next holder is asked", "10s"),

  libp2p_listen: setting(Schema.NonEmptyArray(TcpAddress), "where peers coordinate", [
    "/ip4/0.0.0.0/tcp/4001",
    "/ip6/::/tcp/4001"
  ]),
  libp2p_identity_path: setting(Schema.NonEmptyString, "keeps the peer id; from data_dir on", "libp2p/identity.key"),
  coord_peer_authz_enforce: setting(Schema.Boolean, "refuses peers that are no members", false),
  coord_max_digests_per_request: setting(
    count(1, maxDigestsPerPleasePull),
    "bounds one request",
    maxDigestsPerPleasePull
  ),
  coord_max_concurrent_pulls: setting(count(1, 1024), "spares the registry", 16, reloadable),
  hrw_k: setting(count(1, 32), "how many nodes may pull a digest; all agents must agree", 3),
  hrw_topology_scope: setting(
    choice("cluster", "zone"),
    "one pull from the registry for all, or for each zone; all agents must agree",
    "cluster"
  ),

  members_source: setting(
    choice("auto", "file", "dns", "static"),
    "where the members come from; auto takes the one whose key is set",
    "auto"
  ),
  members_file: optional(AbsolutePath, "a list of members, watched"),
  members_dns: optional(DnsName, "a name with the addresses of all agents, or their SRV records"),
  members_static: setting(Schema.Array(MemberEntry), "the members themselves", []),
  members_sync_timeout: setting(Units.Time, "then the agent goes on alone until it knows the members", "10s"),

  store_max_bytes: setting(
    Units.SpaceLimit,
    "counts our own bytes; a share is one of the file system",
    "20%",
    reloadable
  ),
  store_high_water: setting(Units.Share, "of store_max_bytes; from here on blobs are evicted", "90%", reloadable),
  store_low_water: setting(Units.Share, "of store_max_bytes; down to here", "80%", reloadable),
  store_min_free: setting(Units.SpaceLimit, "kubelet deletes images from 85% used", "20%", reloadable),
  store_min_age: setting(Units.Time, "younger blobs stay, which spares a rollout", "10m", reloadable),

  origin_connect_timeout: setting(Units.SomeTime, "a registry out of reach costs no more than this", "3s"),
  origin_stall_timeout: setting(Units.SomeTime, "progress counts, not the total", "30s"),
  origin_parallel_ranges: setting(
    Units.ParallelRanges,
    "one flow from object storage gives some 74 MB/s",
    "4 from 256MiB",
    reloadable
  ),
  origin_failure_cooldown_initial: setting(Units.SomeTime, "the first rest after a failed pull", "10s"),
  origin_failure_cooldown_max: setting(Units.SomeTime, "the longest", "10m"),
  origin_failure_cooldown_multiplier: setting(count(1, 100), "from one to the next", 3),
  origin_failure_honor_window_cap: setting(
    Units.Time,
    "how long the passing failures of others are taken for our own",
    "30s"
  ),

  limit_up: setting(Units.Rate, "to peers; the workload's network comes first", 0, reloadable),
  limit_down: setting(Units.Rate, "from peers", 0, reloadable),
  limit_origin: setting(Units.Rate, "from registries", 0, reloadable),
  limit_prefetch: setting(Units.Rate, "for what nobody has asked for yet", 0, reloadable),
  prefetch: setting(Schema.Boolean, "fetches the children of a manifest that is served", true, reloadable),

  metrics_listen: setting(Units.Address, "metrics and health", "0.0.0.0:9095"),
  admin_socket: setting(
    SocketPath,
    "what the commands talk to; a file of mode 0600, no port",
    "/run/gantry/admin.sock"
  ),
  log_level: setting(choice("debug", "info", "warn", "error"), "the least that is logged", "info", reloadable),
  log_format: setting(choice("json", "pretty"), "for machines or for people", "json", reloadable),
  trace_endpoint: optional(Url, "where traces go, by OTLP over HTTP", reloadable),
  trace_ratio: setting(Ratio, "the share of requests that are traced", 0.01, reloadable)
})
export type Settings = typeof Settings.Type

/** The name of a setting. */
export type Key = keyof Settings

/** All names, in the order of the page. */
export const keys = Object.keys(Settings.fields) as ReadonlyArray<Key>

/** What is known about a setting. */
export const factsOf = (key: Key): Facts =>
  Schema.resolveAnnotationsKey(Settings.fields[key])?.gantry ?? { reason: "", reloadable: false }
