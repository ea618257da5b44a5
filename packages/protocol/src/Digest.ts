/**
 * The name of a blob: the SHA-256 of its bytes.
 */
import * as Schema from "effect/Schema"

const pattern = /^sha256:[0-9a-f]{64}$/

/**
 * An OCI digest: `sha256:` and 64 lower-case hexadecimal characters, nothing
 * trimmed and nothing folded (protocol, section 3).
 */
export const Digest = Schema.String.check(Schema.isPattern(pattern)).pipe(Schema.brand("Digest"))
export type Digest = typeof Digest.Type

/** Whether a string that a peer sent is a digest. */
export const isDigest = (text: string): text is Digest => pattern.test(text)

/** The 64 hexadecimal characters of a digest, the blob's file name in an OCI image layout. */
export const digestHex = (digest: Digest): string => digest.slice("sha256:".length)
