/**
 * Changes TOML that others wrote as text, so that their comments and their
 * order stay, and only where what comes out means what it should.
 */
import { isDeepStrictEqual } from "node:util"
import { describeCause } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { parse as parseToml, type TomlTable } from "smol-toml"
import * as MarkedBlock from "./MarkedBlock.ts"

/** Reads TOML; fails with what is wrong with it, in one line. */
export const parse = (text: string): Result.Result<TomlTable, string> =>
  Result.try({
    try: () => parseToml(text, { integersAsBigInt: "asNeeded" }),
    catch: (cause) => describeCause(cause).split("\n", 1).join()
  })

/** A table of a document, by the keys that lead to it; an empty one if there is none. */
export const tableAt = (document: TomlTable, keys: ReadonlyArray<string>): TomlTable =>
  keys.reduce<TomlTable>((table, key) => {
    const value = table[key]
    return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date) ? value : {}
  }, document)

/** A place where a block may go, and with what it is compared there. */
export interface Attempt {
  readonly from: number
  readonly to: number
  readonly block: MarkedBlock.Block
}

/** Where the lines of a text begin that fulfil a condition. */
export const linesOf = (
  text: string,
  condition: RegExp
): ReadonlyArray<{ readonly from: number; readonly to: number }> => {
  const found: Array<{ from: number; to: number }> = []
  for (let from = 0; from < text.length; ) {
    const newline = text.indexOf("\n", from)
    const to = newline === -1 ? text.length : newline + 1
    if (condition.test(text.slice(from, to))) found.push({ from, to })
    from = to
  }
  return found
}

/** The text after the first attempt that gives it the meaning it should have; none if none does. */
export const apply = (
  text: string,
  attempts: Iterable<Attempt>,
  isRight: (document: TomlTable) => boolean
): Option.Option<string> => {
  for (const { block, from, to } of attempts) {
    const changed = MarkedBlock.insert(text, from, to, block)
    const document = parse(changed)
    if (Result.isSuccess(document) && isRight(document.success)) return Option.some(changed)
  }
  return Option.none()
}

/** Whether two documents mean the same. The parser's tables have no prototype, and clones have one. */
export const isSame = (a: TomlTable, b: TomlTable): boolean => isDeepStrictEqual(structuredClone(a), structuredClone(b))
