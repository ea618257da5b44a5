/**
 * A Gantry node: every service of this repository, put together. Where its
 * blobs are and who the members are is what it is told.
 */
import * as NodeChildProcessSpawner from "@effect/platform-node/NodeChildProcessSpawner"
import { ColdStart } from "@gantry/coldstart"
import {
  Coord,
  type CoordClient,
  type CoordConfig,
  type CoordServer,
  Members,
  type PullLog,
  type SettingError,
  type Store
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
import { Member } from "@gantry/protocol"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"

/** What differs from node to node. */
export interface Options {
  /** Where its libp2p key is; created if it does not exist. */
  readonly identityFile: string
  /** Multiaddrs on which peers reach it. */
  readonly listen: ReadonlyArray<string>
  /** Where it hands out blobs. */
  readonly endpoint?: BlobEndpoint.Options | undefined
  /** A docker `config.json`; by default that of the user. */
  readonly dockerConfig?: string | undefined
  /** The programs that it may name. */
  readonly credentials?: Credentials.Options | undefined
  readonly registries?: RegistryClient.Options | undefined
  readonly pump?: OriginPump.Options | undefined
  readonly transfer?: PeerTransfer.Options | undefined
  readonly coord?: CoordConfig.Options | undefined
  readonly coldStart?: ColdStart.Options | undefined
}

/** What a node offers to the program that runs it. */
export type Node =
  | BlobEndpoint.BlobEndpoint
  | ColdStart.ColdStart
  | CoordClient.CoordClient
  | CoordServer.CoordServer
  | Host.Host
  | PullLog.PullLog

/** Why a node does not start. */
export type NodeError =
  | BlobEndpoint.BlobEndpointError
  | Config.ConfigError
  | Credentials.CredentialsError
  | Host.HostError
  | Identity.IdentityError
  | RegistryHttpError.RegistryHttpError
  | SettingError.SettingError

/** Runs a node; the scope ends it. */
export const layer = (
  options: Options
): Layer.Layer<
  Node,
  NodeError,
  BlobStore.BlobStore | FileSystem.FileSystem | Members.Members | Path.Path | Store.Store
> => {
  const credentials =
    options.dockerConfig === undefined
      ? Credentials.layer(options.credentials)
      : Credentials.layerFile(options.dockerConfig, options.credentials)
  const libp2p = Libp2pTransport.layer.pipe(
    Layer.provideMerge(Host.layer({ listen: options.listen })),
    Layer.provide(Identity.layer(options.identityFile))
  )
  const peers = Layer.mergeAll(BlobEndpoint.layer(options.endpoint), PeerTransfer.layer(options.transfer))
  const pump = OriginPump.layer(options.pump).pipe(
    Layer.provide(RegistryClient.layer(options.registries)),
    Layer.provide([credentials, RegistryHttp.layer(options.registries)]),
    Layer.provide(NodeChildProcessSpawner.layer)
  )
  return ColdStart.layer(options.coldStart).pipe(
    Layer.provideMerge(Coord.layer({ pump, config: options.coord })),
    Layer.provideMerge(Layer.mergeAll(libp2p, peers))
  )
}

/** This node, as others should list it. */
export const self: Effect.Effect<Member, never, BlobEndpoint.BlobEndpoint | Host.Host | Members.Members> = Effect.gen(
  function* () {
    const members = yield* Members.Members
    const host = yield* Host.Host
    const endpoint = yield* BlobEndpoint.BlobEndpoint
    return new Member({
      nodeId: members.self,
      peerId: Option.some(host.peerId),
      addresses: host.multiaddrs,
      contentAddress: Option.some(endpoint.address),
      zone: Option.none()
    })
  }
)
