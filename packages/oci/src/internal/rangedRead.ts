/**
 * Reads what follows a byte of a blob over HTTP, or all of it (RFC 9110,
 * section 14). A blob is named by its digest, which tells better than any
 * `ETag` whether parts that came from different answers belong together: so
 * there is no `If-Range`, which would only make a server begin again whose
 * copies of the blob have different tags.
 */
import * as Data from "effect/Data"
import type { Headers } from "effect/http/Headers"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { parseContentLength, parseContentRange } from "./headers.ts"

/** The header that asks for what follows a byte; none for all of it. */
export const rangeHeader = (from: number): Record<string, string> => (from === 0 ? {} : { range: `bytes=${from}-` })

/** The part of a blob that a body carries. */
export interface Part {
  /** Where the body begins: the byte that was asked for, or 0. */
  readonly first: number
  /** Of the whole, in bytes, where the server tells. */
  readonly total: Option.Option<number>
}

/**
 * What was answered. `Unfit`: another part than was asked for, or of another
 * blob, or that there is no such part; the whole can still be asked for.
 * `Refused`: any other status.
 */
export type Reading = Data.TaggedEnum<{
  Part: Part
  Unfit: { readonly detail: string }
  Refused: {}
}>
export const Reading = Data.taggedEnum<Reading>()

/** What was asked for. */
export interface Asked {
  readonly from: number
  /** Of the whole, in bytes, as far as it is known. */
  readonly size?: number | undefined
}

/** Reads the head of a response. */
export const read = (
  { headers, status }: { readonly status: number; readonly headers: Headers },
  { from, size }: Asked
): Reading => {
  if (status === 200) return Reading.Part({ first: 0, total: parseContentLength(headers["content-length"]) })
  const header = headers["content-range"] ?? ""
  if (status === 206) {
    const range = Option.filter(
      parseContentRange(header),
      ({ first, total }) => first === from && (size === undefined || Option.getOrElse(total, () => size) === size)
    )
    if (Option.isSome(range)) return Reading.Part(range.value)
  } else if (status !== 416 || from === 0) {
    return Reading.Refused()
  }
  return Reading.Unfit({ detail: `asked for what follows byte ${from}, it answered ${status} with "${header}"` })
}

/** The body of a part, which must hold as many bytes as the head says: else it fails with the byte that it reached. */
export const whole = <A extends Uint8Array, E, R, E2>(
  body: Stream.Stream<A, E, R>,
  { first, total }: Part,
  fail: (reached: number, total: number) => E2
): Stream.Stream<A, E | E2, R> =>
  Stream.suspend(() => {
    let reached = first
    const counted = Stream.map(body, (chunk) => {
      reached += chunk.length
      return chunk
    })
    return Stream.concat(
      counted,
      Stream.suspend(() =>
        Option.isSome(total) && reached !== total.value ? Stream.fail(fail(reached, total.value)) : Stream.empty
      )
    )
  })
