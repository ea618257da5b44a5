/**
 * What the bytes of one execution mean: a situation, and a stream in chunks.
 * Any bytes mean something, so that none are wasted.
 */

/** One byte chooses among these. */
const choices = {
  /** Who reads the stream. */
  reader: ["server", "query", "batch"],
  /** What the peer does after its last byte. */
  ending: ["ends", "resets", "falls silent"],
  /** What becomes of what is written to the peer. */
  writing: ["arrives", "fails", "is stuck"],
  /** Who the peer is to the membership: one that lists it, one that doesn't, or one that lists no peer at all. */
  standing: ["member", "unrecognized", "unevaluable"],
  authorization: ["observe", "enforce"],
  store: ["lacks", "has", "is unavailable", "fails", "hangs", "dies"],
  pump: ["starts", "failed recently", "declines", "pulls nothing", "is slow", "hangs", "dies"],
  negativeCache: ["empty", "failed recently"]
} as const

type Choices = typeof choices

/** The world that the stream comes into. */
export type Situation = { readonly [Choice in keyof Choices]: Choices[Choice][number] }

const names = Object.keys(choices) as ReadonlyArray<keyof Choices>

/** Everyone who reads streams. */
export const readers = choices.reader

/** So many sizes of chunks are taken in turns. */
const sizes = 4

/** Bytes before those of the stream. */
export const headerBytes = names.length + sizes

/** One execution. */
export interface Input {
  readonly situation: Situation
  /** The stream's bytes as they come, none of the chunks empty. */
  readonly chunks: ReadonlyArray<Uint8Array>
  /** The stream's bytes in one piece. */
  readonly stream: Uint8Array
}

const cut = (stream: Uint8Array, sizes: Uint8Array): ReadonlyArray<Uint8Array> => {
  const chunks: Array<Uint8Array> = []
  for (let offset = 0; offset < stream.length; ) {
    // What is not said is the longest.
    const size = sizes[chunks.length % sizes.length] || 256
    chunks.push(stream.subarray(offset, offset + size))
    offset += size
  }
  return chunks
}

/** Reads an input; what is missing at the end counts as zero. */
export const parse = (bytes: Uint8Array): Input => {
  const chosen = names.map((name, index) => {
    const values = choices[name]
    return [name, values[(bytes[index] ?? 0) % values.length]]
  })
  const stream = bytes.subarray(headerBytes)
  return {
    situation: Object.fromEntries(chosen) as Situation,
    chunks: cut(stream, bytes.subarray(names.length, headerBytes)),
    stream
  }
}

/** The bytes of an input; what is left out of the situation is the first of its choices, without sizes a chunk has 256. */
export const format = (
  stream: Uint8Array,
  situation: Partial<Situation> = {},
  chunkSizes: ReadonlyArray<number> = []
): Uint8Array => {
  const chosen = names.map((name) =>
    Math.max(0, (choices[name] as ReadonlyArray<string>).indexOf(situation[name] ?? ""))
  )
  const cuts = Array.from({ length: sizes }, (_, index) => chunkSizes[index] ?? 0)
  return Uint8Array.from([...chosen, ...cuts, ...stream])
}

/** Every situation in which exactly one thing is out of the ordinary. */
export const situations: ReadonlyArray<Partial<Situation>> = names.flatMap((name) =>
  choices[name].map((value) => ({ [name]: value }))
)
