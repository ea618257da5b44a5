/**
 * The part of a blob that a client asks for.
 */
import * as Option from "effect/Option"
import type { ByteRange } from "./BlobStore.ts"

/** The one range that a header asks for. */
const single = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i

/**
 * The part of a blob that a `Range` header asks for (RFC 9110, section 14.2).
 * None, so the whole, where the header is none of ours or malformed, or has
 * several ranges, as a server may choose; `unsatisfiable` where the blob ends
 * before the range begins.
 */
export const partOf = (header: string | undefined, size: number): Option.Option<ByteRange> | "unsatisfiable" => {
  const [, first = "", last = ""] = single.exec(header ?? "") ?? []
  if (first === "" && last === "") return Option.none()
  if (first === "") {
    const length = Math.min(Number(last), size)
    return length === 0 ? "unsatisfiable" : Option.some({ offset: size - length, length })
  }
  const offset = Number(first)
  if (last !== "" && Number(last) < offset) return Option.none()
  if (offset >= size) return "unsatisfiable"
  return Option.some({ offset, length: Math.min(last === "" ? size : Number(last) + 1, size) - offset })
}
