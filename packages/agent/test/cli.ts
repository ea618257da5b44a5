import { NodeServices } from "@effect/platform-node"
import { Console, Effect, Exit, Layer, Runtime, Sink, Stdio } from "effect"
import * as Cli from "../src/Cli.ts"

const collect = (into: Array<string>) => {
  const take = (chunk: string | Uint8Array) => Effect.sync(() => void into.push(chunk.toString()))
  return Sink.forEach(take)
}

/** Runs a command line; gives what it says, where, and its exit code. */
export const cli = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const [stdout, stderr]: [Array<string>, Array<string>] = [[], []]
  const stdio = Stdio.layerTest({ stdout: () => collect(stdout), stderr: () => collect(stderr) })
  const say = (...parts: ReadonlyArray<unknown>) => void stderr.push(`${parts.join(" ")}\n`)
  const exit = yield* Cli.run(args).pipe(
    Effect.provideService(Console.Console, { ...globalThis.console, log: say, error: say }),
    Effect.provide(Layer.merge(NodeServices.layer, stdio).pipe(Layer.provideMerge(NodeServices.layer))),
    Effect.exit
  )
  let code = 0
  Runtime.defaultTeardown(exit, (exitCode) => {
    code = exitCode
  })
  if (Exit.hasDies(exit)) yield* exit
  return { code, stdout: stdout.join(""), stderr: stderr.join("") }
})
