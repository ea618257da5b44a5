/**
 * How quantities are written in the configuration: durations `90s`, sizes
 * `64MiB`, rates `200MB/s`, shares `20%` (agent, section 2). Each schema says
 * in `expected` what it takes, for whoever wrote something else.
 */
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Host from "effect/net/Host"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"

/** One way to write a value. */
interface Notation<A> {
  /** What is allowed, to be read after "must be". */
  readonly expected: string
  /** For JSON Schema, where it may allow more than `parse` does. */
  readonly pattern: string
  /** The numbers that are allowed without a unit. */
  readonly bare?: Schema.Codec<number> | undefined
  readonly parse: (text: string) => Option.Option<A>
  readonly format: (value: A) => string | number
}

const written = <A>(
  value: Schema.Codec<A>,
  { bare, expected, format, parse, pattern }: Notation<A>
): Schema.Codec<A, string | number> => {
  const text = Schema.String.annotate({ expected, pattern: `^${pattern}$` })
  const form: Schema.Codec<string | number> =
    bare === undefined ? text : Schema.Union([text, bare]).annotate({ expected })
  return form.pipe(
    Schema.decodeTo(value, {
      decode: SchemaGetter.transformEffect((text) =>
        Effect.mapError(Effect.fromOption(parse(String(text).trim())), () => new SchemaIssue.InvalidValue({ expected }))
      ),
      encode: SchemaGetter.transform(format)
    })
  )
}

const Zero = Schema.Literal(0)

const Natural = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

// Durations

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1]
] as const

const millisIn: ReadonlyMap<string, number> = new Map(units)

const timePart = /(\d+(?:\.\d+)?)(ms|s|m|h|d)/g

const parseTime = (text: string): Option.Option<Duration.Duration> => {
  if (text === "0") return Option.some(Duration.zero)
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(text)) return Option.none()
  let millis = 0
  for (const [, amount, unit] of text.matchAll(timePart)) millis += Number(amount) * (millisIn.get(unit ?? "") ?? 0)
  return Number.isSafeInteger(Math.ceil(millis)) ? Option.some(Duration.millis(millis)) : Option.none()
}

/** Writes a duration in the largest units that leave nothing over: `1m30s`. */
export const formatTime = (duration: Duration.Duration): string => {
  let rest = Duration.toMillis(duration)
  let text = ""
  for (const [unit, millis] of units) {
    // Hours are what everybody counts tags and ages in: 24h, not 1d.
    if (unit === "d") continue
    const amount = unit === "ms" ? rest : Math.floor(rest / millis)
    if (amount > 0) text += `${amount}${unit}`
    rest -= amount * millis
  }
  return text || "0s"
}

/** A duration: `90s`, `1m30s`, `500ms`; 0 is one. */
export const Time: Schema.Codec<Duration.Duration, string | number> = written(Schema.Duration, {
  expected: "a duration such as 90s",
  pattern: String.raw`(0|(\d+(\.\d+)?(ms|s|m|h|d))+)`,
  bare: Zero,
  parse: parseTime,
  format: formatTime
})

/** A duration that is not 0. */
export const SomeTime = Time.check(Schema.makeFilter(Duration.isPositive, { expected: "above 0" }))

// Bytes

/** Bytes, up to what a number counts exactly; a bare number counts bytes. */
const parseSize = (text: string): Option.Option<number> =>
  Option.flatMap(ByteSize.fromString(/^\d+$/.test(text) ? `${text}B` : text), ByteSize.toNumber)

const binary = [
  ["TiB", 1024 ** 4],
  ["GiB", 1024 ** 3],
  ["MiB", 1024 ** 2],
  ["KiB", 1024]
] as const

const decimal = [
  ["TB", 1e12],
  ["GB", 1e9],
  ["MB", 1e6],
  ["kB", 1e3]
] as const

const formatBytes = (bytes: number, symbols: ReadonlyArray<readonly [symbol: string, size: number]>): string => {
  const [symbol, size] = symbols.find(([, size]) => bytes >= size && bytes % size === 0) ?? ["B", 1]
  return `${bytes / size}${symbol}`
}

const formatSize = (bytes: number): string => formatBytes(bytes, [...binary, ...decimal])

const sizePattern = String.raw`\d+(\.\d+)? ?[A-Za-z]*`

