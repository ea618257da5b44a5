/**
 * The bytes of a reply to a batch. It tells of hundreds of digests: written
 * straight from what is known of them it costs a fraction of what the generated
 * code takes, which makes two objects for each first.
 */

/** An instant as protobuf's Timestamp has it. */
export interface WireTime {
  readonly seconds: bigint
  readonly nanos: number
}

/** One digest's `PleasePullResponse.Result`. */
export interface WireResult {
  readonly digest: string
  readonly outcome: number
  readonly startedAt?: WireTime | undefined
  readonly cooldownUntil?: WireTime | undefined
  readonly failureClass?: number | undefined
}

/** What stands before a value: the number of its field, and whether its length follows. */
const varintField = (field: number) => field << 3
const lengthField = (field: number) => (field << 3) | 2

/** The most that a tag and a number take; they have up to 64 bits. */
const maxNumberBytes = 1 + 10
/** The most that a result takes beside its text: two enums, two times of two numbers, and four lengths. */
const maxFixedBytes = 10 * maxNumberBytes
/** A code unit of a string has at most three bytes in UTF-8. */
const maxBytesPerUnit = 3

/** The envelope of a response with these results. */
export const encodeResults = (results: ReadonlyArray<WireResult>): Uint8Array => {
  const begin = maxNumberBytes
  const room = results.reduce((sum, { digest }) => sum + maxFixedBytes + maxBytesPerUnit * digest.length, begin)
  const bytes = Buffer.allocUnsafe(room)
  let end = begin

  const writeNumber = (value: number) => {
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[end++] = (rest % 0x80) | 0x80
    bytes[end++] = rest
  }
  /** A negative number has all of its 64 bits. */
  const writeSeconds = (value: bigint) => {
    if (value >= 0n) return writeNumber(Number(value))
    let rest = BigInt.asUintN(64, value)
    for (; rest >= 0x80n; rest >>= 7n) bytes[end++] = Number(rest & 0x7fn) | 0x80
    bytes[end++] = Number(rest)
  }
  /** Text, or what `write` writes, with its length before it: a byte, as a rule; if not, what was written makes room. */
  const writeField = (field: number, write: () => void) => {
    bytes[end++] = lengthField(field)
    const from = ++end
    write()
    const length = end - from
    if (length >= 0x80) bytes.copyWithin(from - 1 + sizeOf(length), from, end)
    end = from - 1
    writeNumber(length)
    end += length
  }
  const writeEnum = (field: number, value: number) => {
    if (value === 0) return
    bytes[end++] = varintField(field)
    writeNumber(value)
  }
  const writeTime = (field: number, time: WireTime | undefined) => {
    if (time === undefined) return
    writeField(field, () => {
      if (time.seconds !== 0n) {
        bytes[end++] = varintField(1)
        writeSeconds(time.seconds)
      }
      writeEnum(2, time.nanos)
    })
  }

  for (const { cooldownUntil, digest, failureClass = 0, outcome, startedAt } of results) {
    writeField(1, () => {
      if (digest !== "") {
        writeField(1, () => {
          end += bytes.write(digest, end)
        })
      }
      writeEnum(2, outcome)
      writeTime(3, startedAt)
      writeTime(4, cooldownUntil)
      writeEnum(5, failureClass)
    })
  }
  // The field of the envelope, in front of it all.
  const length = end - begin
  const start = begin - 1 - sizeOf(length)
  end = start
  bytes[end++] = lengthField(4)
  writeNumber(length)
  return bytes.subarray(start, begin + length)
}

/** The bytes of a number as a varint. */
const sizeOf = (value: number): number => {
  let size = 1
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++
  return size
}
