/**
 * A YAML document whose values know their lines.
 */
import { describeCause } from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { isMap, isNode, isScalar, isSeq, LineCounter, type Node, type Document as Parsed, parseDocument } from "yaml"

/** What a document holds. */
export interface Document {
  readonly value: unknown
  /** The line of what is at a path, or of the last part of the path that exists; from 1. */
  readonly lineOf: (path: ReadonlyArray<PropertyKey>) => number
}

/** A fault of the text itself. */
export interface Fault {
  readonly line: number
  /** The key that it is about, if it is about one. */
  readonly key: string
  readonly detail: string
}

/** A document may name a value and repeat it, within reason. */
const maxAliases = 100

const offsetOf = (root: Node | null, path: ReadonlyArray<PropertyKey>): number => {
  let node: unknown = root
  let offset = root?.range?.[0] ?? 0
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && key.value === part)
      if (pair === undefined) break
      offset = (isNode(pair.key) ? pair.key.range?.[0] : undefined) ?? offset
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(part)]
      offset = (isNode(node) ? node.range?.[0] : undefined) ?? offset
    }
  }
  return offset
}

const faultsOf = (text: string, document: Parsed, lines: LineCounter): ReadonlyArray<Fault> =>
  [...document.errors, ...document.warnings].map((error) => {
    const [offset] = error.pos
    const { line } = lines.linePos(offset)
    return error.code === "DUPLICATE_KEY"
      ? { line, key: /^[^:\s]*/.exec(text.slice(offset))?.[0] ?? "", detail: "given twice, must be given once" }
      : { line, key: "", detail: error.message }
  })

/** What was read, as far as the text could be taken apart, and its faults. */
export interface Parsing {
  readonly document: Option.Option<Document>
  readonly faults: ReadonlyArray<Fault>
}

/** Reads one YAML document; JSON is one, too. Nothing at all is a document of null. */
export const parse = (text: string): Parsing => {
  const lines = new LineCounter()
  const parsed = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const faults = faultsOf(text, parsed, lines)
  if (faults.some(({ key }) => key === "")) return { document: Option.none(), faults }
  const value = Result.try((): unknown => parsed.toJS({ maxAliasCount: maxAliases }))
  if (Result.isFailure(value)) {
    return { document: Option.none(), faults: [...faults, { line: 1, key: "", detail: describeCause(value.failure) }] }
  }
  const lineOf = (path: ReadonlyArray<PropertyKey>) => lines.linePos(offsetOf(parsed.contents, path)).line
  return { document: Option.some({ value: value.success, lineOf }), faults }
}
