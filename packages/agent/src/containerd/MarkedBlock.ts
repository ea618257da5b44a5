/**
 * Lines of ours in a file of somebody else: between two comments, and taken out
 * again without a trace. Lines that must go while ours are there are kept among
 * them as comments. TOML and YAML both have such comments.
 */
import * as Option from "effect/Option"

/** What is put into a file. */
export interface Block {
  readonly lines: ReadonlyArray<string>
  /** What was not there before and goes with the block: `file`, `directory`. */
  readonly made?: ReadonlyArray<string> | undefined
}

const begin = "# >>> gantry; `gantry containerd restore` takes this out again"
const end = "# <<< gantry"
const kept = "#- "

const made = /; made: ([a-z, ]+)$/

/** Ours, from comment to comment. */
const pattern = /# >>> gantry[^\n]*\n(?:[^\n]*\n)*?# <<< gantry(?:\n|$)/

/**
 * Puts a block in place of what is between two positions, each at the beginning
 * of a line or at the end of the text.
 */
export const insert = (text: string, from: number, to: number, block: Block): string => {
  const replaced = text.slice(from, to)
  const flags = block.made === undefined || block.made.length === 0 ? "" : `; made: ${block.made.join(", ")}`
  const old = replaced === "" ? [] : replaced.replace(/\n$/, "").split("\n")
  const ours = [`${begin}${flags}`, ...old.map((line) => `${kept}${line}`), ...block.lines, end].join("\n")
  const before = text.slice(0, from)
  const after = text.slice(to)
  // A last line without its end stays one: after it, the block is without its own.
  const isUnended =
    after === "" && (replaced === "" ? before !== "" && !before.endsWith("\n") : !replaced.endsWith("\n"))
  if (!isUnended) return `${before}${ours}\n${after}`
  return replaced === "" ? `${before}\n${ours}` : `${before}${ours}`
}

/** A text without our block. */
export interface Removal {
  readonly text: string
  readonly made: ReadonlyArray<string>
}

/** Takes the block out; none if there is none. */
export const remove = (text: string): Option.Option<Removal> => {
  const match = pattern.exec(text)
  if (match === null) return Option.none()
  const [first = "", ...lines] = match[0].replace(/\n$/, "").split("\n")
  const isUnended = !match[0].endsWith("\n")
  const old = lines.filter((line) => line.startsWith(kept)).map((line) => line.slice(kept.length))
  const before = text.slice(0, match.index)
  const after = text.slice(match.index + match[0].length)
  const restored = old.length > 0 ? `${old.join("\n")}${isUnended ? "" : "\n"}` : ""
  return Option.some({
    text: isUnended && old.length === 0 ? before.replace(/\n$/, "") : `${before}${restored}${after}`,
    made: made.exec(first)?.[1]?.split(", ") ?? []
  })
}

/** What a file is without our block. One that is not there yet is ours as a whole. */
export const originalOf = (text: Option.Option<string>): Removal =>
  Option.match(text, {
    onNone: () => ({ text: "", made: ["file"] }),
    onSome: (text) => Option.getOrElse(remove(text), () => ({ text, made: [] }))
  })
