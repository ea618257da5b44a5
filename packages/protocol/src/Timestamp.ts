/**
 * An instant as the protocol carries it.
 */
import * as Schema from "effect/Schema"

/** What protobuf's Timestamp can hold: the years 1 to 9999. */
const earliest = -62_135_596_800_000_000_000n
const latest = 253_402_300_799_999_999_999n

/**
 * Nanoseconds since 1970 on the clock of whoever wrote it. Clocks differ: an
 * instant of another node is compared with other instants of that node, never
 * with the local clock.
 */
export const Timestamp = Schema.BigInt.check(Schema.isBetweenBigInt({ minimum: earliest, maximum: latest })).pipe(
  Schema.brand("Timestamp")
)
export type Timestamp = typeof Timestamp.Type

const nanosPerMilli = 1_000_000n

/** The instant that lies `millis` milliseconds after 1970. */
export const timestampFromMillis = (millis: number): Timestamp =>
  (BigInt(Math.floor(millis)) * nanosPerMilli) as Timestamp

/** Whole milliseconds since 1970, towards the past. */
export const timestampToMillis = (timestamp: Timestamp): number =>
  Number(timestamp / nanosPerMilli) - (timestamp % nanosPerMilli < 0n ? 1 : 0)
