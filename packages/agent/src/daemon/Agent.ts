/**
 * The agent: a node, the mirror that container runtimes pull through, and what
 * watches over both (agent, section 1).
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import type { ColdStart } from "@gantry/coldstart"
import { Host } from "@gantry/libp2p"
import { Node } from "@gantry/node"
import { BlobEndpoint, BlobStore, Fills, ImageLayout } from "@gantry/oci"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as HostName from "effect/net/Host"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import { LiveSettings } from "../config/LiveSettings.ts"
import type { Settings } from "../config/Settings.ts"
import * as ConfiguredSource from "../members/ConfiguredSource.ts"
import * as Membership from "../members/Membership.ts"
import * as SelfDocument from "../members/SelfDocument.ts"
import * as BlobSource from "../mirror/BlobSource.ts"
import * as Descriptors from "../mirror/Descriptors.ts"
import type * as Mirror from "../mirror/Mirror.ts"
import * as MirrorServer from "../mirror/MirrorServer.ts"
import * as TagCache from "../mirror/TagCache.ts"
import * as Health from "./Health.ts"
import type { ListenError } from "./ListenError.ts"
import * as Obtain from "./Obtain.ts"
import * as Prefetch from "./Prefetch.ts"
import * as Readiness from "./Readiness.ts"
import * as TagSources from "./TagSources.ts"
import * as Upstreams from "./Upstreams.ts"

/** Why an agent does not start. */
export type AgentError = ImageLayout.ImageLayoutError | ListenError | Node.NodeError | PlatformError

const addressOf = (address: HostName.HostPort) => ({
  host: HostName.formatHost(address.host),
  port: address.port
})

/** Where the parts of an agent keep what survives it. */
const directories = Effect.fnUntraced(function* ({ data_dir, libp2p_identity_path }: Settings) {
  const path = yield* Path.Path
  return {
    store: path.join(data_dir, "store"),
    tags: path.join(data_dir, "tags"),
    identity: path.resolve(data_dir, libp2p_identity_path)
  }
})

/** What this agent says of itself, once peers can reach it. */
const introduce = Effect.fnUntraced(function* ({ node_name, zone }: Settings) {
  const host = yield* Host.Host
  const endpoint = yield* BlobEndpoint.BlobEndpoint
  return new SelfDocument.SelfDocument({
    node_id: node_name,
    peer_id: host.peerId,
    p2p_addrs: host.multiaddrs,
    transfer_addr: endpoint.address,
    ...(Option.isSome(zone) ? { zone: zone.value } : {})
  })
})

const matches = (patterns: ReadonlyArray<RegExp>, text: string) => patterns.some((pattern) => pattern.test(text))

/** What the mirror serves, and how; the settings that may change are read for each request. */
const surroundings = Effect.fnUntraced(function* (settings: Settings) {
  const live = yield* LiveSettings
  const readiness = yield* Readiness.Readiness
  const blobs = yield* BlobSource.BlobSource
  const manifest = yield* Obtain.manifests
  const policy = Effect.map(
    live.current,
    (now): TagCache.Policy => ({
      ttl: ({ registry }) =>
        Option.getOrElse(
          Option.flatMap(
            Option.fromUndefinedOr(now.upstream_registries.find(({ name }) => name === registry)),
            ({ tags_ttl }) => tags_ttl
          ),
          () => now.tags_ttl
        ),
      staleIfError: now.tags_stale_if_error,
      isImmutable: (ref) => matches(now.tags_immutable, TagCache.nameOf(ref)),
      isPassed: (ref) => matches(now.tags_pass, TagCache.nameOf(ref))
    })
  )
  const tags = yield* TagCache.make(yield* TagSources.make(manifest), policy)
  return {
    registries: Effect.succeed(Upstreams.registries(settings)),
    isAllowed: ({ registry, repository }) =>
      Effect.map(live.current, ({ image_allow, image_deny }) => {
        const name = `${registry}/${repository}`
        return (image_allow.length === 0 || matches(image_allow, name)) && !matches(image_deny, name)
      }),
    blobs,
    tags,
    manifest,
    served: yield* Prefetch.make,
    descriptors: Descriptors.make(),
    ready: readiness.ready
  } satisfies Mirror.Surroundings
})

/** Becomes ready once the membership is known, and drains before anything else ends. */
const life = Effect.fnUntraced(function* ({ drain_timeout }: Settings, self: SelfDocument.SelfDocument) {
  const readiness = yield* Readiness.Readiness
  const membership = yield* Membership.Membership
  const mirror = yield* MirrorServer.MirrorServer
  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      readiness.become("draining"),
      Effect.logInfo(`draining, for at most ${Duration.format(drain_timeout)}`)
    )
  )
  yield* membership.ready
  yield* readiness.become("ready")
  yield* Effect.logInfo(`ready: ${self.node_id} mirrors at ${mirror.address}, peers reach it at ${self.transfer_addr}`)
})

