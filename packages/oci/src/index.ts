/**
 * The OCI side of Gantry.
 */
export * as BlobStore from "./BlobStore.ts"
export * as ImageLayout from "./ImageLayout.ts"
