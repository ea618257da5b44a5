/**
 * Settings are lenient the same way everywhere: a value that is not positive
 * is ignored (protocol, section 7).
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** The given duration if it is one and positive, else the default. */
export const positiveDuration = (input: Duration.Input | undefined, fallback: Duration.Duration): Duration.Duration => {
  if (input === undefined) return fallback
  const duration = Duration.fromInput(input)
  return Option.isSome(duration) && Duration.toMillis(duration.value) > 0 ? duration.value : fallback
}

/** The given number if it is positive, else the default. */
export const positiveNumber = (input: number | undefined, fallback: number): number =>
  input !== undefined && input > 0 ? input : fallback