/** A number of bytes per second, written `200MB/s`; none, written 0, is no limit. */
export const Rate: Schema.Codec<Option.Option<number>, string | number> = written(Schema.Option(Schema.Finite), {
  expected: "a rate such as 200MB/s, or 0 for no limit",
  pattern: `(0|${sizePattern}/s)`,
  bare: Zero,
  parse: (text) => {
    if (text === "0") return Option.some(Option.none())
    if (!text.endsWith("/s")) return Option.none()
    return Option.map(parseSize(text.slice(0, -2)), (bytes) => (bytes === 0 ? Option.none() : Option.some(bytes)))
  },
  format: Option.match({
    onNone: () => 0,
    onSome: (bytes) => `${formatBytes(bytes, [...decimal, ...binary])}/s`
  })
})

// Shares

const parseShare = (text: string): Option.Option<number> => {
  const percent = /^(\d+(?:\.\d+)?) ?%$/.exec(text)?.[1]
  return Option.filter(Option.map(Option.fromUndefinedOr(percent), Number), (share) => share <= 100).pipe(
    Option.map((share) => share / 100)
  )
}

/** Writes a share, `20%`; a hundredth times a hundred is not always what it was. */
export const formatShare = (fraction: number): string => `${Number((fraction * 100).toPrecision(12))}%`

const sharePattern = String.raw`\d+(\.\d+)? ?%`

/** A part of a whole, from 0 to 1, written `20%`. */
export const Share: Schema.Codec<number, string | number> = written(Schema.Finite, {
  expected: "a share from 0% to 100%",
  pattern: sharePattern,
  parse: parseShare,
  format: formatShare
})

/** An amount of space: a share of what there is, bytes, or as much as there is. */
export const Space = Schema.TaggedUnion({
  Share: { fraction: Schema.Finite },
  Bytes: { bytes: Schema.Finite },
  Unlimited: {}
})
export type Space = typeof Space.Type

/** An amount of space, written `20%` or `64GiB`; 0 is no limit. */
export const SpaceLimit: Schema.Codec<Space, string | number> = written<Space>(Space, {
  expected: "a size such as 64GiB, a share such as 20%, or 0 for no limit",
  pattern: `(0|${sharePattern}|${sizePattern})`,
  bare: Natural,
  parse: (text) => {
    if (text === "0") return Option.some({ _tag: "Unlimited" })
    const share = Option.map(parseShare(text), (fraction): Space => ({ _tag: "Share", fraction }))
    return Option.orElse(share, () => Option.map(parseSize(text), (bytes): Space => ({ _tag: "Bytes", bytes })))
  },
  format: (space) => {
    switch (space._tag) {
      case "Share":
        return formatShare(space.fraction)
      case "Bytes":
        return formatSize(space.bytes)
      case "Unlimited":
        return 0
    }
  }
})

// Counts

/** A count; none, written 0, is no limit. */
export const CountLimit: Schema.Codec<Option.Option<number>, string | number> = written(Schema.Option(Schema.Int), {
  expected: "a whole number, or 0 for no limit",
  pattern: String.raw`\d+`,
  bare: Natural,
  parse: (text) => {
    if (!/^\d{1,9}$/.test(text)) return Option.none()
    return Option.some(Number(text) === 0 ? Option.none() : Option.some(Number(text)))
  },
  format: Option.getOrElse(() => 0)
})

/** How many ranges of a blob are fetched at once, if it has at least so many bytes. */
const Ranges = Schema.Struct({ count: Schema.Int, from: Schema.Finite })

/** Parallel ranges, written `4 from 256MiB`. */
export const ParallelRanges: Schema.Codec<typeof Ranges.Type, string | number> = written(Ranges, {
  expected: "a number of ranges from 1 to 16 and a size, such as 4 from 256MiB",
  pattern: String.raw`\d+ from ${sizePattern}`,
  parse: (text) => {
    const [, count, size = ""] = /^(\d{1,2}) from (.+)$/.exec(text) ?? []
    return Option.all({
      count: Option.filter(
        Option.fromUndefinedOr(count).pipe(Option.map(Number)),
        (count) => count >= 1 && count <= 16
      ),
      from: parseSize(size)
    })
  },
  format: ({ count, from }) => `${count} from ${formatSize(from)}`
})

// Addresses

/** A TCP address, written `127.0.0.1:5000`, `[::1]:5000` or with a host name. */
export const Address: Schema.Codec<Host.HostPort, string | number> = written(Schema.declare(Host.isHostPort), {
  expected: "<address>:<port>, for example 127.0.0.1:5000",
  pattern: String.raw`.+:\d{1,5}`,
  parse: (text) => Result.getSuccess(Host.hostPortFromString(text)),
  format: Host.formatHostPort
})
