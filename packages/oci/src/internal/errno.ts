/**
 * What the kernel says about a file system, in the terms of the store.
 */
import { StoreError } from "@gantry/coord/Store"
import type { Digest } from "@gantry/protocol"
import type { PlatformError } from "effect/PlatformError"
import { BlobWriteError } from "../BlobStore.ts"

/** The error of the system call, with its code. */
export const errno = (error: PlatformError): NodeJS.ErrnoException => (error.cause ?? error) as NodeJS.ErrnoException

export const isNotFound = (error: PlatformError): boolean => error.reason._tag === "NotFound"

const spaceCodes: ReadonlySet<string | undefined> = new Set(["EDQUOT", "ENOSPC"])
const permissionCodes: ReadonlySet<string | undefined> = new Set(["EACCES", "EPERM", "EROFS"])

/** Error codes of a file system that is out of reach, whatever one asks of it. */
const unreachableCodes: ReadonlySet<string | undefined> = new Set([
  "EACCES",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "EIO",
  "ENODEV",
  "ENOTCONN",
  "ENOTDIR",
  "ENXIO",
  "EPERM",
  "ESTALE",
  "ETIMEDOUT"
])

/** Why a file system takes nothing. */
export const refusalOf = (error: PlatformError): "NoSpace" | "ReadOnly" | "Failed" => {
  const { code } = errno(error)
  if (spaceCodes.has(code)) return "NoSpace"
  return permissionCodes.has(code) ? "ReadOnly" : "Failed"
}

/** An error in reading a blob. */
export const storeError =
  (digest: Digest) =>
  (error: PlatformError): StoreError => {
    const cause = errno(error)
    return new StoreError({ reason: unreachableCodes.has(cause.code) ? "Unavailable" : "Failed", digest, cause })
  }

/** An error in writing a blob. */
export const writeError =
  (digest: Digest) =>
  (error: PlatformError): BlobWriteError =>
    new BlobWriteError({ reason: refusalOf(error), digest, detail: errno(error).message })
