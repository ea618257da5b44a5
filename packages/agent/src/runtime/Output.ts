/**
 * What a command says on standard output and standard error.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"

const write = (to: "stdout" | "stderr", text: string): Effect.Effect<void, never, Stdio.Stdio> =>
  Stdio.Stdio.use((stdio) => Effect.orDie(Stream.run(Stream.succeed(`${text}\n`), stdio[to]({ endOnDone: false }))))

/** Says what was asked for, in lines. */
export const print = (...lines: ReadonlyArray<string>): Effect.Effect<void, never, Stdio.Stdio> =>
  write("stdout", lines.join("\n"))

/** Says why it was not to be had, in lines. */
export const printError = (...lines: ReadonlyArray<string>): Effect.Effect<void, never, Stdio.Stdio> =>
  write("stderr", lines.join("\n"))

/** Says what was asked for, as one line of JSON. */
export const printJson = <A, I>(schema: Schema.Codec<A, I>, value: A): Effect.Effect<void, never, Stdio.Stdio> =>
  Effect.flatMap(Effect.orDie(Schema.encodeEffect(Schema.fromJsonString(schema))(value)), print)
