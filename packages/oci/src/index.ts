/**
 * The OCI side of Gantry.
 */
export * as BlobStore from "./BlobStore.ts"
