/**
 * Settings are read the same way everywhere: what is not given, or not
 * positive, is ignored (protocol, section 7); what cannot be read at all is an
 * error.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { SettingError } from "./SettingError.ts"

/**
 * The given duration if it is positive, else the default.
 * @throws {SettingError} if it is no duration.
 */
const positiveDuration = (
  input: Duration.Input | undefined,
  fallback: Duration.Input,
  setting: string
): Duration.Duration => {
  if (input === undefined) return Duration.fromInputUnsafe(fallback)
  const duration = Option.getOrUndefined(Duration.fromInput(input))
  if (duration === undefined) {
    throw new SettingError({ setting, value: input, expected: `a duration, such as "3 seconds"` })
  }
  return Duration.isPositive(duration) ? duration : Duration.fromInputUnsafe(fallback)
}

/**
 * The given number if it is positive, else the default.
 * @throws {SettingError} if it is no number.
 */
const positiveNumber = (input: number | undefined, fallback: number, setting: string): number => {
  if (input === undefined) return fallback
  if (typeof input !== "number") throw new SettingError({ setting, value: input, expected: "a number" })
  return input > 0 ? input : fallback
}

/**
 * The given count, without its fraction, if it is at least one, else the default.
 * @throws {SettingError} if it is no number.
 */
const positiveInteger = (input: number | undefined, fallback: number, setting: string): number => {
  const number = positiveNumber(input, fallback, setting)
  return number >= 1 ? Math.floor(number) : fallback
}

/** Reads the settings of one `Options` by their names; what is not given or not positive has the default. */
export interface Reader<Options> {
  readonly duration: (setting: keyof Options & string, fallback: Duration.Input) => Duration.Duration
  readonly number: (setting: keyof Options & string, fallback: number) => number
  readonly integer: (setting: keyof Options & string, fallback: number) => number
  /** The setting, which has to be one of the choices; the first of them if it is not given. */
  readonly choice: <Name extends keyof Options & string>(
    setting: Name,
    choices: readonly [NonNullable<Options[Name]>, ...ReadonlyArray<NonNullable<Options[Name]>>]
  ) => NonNullable<Options[Name]>
}

/**
 * Reads settings from options, each by its name.
 * @throws {SettingError} for one that cannot be read.
 */
export const reader = <Options extends object>(options: Options): Reader<Options> => ({
  duration: (setting, fallback) => positiveDuration(options[setting] as Duration.Input | undefined, fallback, setting),
  number: (setting, fallback) => positiveNumber(options[setting] as number | undefined, fallback, setting),
  integer: (setting, fallback) => positiveInteger(options[setting] as number | undefined, fallback, setting),
  choice: (setting, choices) => {
    const value = options[setting] ?? choices[0]
    if (choices.includes(value)) return value
    throw new SettingError({ setting, value, expected: choices.map((choice) => JSON.stringify(choice)).join(" or ") })
  }
})

/** Puts the settings of a layer together; fails on the first that cannot be read. */
export const read = <Options extends object, A>(
  options: Options,
  assemble: (settings: Reader<Options>) => A
): Effect.Effect<A, SettingError> =>
  Effect.catchDefect(
    Effect.sync(() => assemble(reader(options))),
    (defect) => (defect instanceof SettingError ? Effect.fail(defect) : Effect.die(defect))
  )
