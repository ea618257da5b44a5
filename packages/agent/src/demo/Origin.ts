/**
 * Where a demo run's image comes from.
 */
import type { SettingError } from "@gantry/coord"
import { architecture, type Image } from "@gantry/node/ImagePull"
import { Credentials, RegistryClient, type RegistryError, RegistryHttp, type RegistryHttpError } from "@gantry/oci"
import { type Digest, type NodeId, type Registry, Repository } from "@gantry/protocol"
import type * as Config from "effect/Config"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import { Base64, Hex } from "effect/encoding"
import * as FileSystem from "effect/FileSystem"
import type * as HttpServerError from "effect/http/HttpServerError"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import type { ChildProcessSpawner } from "effect/process"
import type * as Scope from "effect/Scope"
import * as ImagePacker from "./ImagePacker.ts"
import type { Start } from "./NodeMessage.ts"
import * as OriginRegistry from "./OriginRegistry.ts"
import { formatBytes, type Pull, totalSize } from "./Report.ts"
import { Screen } from "./Screen.ts"
import type { Workspace } from "./Workspace.ts"

/** A registry with the image. */
export interface Origin {
  readonly image: Image
  /** What the image consists of, where that is known before anybody has pulled it. */
  readonly blobs: Option.Option<ReadonlyArray<ImagePacker.PackedBlob>>
  /** By registry, as `host:port`: whether it is asked over `http`, where somebody has said so. */
  readonly upstreams: Start["upstreams"]
  /** The docker `config.json` with a node's credentials; none for that of whoever runs the demo. */
  readonly dockerConfigOf: (nodeId: NodeId) => Option.Option<string>
  /** The pulls from the registry by its own log, where there is one. */
  readonly pulls: Option.Option<Effect.Effect<ReadonlyArray<Pull>>>
  /** Stops the next download of a blob in its middle, where that can be done. */
  readonly hold: Option.Option<(digest: Digest) => Effect.Effect<OriginRegistry.Hold>>
}

const repository = Repository.make("demo/app")
const tag = "v1"

/** Packs an image and serves it. Each node gets an account of its own, so that the registry's log tells who pulled. */
export const embedded = Effect.fn("Origin.embedded")(function* (
  layers: ReadonlyArray<ImagePacker.LayerSource>,
  nodeIds: ReadonlyArray<NodeId>,
  workspace: Workspace
): Effect.fn.Return<
  Origin,
  ImagePacker.PackError | HttpServerError.ServeError | PlatformError,
  FileSystem.FileSystem | Path.Path | Scope.Scope | Screen
> {
  const fs = yield* FileSystem.FileSystem
  const screen = yield* Screen
  yield* screen.print("packing an image from the files of this installation")
  const packed = yield* ImagePacker.pack({ directory: workspace.origin, tag, layers, architecture })
  const accounts = new Map<NodeId, string>()
  for (const nodeId of nodeIds) accounts.set(nodeId, yield* password)
  const server = yield* Layer.build(
    OriginRegistry.layer({ directory: workspace.origin, image: packed, repository, tag, accounts })
  )
  const origin = yield* Effect.provide(OriginRegistry.OriginRegistry, server)

  const dockerConfigOf = (nodeId: NodeId) => workspace.secretOf(nodeId, "docker.json")
  yield* Effect.forEach(accounts, ([account, password]) =>
    fs.writeFileString(
      dockerConfigOf(account),
      JSON.stringify({ auths: { [origin.registry]: { auth: Base64.encode(`${account}:${password}`) } } }),
      { mode: 0o600 }
    )
  )
  const layerCount = packed.blobs.filter(({ kind }) => kind === "layer").length
  yield* screen.print(
    `${origin.registry}/${repository}:${tag} has ${layerCount} layers and ${formatBytes(totalSize(packed.blobs))}, and is served over HTTP`
  )
  return {
    image: { registry: origin.registry, repository, tag, root: packed.root.digest },
    blobs: Option.some(packed.blobs),
    upstreams: {},
    dockerConfigOf: (nodeId) => Option.some(dockerConfigOf(nodeId)),
    pulls: Option.some(Effect.map(origin.log, OriginRegistry.pulls)),
    hold: Option.some(origin.hold)
  }
})

const password = SecureRandom.SecureRandom.use((random) => random.randomBytes(16)).pipe(
  Effect.map(Hex.encode),
  Effect.provide(SecureRandom.layerWebCrypto)
)

/** An image of a registry that is there. */
export interface ExternalImage {
  /** The host that is asked. */
  readonly registry: Registry
  readonly repository: Repository
  readonly tag: RegistryClient.Tag
  /** Whether it is asked over `http`; if not given, it is on loopback. */
  readonly plainHttp: boolean | undefined
}

/** Asks the registry once what the tag names, so that all nodes pull the same. */
export const external = Effect.fn("Origin.external")(function* ({
  plainHttp,
  registry,
  repository,
  tag
}: ExternalImage): Effect.fn.Return<
  Origin,
  | RegistryError.RegistryError
  | RegistryHttpError.RegistryHttpError
  | Credentials.CredentialsError
  | SettingError.SettingError
  | Config.ConfigError,
  ChildProcessSpawner.ChildProcessSpawner | FileSystem.FileSystem | Path.Path | Screen
> {
  const screen = yield* Screen
  const upstreams: Start["upstreams"] = plainHttp === undefined ? {} : { [registry]: { plainHttp } }
  const client = RegistryClient.layer({ upstreams }).pipe(
    Layer.provide([RegistryHttp.layer({ upstreams }), Credentials.layer({ helpers: "any" })])
  )
  const root = yield* RegistryClient.RegistryClient.use((registries) =>
    registries.resolve(registry, repository, tag)
  ).pipe(Effect.provide(client))
  yield* screen.print(`${registry}/${repository}:${tag} is ${root}`)
  return {
    image: { registry, repository, tag, root },
    blobs: Option.none(),
    upstreams,
    dockerConfigOf: () => Option.none(),
    pulls: Option.none(),
    hold: Option.none()
  }
})
