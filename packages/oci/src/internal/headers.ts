/**
 * Response headers that a registry client acts on.
 */
import * as Duration from "effect/Duration"
import * as Headers from "effect/http/Headers"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** One way to authenticate that a server offers; scheme and parameter names in lower case. */
export interface Challenge {
  readonly scheme: string
  readonly parameters: ReadonlyMap<string, string>
}

// A parameter, else a scheme with the opaque token that some schemes put in
// place of parameters. A bare URL as a value is illegal and does occur.
const challengePart =
  /[\s,]*(?:([!#$%&'*+.^_`|~\w-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([!#$%&'*+.^_`|~\w-]+)(?:[ \t]+[\w.~+/-]+=*(?=[ \t]*(?:,|$)))?)/y

/** The challenges of a `WWW-Authenticate` header (RFC 9110, section 11.6.1), as far as it can be read. */
export const parseChallenges = (header: string): ReadonlyArray<Challenge> => {
  const challenges: Array<{ readonly scheme: string; readonly parameters: Map<string, string> }> = []
  const pattern = new RegExp(challengePart)
  for (let part = pattern.exec(header); part !== null; part = pattern.exec(header)) {
    const [, name, quoted, bare, scheme] = part
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() })
    else if (name !== undefined) {
      challenges.at(-1)?.parameters.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "")
    }
  }
  return challenges
}

/** The part of a blob that a 206 response carries. */
export interface ContentRange {
  readonly first: number
  readonly total: Option.Option<number>
}

/** A `Content-Range` header of bytes (RFC 9110, section 14.4). */
export const parseContentRange = (header: string): Option.Option<ContentRange> => {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(header.trim())
  if (match === null) return Option.none()
  const [first, last, total] = match.slice(1).map(Number) as [number, number, number]
  if (first > last || last >= total) return Option.none()
  return Option.some({ first, total: Number.isNaN(total) ? Option.none() : Option.some(total) })
}

/** A `Content-Length` header, in bytes. */
export const parseContentLength = (header: string | undefined): Option.Option<number> =>
  header !== undefined && /^\d{1,15}$/.test(header) ? Option.some(Number(header)) : Option.none()

/** How long a `Retry-After` header asks to wait, in seconds or until a date; never longer than `most`. */
export const parseRetryAfter = (
  header: string | undefined,
  nowMillis: number,
  most: Duration.Duration
): Option.Option<Duration.Duration> =>
  Option.fromUndefinedOr(header).pipe(
    Option.flatMap((text) => Result.getSuccess(Headers.parseRetryAfter(text))),
    Option.map((retryAfter) => Duration.min(Headers.retryAfterDelay(retryAfter, nowMillis), most))
  )
