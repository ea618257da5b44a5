/**
 * The OCI side of Gantry.
 */
export * as BlobEndpoint from "./BlobEndpoint.ts"
export * as BlobStore from "./BlobStore.ts"
export * as Credentials from "./Credentials.ts"
export * as Fills from "./Fills.ts"
export * as HttpRange from "./HttpRange.ts"
export * as HttpSend from "./HttpSend.ts"
export * as ImageLayout from "./ImageLayout.ts"
export * as Manifest from "./Manifest.ts"
export * as OriginPump from "./OriginPump.ts"
export * as PeerTransfer from "./PeerTransfer.ts"
export * as RegistryClient from "./RegistryClient.ts"
export * as RegistryError from "./RegistryError.ts"
export * as RegistryHttp from "./RegistryHttp.ts"
export * as RegistryHttpError from "./RegistryHttpError.ts"
export type * as Upstream from "./Upstream.ts"
