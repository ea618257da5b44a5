import { assert, describe, it } from "@effect/vitest"
import { NodeId } from "@gantry/protocol"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { systemError } from "effect/PlatformError"
import * as Queue from "effect/Queue"
import * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import * as Progress from "../src/demo/Progress.ts"
import * as Screen from "../src/demo/Screen.ts"

const node = (number: number, changes: Partial<Progress.NodeProgress> = {}): Progress.NodeProgress => ({
  ...Progress.starting(NodeId.make(`node-${number}`)),
  ...changes
})

const half = { phase: "pulling", bytes: 50, totalBytes: 100, digests: 1, totalDigests: 4 } as const
const all = { phase: "done", bytes: 100, totalBytes: 100, digests: 4, totalDigests: 4, fromOrigin: 2 } as const

// biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
const control = /[\u0000-\u0009\u000b-\u001f\u007f]/

/** Collects what is written to a terminal, or to a file, in an environment. */
const screen = Effect.fnUntraced(function* (terminal: boolean, environment: Record<string, string> = {}) {
  const written: Array<string> = []
  const write = (chunk: string | Uint8Array) => Effect.sync(() => written.push(String(chunk)))
  const sink = Sink.forEach(write)
  const layer = Screen.layer("stdout").pipe(
    Layer.provide([
      Stdio.layerTest({ stdoutIsTerminal: Effect.succeed(terminal), stdout: () => sink }),
      Layer.succeed(
        Terminal.Terminal,
        Terminal.make({
          columns: Effect.succeed(60),
          rows: Effect.succeed(24),
          size: Queue.unbounded(),
          readInput: Queue.unbounded(),
          readLine: Effect.succeed(""),
          display: () => Effect.void
        })
      ),
      ConfigProvider.layer(ConfigProvider.fromEnv({ env: environment }))
    ])
  )
  const service = yield* Layer.build(layer)
  return { written, screen: yield* Effect.provide(Screen.Screen, service) }
})

const frame = (style: Progress.Style) =>
  Progress.lines({ nodes: [node(1, half), node(2, all), node(3, { phase: "failed" })], elapsedMillis: 1500 }, style)

describe("Progress", () => {
  it("shows a line per node, with how much of the image is there", () => {
    assert.deepStrictEqual(frame({ columns: 100, rows: 24, colours: false }), [
      "  1.5 s  1 of 3 nodes have everything, 1 failed, 150 B of 200 B are there",
      "  node-1  ██████████░░░░░░░░░░     50 B    1/4 digests",
      "  node-2  ████████████████████    100 B    4/4 digests, 2 from the origin",
      "  node-3  failed"
    ])
  })

  it("never wraps a line, and never draws more of them than the terminal has", () => {
    const nodes = Array.from({ length: 64 }, (_, index) => node(index + 1, index < 60 ? all : half))
    const lines = Progress.lines({ nodes, elapsedMillis: 0 }, { columns: 40, rows: 12, colours: false })
    assert.isBelow(lines.length, 12)
    for (const line of lines) assert.isBelow(line.length, 40)
    assert.include(lines[1], "node-61")
    assert.include(lines.at(-1), "and 56 more")
  })

  it("colours only where colours are wanted", () => {
    assert.match(frame({ columns: 80, rows: 24, colours: true }).join("\n"), control)
    assert.notMatch(frame({ columns: 80, rows: 24, colours: false }).join("\n"), control)
  })
})

describe("Screen", () => {
  it.effect("redraws in place in a terminal, and keeps printed lines above", () =>
    Effect.gen(function* () {
      const { screen: terminal, written } = yield* screen(true)
      yield* terminal.redraw(() => ["one", "two"])
      yield* terminal.print("news")
      yield* terminal.redraw(() => ["three"])
      assert.deepStrictEqual(written, ["one\ntwo\n", "\u001b[2A\u001b[Jnews\none\ntwo\n", "\u001b[2A\u001b[Jthree\n"])
    })
  )

  it.effect.each([
    ["a file", false, {}],
    ["a terminal with NO_COLOR", true, { NO_COLOR: "1" }],
    ["a terminal with CI", true, { CI: "true" }],
    ["a dumb terminal", true, { TERM: "dumb" }]
  ] as const)("writes plain lines to %s", ([, terminal, environment]) =>
    Effect.gen(function* () {
      const { screen: file, written } = yield* screen(terminal, environment)
      assert.isFalse(file.interactive)
      yield* file.redraw(frame)
      yield* file.print("news", "more")
      assert.deepStrictEqual(written, ["news\nmore\n"])
    })
  )

  it.effect("does not fail when nobody reads any more", () =>
    Effect.gen(function* () {
      const broken = Sink.fail(
        systemError({ _tag: "Unknown", module: "Stdio", method: "stdout", description: "EPIPE" })
      )
      yield* Effect.provide(
        Screen.Screen.use((screen) => screen.print("into the void")),
        Screen.layer("stdout").pipe(
          Layer.provide([Stdio.layerTest({ stdout: () => broken }), Layer.succeed(Terminal.Terminal, {} as never)])
        )
      )
    })
  )
})
