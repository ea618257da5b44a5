import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Configuration from "../../src/config/Configuration.ts"
import { minimal, sourcesOf, writeConfig } from "./support.ts"

/** The problems of a file, without its path: `<line> <key>: <problem>`. */
const problemsOf = Effect.fnUntraced(function* (text: string) {
  const path = yield* writeConfig(text)
  const error = yield* Effect.flip(Configuration.load(sourcesOf(path)))
  return error.message.split("\n").map((line) => {
    assert.isTrue(line.startsWith(path), `${line} names the file`)
    return line.slice(path.length).replace(/^:/, "")
  })
})

const address = "<address>:<port>, for example 127.0.0.1:5000"

/** A file, and what is wrong with it. Each has the shortest valid configuration in its first line, unless it says otherwise. */
const files: ReadonlyArray<readonly [name: string, text: string, ...problems: ReadonlyArray<string>]> = [
  [
    "a deadline that outlasts containerd",
    "mirror_header_deadline: 45s",
    "2 mirror_header_deadline: 45s, must be below 30s"
  ],
  ["a deadline of nothing", "mirror_manifest_deadline: 0", "2 mirror_manifest_deadline: 0, must be above 0"],
  [
    "a misspelt key",
    "mirror_header_dedline: 5s",
    "2 mirror_header_dedline: unknown key, did you mean mirror_header_deadline?"
  ],
  ["a key with dashes", "mirror-listen: 127.0.0.1:1", "2 mirror-listen: unknown key, did you mean mirror_listen?"],
  ["a key like no other", "kubernetes: true", "2 kubernetes: unknown key"],
  ["a duration without a unit", "tags_ttl: 30", "2 tags_ttl: 30, must be a duration such as 90s"],
  ["a duration in words", "tags_ttl: half an hour", "2 tags_ttl: half an hour, must be a duration such as 90s"],
  ["a negative duration", "drain_timeout: -5s", "2 drain_timeout: -5s, must be a duration such as 90s"],
  [
    "a rate without its second",
    "limit_up: 200MB",
    "2 limit_up: 200MB, must be a rate such as 200MB/s, or 0 for no limit"
  ],
  [
    "a size of an unknown unit",
    "store_max_bytes: 5 bushels",
    "2 store_max_bytes: 5 bushels, must be a size such as 64GiB, a share such as 20%, or 0 for no limit"
  ],
  ["a share above the whole", "store_high_water: 120%", "2 store_high_water: 120%, must be a share from 0% to 100%"],
  ["a share without its sign", "store_low_water: 0.8", "2 store_low_water: 0.8, must be a share from 0% to 100%"],
  [
    "water marks that cross",
    "store_high_water: 50%\nstore_low_water: 60%",
    "3 store_low_water: 60%, must be below store_high_water, which is 50%"
  ],
  [
    "a stall that outlasts the one of the mirror, which is the default",
    "origin_stall_timeout: 1m30s",
    "2 mirror_stall_timeout: 45s, must be above origin_stall_timeout, which is 1m30s"
  ],
  ["a port too high", "transfer_listen: 0.0.0.0:65536", `2 transfer_listen: 0.0.0.0:65536, must be ${address}`],
  ["an address without a port", "metrics_listen: 127.0.0.1", `2 metrics_listen: 127.0.0.1, must be ${address}`],
  [
    "a mirror for everybody",
    "mirror_listen: 0.0.0.0:5000",
    "2 mirror_listen: 0.0.0.0:5000, must be a loopback address unless mirror_bind_allow_non_loopback is true"
  ],
  ["a count that is none", "hrw_k: many", "2 hrw_k: many, must be a whole number from 1 to 32"],
  [
    "a count with a fraction",
    "mirror_max_requests: 1.5",
    "2 mirror_max_requests: 1.5, must be a whole number from 1 to 65536"
  ],
  [
    "a count too high",
    "coord_max_digests_per_request: 257",
    "2 coord_max_digests_per_request: 257, must be a whole number from 1 to 256"
  ],
  ["a choice that nobody offers", "log_level: loud", "2 log_level: loud, must be one of debug, info, warn, error"],
  ["a switch that is neither on nor off", "prefetch: maybe", "2 prefetch: maybe, must be true or false"],
  ["a relative path", "data_dir: gantry", "2 data_dir: gantry, must be an absolute path"],
  ["a number for a name", "node_name: 7", "2 node_name: 7, must be a name of at most 253 characters"],
  [
    "a pattern that does not end",
    'image_deny: ["internal/("]',
    "2 image_deny[0]: internal/(, must be a regular expression"
  ],
  ["a list that is none", "tags_immutable: v1", "2 tags_immutable: v1, must be a list"],
  [
    "ranges without a size",
    "origin_parallel_ranges: 4",
    "2 origin_parallel_ranges: 4, must be a number of ranges from 1 to 16 and a size, such as 4 from 256MiB"
  ],
  ["a key given twice", "tags_ttl: 1s\ntags_ttl: 2s", "3 tags_ttl: given twice, must be given once"],
  [
    "a listener of a transport that we do not have",
    "libp2p_listen: [/ip4/0.0.0.0/udp/4001/quic-v1]",
    "2 libp2p_listen[0]: /ip4/0.0.0.0/udp/4001/quic-v1, must be a TCP multiaddr such as /ip4/10.0.0.1/tcp/4001"
  ],
  [
    "two sources of members",
    "members_file: /etc/gantry/members.yaml\nmembers_dns: agents.example.com",
    "2 members_source: auto, must be one of file, dns where members_file and members_dns are set"
  ],
  [
    "a source of members without its key",
    "members_source: dns",
    "2 members_source: dns needs members_dns, which is not set"
  ],
  [
    "a member without an address",
    "members_static:\n  - transfer_addr: 10.0.0.1:5001\n  - node_id: n2",
    "4 members_static[1].transfer_addr: missing, must be given"
  ],
  [
    "a member of two minds about its peer id",
    "members_static:\n  - transfer_addr: 10.0.0.1:5001\n    peer_id: 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X\n    p2p_addrs: [/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3]",
    "3 members_static[0]: peer_id and p2p_addrs must name one peer"
  ],
  [
    "a zone to rank in, and no zone",
    "hrw_topology_scope: zone",
    "2 hrw_topology_scope: zone, must be cluster unless zone says where this node is"
  ],
  [
    "a default registry that is not mirrored",
    "default_registry: ghcr.io",
    "2 default_registry: ghcr.io, must be one of upstream_registries: docker.io"
  ],
  [
    "nothing that is mirrored",
    "!upstream_registries: []",
    "1 upstream_registries: none, must name a registry unless wildcard_registries is true"
  ],
  [
    "a registry without an endpoint",
    "!upstream_registries:\n  - name: docker.io\n    endpont: https://registry-1.docker.io",
    "2 upstream_registries[0].endpoint: missing, must be given",
    "3 upstream_registries[0].endpont: unknown key, did you mean endpoint?"
  ],
  [
    "a registry that is asked in the clear",
    "!upstream_registries:\n  - {name: registry.example.com, endpoint: http://registry.example.com}",
    "2 upstream_registries[0].endpoint: http://registry.example.com, must be https unless it is on loopback or plain_http is true"
  ],
  [
    "an endpoint with a path",
    "!upstream_registries:\n  - {name: docker.io, endpoint: https://registry-1.docker.io/v2}",
    "2 upstream_registries[0].endpoint: https://registry-1.docker.io/v2, must be https://<host>[:<port>], without a path"
  ],
  [
    "a registry given twice",
    "!upstream_registries:\n  - {name: a.example.com, endpoint: https://a.example.com}\n  - {name: b.example.com, endpoint: https://b.example.com, ns_alias: a.example.com}",
    "3 upstream_registries[1].ns_alias: a.example.com is given twice, must be given once"
  ],
  [
    "half a client certificate",
    "!upstream_registries:\n  - {name: a.example.com, endpoint: https://a.example.com, client_key_path: /a.key}",
    "2 upstream_registries[0]: client_key_path must be given with client_cert_path"
  ],
  ["what comes with Kubernetes", "members_label_selector: app=gantry", "2 members_label_selector: unknown key"],
  ["what comes with TLS between peers", "peer_tls: require", "2 peer_tls: unknown key"],
  ["what comes with proof of access", "access: requester", "2 access: unknown key"],
  ["what comes with containerd's store", "storage_mode: containerd", "2 storage_mode: unknown key"],
  ["no mapping", "!- upstream_registries", "1: a list, must be a mapping of settings"],
  [
    "a text that is no YAML",
    "!upstream_registries: [\nprefetch: true",
    "2: Flow sequence in block collection must be sufficiently indented and end with a ]"
  ],
  [
    "everything at once",
    "tags_ttl: soon\nhrw_k: 0\nlog_format: text\nprefetsh: true",
    "2 tags_ttl: soon, must be a duration such as 90s",
    "3 hrw_k: 0, must be a whole number from 1 to 32",
    "4 log_format: text, must be one of json, pretty",
    "5 prefetsh: unknown key, did you mean prefetch?"
  ]
]

describe("a malformed file", () => {
  it.effect.each(files)("with %s is told its line, its key, and what is allowed", ([, text, ...problems]) =>
    Effect.gen(function* () {
      const whole = text.startsWith("!") ? text.slice(1) : `${minimal}${text}\n`
      assert.deepStrictEqual(yield* problemsOf(whole), problems)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
