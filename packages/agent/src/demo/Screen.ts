/**
 * Where the demo writes: a terminal, in which it redraws its progress, or
 * something that keeps lines.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Semaphore from "effect/Semaphore"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import type { Style } from "./Progress.ts"

/** Text for whoever watches. */
export class Screen extends Context.Service<
  Screen,
  {
    /** Whether somebody watches a terminal. Otherwise what is written holds no control characters. */
    readonly interactive: boolean
    /** Writes lines that stay. */
    readonly print: (...lines: ReadonlyArray<string>) => Effect.Effect<void>
    /** Writes lines that the next call replaces; nothing where nobody watches. */
    readonly redraw: (lines: (style: Style) => ReadonlyArray<string>) => Effect.Effect<void>
    /** Lets the lines stay that were drawn last. */
    readonly settle: Effect.Effect<void>
  }
>()("@gantry/agent/Screen") {}

const eraseUp = (lines: number) => (lines === 0 ? "" : `\u001b[${lines}A\u001b[J`)

/** What a terminal has if it does not tell. */
const defaultStyle = { columns: 80, rows: 24 }

const make = Effect.fnUntraced(function* (output: "stdout" | "stderr") {
  const stdio = yield* Stdio.Stdio
  const terminal = yield* Terminal.Terminal
  const interactive = (yield* output === "stdout" ? stdio.stdoutIsTerminal : stdio.stderrIsTerminal) && (yield* watched)
  const lock = yield* Semaphore.make(1)
  let drawn: ReadonlyArray<string> = []

  const write = (text: string): Effect.Effect<void, PlatformError> =>
    Stream.run(Stream.succeed(text), stdio[output]({ endOnDone: false }))
  const join = (lines: ReadonlyArray<string>) => lines.map((line) => `${line}\n`).join("")
  // A reader that went away, as `head` does, is no reason to fail.
  const locked = (effect: Effect.Effect<unknown, PlatformError>) => lock.withPermit(Effect.ignore(effect))

  return Screen.of({
    interactive,
    print: (...lines) => locked(Effect.suspend(() => write(eraseUp(drawn.length) + join(lines) + join(drawn)))),
    redraw: (lines) =>
      interactive
        ? locked(
            Effect.gen(function* () {
              const columns = (yield* terminal.columns) || defaultStyle.columns
              const rows = (yield* terminal.rows) || defaultStyle.rows
              const before = drawn.length
              drawn = lines({ columns, rows, colours: true })
              yield* write(eraseUp(before) + join(drawn))
            })
          )
        : Effect.void,
    settle: locked(Effect.sync(() => (drawn = [])))
  })
})

/** False where the environment asks for plain text. A CI log keeps every redraw, so it counts as a file. */
const watched = Effect.gen(function* () {
  const noColor = yield* Config.option(Config.String("NO_COLOR"))
  const ci = yield* Config.option(Config.String("CI"))
  const term = yield* Config.option(Config.String("TERM"))
  return Option.isNone(noColor) && Option.isNone(ci) && !Option.contains(term, "dumb")
}).pipe(Effect.orElseSucceed(() => false))

/** Writes to one of the process's outputs. */
export const layer = (output: "stdout" | "stderr"): Layer.Layer<Screen, never, Stdio.Stdio | Terminal.Terminal> =>
  Layer.effect(Screen, make(output))
