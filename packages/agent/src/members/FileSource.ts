/**
 * Members in a file that others write: a list, in YAML or JSON, of which each
 * entry needs its `transfer_addr` alone. An entry that cannot be read spoils
 * only itself; a file that cannot be read leaves the members as they were.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Document from "../config/Document.ts"
import * as WatchedFile from "../runtime/WatchedFile.ts"
import { fromEntry, type Listed } from "./Listed.ts"
import { MemberEntry, peerIdsOf } from "./MemberEntry.ts"
import { type MemberSource, MemberSourceError, maxMembers } from "./MemberSource.ts"

/** Some 1,600 bytes for each of the most members. */
const maxBytes = 16 * 1024 * 1024

/** How many entries that cannot be read are told of. */
const maxWarnings = 10

const decodeEntry = Schema.decodeUnknownResult(MemberEntry, { errors: "all", onExcessProperty: "error" })

const readEntry = (written: unknown): Result.Result<Listed, string> =>
  Result.match(decodeEntry(written), {
    onFailure: ({ message }) => Result.fail(message.replaceAll(/\s+/g, " ")),
    onSuccess: (entry) =>
      peerIdsOf(entry).size > 1
        ? Result.fail("peer_id and p2p_addrs name several peers")
        : Result.succeed(fromEntry(entry))
  })

/** What a text lists, and what of it cannot be read. */
export const parse = (
  source: string,
  text: string
): Result.Result<
  { readonly members: ReadonlyArray<Listed>; readonly bad: ReadonlyArray<string> },
  MemberSourceError
> => {
  const fail = (reason: MemberSourceError["reason"], detail: string) =>
    Result.fail(new MemberSourceError({ reason, source, detail }))
  const { document, faults } = Document.parse(text)
  const [fault] = faults
  if (fault !== undefined) return fail("Malformed", `line ${fault.line}: ${fault.key} ${fault.detail}`)
  const { lineOf, value } = Option.getOrThrow(document)
  if (value === null) return fail("Empty", "it lists nobody")
  if (!Array.isArray(value)) return fail("Malformed", "it is no list of members")
  if (value.length > maxMembers) return fail("TooMany", `it lists ${value.length}, of at most ${maxMembers}`)
  const members: Array<Listed> = []
  const bad: Array<string> = []
  for (const [index, written] of value.entries()) {
    const entry = readEntry(written)
    if (Result.isSuccess(entry)) members.push(entry.success)
    else bad.push(`line ${lineOf([index])}: ${entry.failure}`)
  }
  if (members.length > 0) return Result.succeed({ members, bad })
  return bad.length > 0 ? fail("Malformed", bad.slice(0, 1).join()) : fail("Empty", "it lists nobody")
}

const warn = (source: string, bad: ReadonlyArray<string>): Effect.Effect<void> => {
  if (bad.length === 0) return Effect.void
  const more = bad.length > maxWarnings ? [`and ${bad.length - maxWarnings} more`] : []
  return Effect.logWarning(
    [`${source} lists members that cannot be read:`, ...bad.slice(0, maxWarnings), ...more].join("\n  ")
  )
}

/** The members in the file at a path, followed while it changes. */
export const make = (path: string): MemberSource<FileSystem.FileSystem | Path.Path> => {
  const source = `file ${path}`
  const unavailable = (detail: string) => new MemberSourceError({ reason: "Unavailable", source, detail })
  const read = Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const { size } = yield* fs.stat(path)
    if (size > maxBytes) return yield* unavailable(`it has ${size} bytes, of at most ${maxBytes}`)
    return yield* fs.readFileString(path)
  }).pipe(Effect.catchTag("PlatformError", ({ message }) => Effect.fail(unavailable(message))))
  return {
    name: source,
    follow: (accept, nudge) => {
      const tell = Effect.gen(function* () {
        const parsed = Result.flatMap(yield* Effect.result(read), (text) => parse(source, text))
        if (Result.isSuccess(parsed)) yield* warn(source, parsed.success.bad)
        yield* accept(Result.map(parsed, ({ members }) => members))
      })
      return Effect.raceFirst(WatchedFile.follow(path, tell), Effect.forever(Effect.andThen(nudge, tell)))
    }
  }
}