const assemble = Effect.fnUntraced(function* (settings: Settings) {
  const paths = yield* directories(settings)
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(paths.store, { recursive: true })
  const self = yield* Deferred.make<SelfDocument.SelfDocument>()

  const store = Fills.layer.pipe(Layer.provide(ImageLayout.layer({ directory: paths.store })), (blobs) =>
    Layer.provideMerge(BlobStore.layerStore, blobs)
  )
  const peers = Node.layerPeers({
    identityFile: paths.identity,
    listen: settings.libp2p_listen,
    endpoint: {
      ...addressOf(settings.transfer_listen),
      maxConcurrent: Option.getOrElse(settings.transfer_max_concurrent_serves, () => Number.MAX_SAFE_INTEGER),
      maxConcurrentPerPeer: Option.getOrElse(settings.transfer_max_per_peer, () => Number.MAX_SAFE_INTEGER),
      documents: new Map([[SelfDocument.path, Effect.map(Deferred.await(self), SelfDocument.encode)]]),
      shutdownGrace: settings.drain_timeout
    }
  })
  const members = Layer.unwrap(
    Effect.gen(function* () {
      const document = yield* introduce(settings)
      yield* Deferred.succeed(self, document)
      return Membership.layer({
        source: ConfiguredSource.make(settings, document),
        self: document,
        syncTimeout: settings.members_sync_timeout
      })
    })
  ).pipe(Layer.provide(NodeHttpClient.layerNodeHttp))
  const coordination = Node.layerCoordination({
    pump: {
      registries: Upstreams.allowed(settings),
      maxConcurrentPulls: settings.coord_max_concurrent_pulls,
      stallTimeout: settings.origin_stall_timeout,
      shutdownGrace: settings.drain_timeout
    },
    transfer: { connectTimeout: settings.peer_connect_timeout, stallTimeout: settings.peer_stall_timeout },
    coord: {
      peerAuthorization: settings.coord_peer_authz_enforce ? "enforce" : "observe",
      maxDigestsPerPleasePull: settings.coord_max_digests_per_request,
      clientMaxDigestsPerPleasePull: settings.coord_max_digests_per_request
    },
    coldStart: {
      ranks: settings.hrw_k,
      scope: settings.hrw_topology_scope,
      cooldownCap: settings.origin_failure_honor_window_cap
    },
    negativeCache: {
      initial: settings.origin_failure_cooldown_initial,
      cap: settings.origin_failure_cooldown_max,
      multiplier: settings.origin_failure_cooldown_multiplier
    }
  })
  const blobs = BlobSource.layer({ stallTimeout: settings.mirror_stall_timeout }).pipe(
    Layer.provide(Obtain.layerObtaining)
  )
  const mirror = MirrorServer.layer(surroundings(settings), {
    setting: "mirror_listen",
    ...addressOf(settings.mirror_listen),
    headerDeadline: settings.mirror_header_deadline,
    manifestDeadline: settings.mirror_manifest_deadline,
    stallTimeout: settings.mirror_stall_timeout,
    maxRequests: settings.mirror_max_requests,
    drainTimeout: settings.drain_timeout
  }).pipe(Layer.provide([KeyValueStore.layerFileSystem(paths.tags), CircuitBreaker.layerStoreMemory()]))

  return Layer.effectDiscard(Effect.flatMap(Deferred.await(self), (document) => life(settings, document))).pipe(
    Layer.provideMerge(mirror),
    Layer.provideMerge(blobs),
    Layer.provideMerge(coordination),
    Layer.provideMerge(members),
    Layer.provideMerge(peers),
    Layer.provideMerge(Upstreams.layer(settings)),
    Layer.provideMerge(store),
    Layer.provideMerge(Health.layer(addressOf(settings.metrics_listen))),
    Layer.provideMerge(Readiness.layer)
  )
})

/** What a running agent offers to its commands. */
export type Agent =
  | BlobStore.BlobStore
  | ColdStart.ColdStart
  | Fills.Fills
  | Membership.Membership
  | MirrorServer.MirrorServer
  | Node.Node
  | Readiness.Readiness

/** Runs an agent; the scope ends it. */
export const layer: Layer.Layer<Agent, AgentError, FileSystem.FileSystem | LiveSettings | Path.Path> = Layer.unwrap(
  Effect.flatMap(
    Effect.flatMap(LiveSettings, (live) => live.current),
    assemble
  )
)
