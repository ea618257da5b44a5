/**
 * A Gantry node: every service of this repository, put together. Where its
 * blobs are and who the members are is what it is told.
 *
 * `layer` is a whole node. Its two halves are there for programs that learn who
 * the members are only once peers can reach them.
 */
import * as NodeChildProcessSpawner from "@effect/platform-node/NodeChildProcessSpawner"
import { ColdStart } from "@gantry/coldstart"
import {
  Coord,
  type CoordClient,
  type CoordConfig,
  type CoordServer,
  type Inflight,
  Members,
  type Metrics,
  NegativeCache,
  type PullLog,
  type Pump,
  type SettingError,
  type Store,
  type StreamTransport
} from "@gantry/coord"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import {
  BlobEndpoint,
  type BlobStore,
  Credentials,
  OriginPump,
  PeerTransfer,
  RegistryClient,
  RegistryHttp,
  type RegistryHttpError
} from "@gantry/oci"
import type { Member } from "@gantry/protocol"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"

/** What makes a node reachable. */
export interface PeerOptions {
  /** Where its libp2p key is; created if it does not exist. */
  readonly identityFile: string
  /** Multiaddrs on which peers reach it. */
  readonly listen: ReadonlyArray<string>
  /** The other settings of its libp2p host. */
  readonly host?: Omit<Host.Options, "listen"> | undefined
  /** Where it hands out blobs. */
  readonly endpoint?: BlobEndpoint.Options | undefined
}

/** How a node finds and pulls what it lacks. */
export interface CoordinationOptions {
  /** A docker `config.json`; by default that of the user. */
  readonly dockerConfig?: string | undefined
  /** The programs that it may name. */
  readonly credentials?: Credentials.Options | undefined
  readonly registries?: RegistryClient.Options | undefined
  readonly pump?: OriginPump.Options | undefined
  readonly transfer?: PeerTransfer.Options | undefined
  readonly coord?: CoordConfig.Options | undefined
  readonly coldStart?: ColdStart.Options | undefined
  /** In place of `Metrics.layer`. */
  readonly metrics?: Layer.Layer<Metrics.Metrics> | undefined
  /** Settings of the cooldowns after failures. */
  readonly negativeCache?: NegativeCache.Options | undefined
}

/** What differs from node to node. */
export interface Options extends PeerOptions, CoordinationOptions {}

/** What peers reach of a node. */
export type Peers = BlobEndpoint.BlobEndpoint | Host.Host | StreamTransport.StreamTransport

/** What a node does about the blobs that it lacks, and for peers that lack some. */
export type Coordination =
  | ColdStart.ColdStart
  | CoordClient.CoordClient
  | CoordServer.CoordServer
  | Inflight.Inflight
  | NegativeCache.NegativeCache
  | PullLog.PullLog
  | Pump.Pump

/** What a node offers to the program that runs it. */
export type Node = Peers | Coordination

/** Why peers cannot reach a node. */
export type PeersError =
  | BlobEndpoint.BlobEndpointError
  | Host.HostError
  | Identity.IdentityError
  | SettingError.SettingError

/** Why a node does not start. */
export type NodeError =
  | PeersError
  | Config.ConfigError
  | Credentials.CredentialsError
  | RegistryHttpError.RegistryHttpError
  | SettingError.SettingError

type Platform = FileSystem.FileSystem | Path.Path

/** A node's identity, its libp2p host and its endpoint for blobs; they listen from when the layer is built. */
export const layerPeers = (options: PeerOptions): Layer.Layer<Peers, PeersError, BlobStore.BlobStore | Platform> => {
  const libp2p = Libp2pTransport.layer.pipe(
    Layer.provideMerge(Host.layer({ ...options.host, listen: options.listen })),
    Layer.provide(Identity.layer(options.identityFile))
  )
  return Layer.mergeAll(libp2p, BlobEndpoint.layer(options.endpoint))
}

/** The way to the registries: as whom, through which proxies, and trusting whom. */
export const layerRegistries = (
  options: Pick<CoordinationOptions, "dockerConfig" | "credentials" | "registries">
): Layer.Layer<
  RegistryClient.RegistryClient,
  Config.ConfigError | Credentials.CredentialsError | RegistryHttpError.RegistryHttpError | SettingError.SettingError,
  Platform
> =>
  RegistryClient.layer(options.registries).pipe(
    Layer.provide([
      options.dockerConfig === undefined
        ? Credentials.layer(options.credentials)
        : Credentials.layerFile(options.dockerConfig, options.credentials),
      RegistryHttp.layer(options.registries)
    ]),
    Layer.provide(NodeChildProcessSpawner.layer)
  )

/** Answers peers, asks them, and pulls, by the registries that it is given. */
export const layerCoordination = (
  options: Omit<CoordinationOptions, "dockerConfig" | "credentials" | "registries"> = {}
): Layer.Layer<
  Coordination,
  SettingError.SettingError,
  BlobStore.BlobStore | Members.Members | RegistryClient.RegistryClient | Store.Store | StreamTransport.StreamTransport
> =>
  ColdStart.layer(options.coldStart).pipe(
    Layer.provideMerge(
      Coord.layer({
        pump: OriginPump.layer(options.pump),
        config: options.coord,
        metrics: options.metrics,
        negativeCache: NegativeCache.layer(options.negativeCache)
      })
    ),
    Layer.provide(PeerTransfer.layer(options.transfer))
  )

/** Runs a node; the scope ends it. */
export const layer = (
  options: Options
): Layer.Layer<Node, NodeError, BlobStore.BlobStore | Members.Members | Platform | Store.Store> =>
  layerCoordination(options).pipe(Layer.provide(layerRegistries(options)), Layer.provideMerge(layerPeers(options)))

/** This node, as others should list it. */
export const self: Effect.Effect<Member, never, BlobEndpoint.BlobEndpoint | Host.Host | Members.Members> = Effect.gen(
  function* () {
    const members = yield* Members.Members
    const endpoint = yield* BlobEndpoint.BlobEndpoint
    return yield* Host.member({ nodeId: members.self, contentAddress: endpoint.address })
  }
)
