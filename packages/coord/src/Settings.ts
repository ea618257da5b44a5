/**
 * Settings are lenient the same way everywhere: a value that is not positive
 * is ignored (protocol, section 7).
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** The given duration if it is one and positive, else the default. */
export const positiveDuration = (input: Duration.Input | undefined, fallback: Duration.Input): Duration.Duration =>
  Option.fromUndefinedOr(input).pipe(
    Option.flatMap(Duration.fromInput),
    Option.filter(Duration.isPositive),
    Option.getOrElse(() => Duration.fromInputUnsafe(fallback))
  )

/** The given number if it is positive, else the default. */
export const positiveNumber = (input: number | undefined, fallback: number): number =>
  input !== undefined && input > 0 ? input : fallback

/** The given count, without its fraction, if it is at least one, else the default. */
export const positiveInteger = (input: number | undefined, fallback: number): number =>
  input !== undefined && input >= 1 ? Math.floor(input) : fallback
