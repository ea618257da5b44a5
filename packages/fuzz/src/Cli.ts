/**
 * The command line of `npm run fuzz`.
 */
import * as NodeCrypto from "node:crypto"
import * as Console from "effect/Console"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Random from "effect/Random"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Coverage from "./Coverage.ts"
import * as Fuzzer from "./Fuzzer.ts"
import * as Input from "./Input.ts"
import * as Seeds from "./Seeds.ts"
import * as Target from "./Target.ts"

/** Inputs for which something did not hold; they have been shown. */
class Found extends Schema.TaggedError<Found>("@gantry/fuzz/Found")("Found", {
  findings: Schema.Array(Schema.String)
}) {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return this.findings.join("\n")
  }
}

/** There is nothing to be guided by. */
class NotInstrumented extends Schema.TaggedError<NotInstrumented>("@gantry/fuzz/NotInstrumented")(
  "NotInstrumented",
  {}
) {
  override get message(): string {
    return "the code does not count what it does; start this with `npm run fuzz`"
  }
}

const count = (name: string, what: string) =>
  Flag.Int(name).pipe(
    Flag.withDescription(what),
    Flag.filter(
      (value) => value > 0,
      () => "a number from 1"
    )
  )

const runs = count("runs", "Executions; 200,000 by default").pipe(Flag.withDefault(200_000))
const seconds = count("seconds", "Ends the run after so many seconds, if it still goes on").pipe(Flag.optional)
const seed = Flag.Int("seed").pipe(Flag.withDescription("What chance follows from; 1 by default"), Flag.withDefault(1))
const findings = Flag.Directory("findings").pipe(
  Flag.withDescription("Where inputs are saved that show something wrong; here by default"),
  Flag.withDefault(".")
)
const replay = Flag.File("replay", { mustExist: true }).pipe(
  Flag.withDescription("Executes one saved input, and tells what it means"),
  Flag.optional
)

const mebibytes = (bytes: number) => `${(bytes / 1_048_576).toFixed(1)} MiB`

/** The heap after a collection, where one can be asked for. */
const heapUsed = Effect.sync(() => {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
})

const describe = ({ corpus, executions, millis }: Fuzzer.Progress, coverage: Coverage.Coverage): string => {
  const { of, places } = coverage.reached()
  const pace = Math.round((executions / Math.max(1, millis)) * 1_000)
  return [
    `${executions.toLocaleString("en")} executions, ${pace.toLocaleString("en")} a second`,
    `${places} of ${of} places reached, ${corpus.length} inputs kept`,
    `${mebibytes(process.memoryUsage.rss())} resident`
  ].join("; ")
}

const save = Effect.fnUntraced(function* (directory: string, { input, what }: Fuzzer.Finding) {
  const files = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(directory, `finding-${NodeCrypto.hash("sha256", input, "hex").slice(0, 12)}`)
  yield* files.writeFile(file, input)
  yield* Console.log(`${what}\n  npm run fuzz -- --replay ${file}`)
})

/** Most inputs end in an error, and its stack would cost more than the rest; a replay has it. */
const withoutStacks = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const limit = Error.stackTraceLimit
      Error.stackTraceLimit = 0
      return limit
    }),
    () => effect,
    (limit) =>
      Effect.sync(() => {
        Error.stackTraceLimit = limit
      })
  )

const search = Effect.fnUntraced(function* (
  target: Target.Target,
  counters: ReadonlyArray<Coverage.Counters>,
  options: {
    readonly runs: number
    readonly seconds: Option.Option<number>
    readonly seed: number
    readonly findings: string
  }
) {
  if (counters.length === 0) return yield* new NotInstrumented()
  const coverage = Coverage.make(counters)
  const before = yield* heapUsed
  const result = yield* Fuzzer.run({
    target,
    coverage,
    seeds: Seeds.inputs,
    runs: options.runs,
    millis: Option.getOrUndefined(Option.map(options.seconds, (seconds) => seconds * 1_000)),
    report: (progress) => Console.log(describe(progress, coverage))
  }).pipe(withoutStacks, Random.withSeed(options.seed))
  const after = yield* heapUsed

  for (const finding of result.findings) yield* save(options.findings, finding)
  yield* Console.log(`seed ${options.seed}: ${describe(result, coverage)}`)
  yield* Console.log(
    `heap ${mebibytes(before)} before, ${mebibytes(after)} after; ` +
      `at most ${mebibytes(process.resourceUsage().maxRSS * 1_024)} resident`
  )
  yield* Console.log(`findings: ${result.findings.length}`)
  if (result.findings.length > 0) return yield* new Found({ findings: result.findings.map(({ what }) => what) })
})

const execute = Effect.fnUntraced(function* (target: Target.Target, file: string) {
  const files = yield* FileSystem.FileSystem
  const bytes = yield* files.readFile(file)
  const { chunks, situation } = Input.parse(bytes)
  yield* Console.log(
    Object.entries(situation)
      .map(([name, value]) => `${name}: ${value}`)
      .join("\n")
  )
  yield* Console.log(`chunks: ${chunks.map((chunk) => Buffer.from(chunk).toString("hex")).join(" ") || "none"}`)
  const failure = yield* Effect.sync(() => Target.failureOf(target, bytes))
  if (Option.isNone(failure)) return yield* Console.log("every invariant holds")
  yield* Console.log(failure.value.error instanceof Error ? failure.value.error.stack : failure.value.error)
  return yield* new Found({ findings: [failure.value.what] })
})

/**
 * Runs a command line, everything after the name of the program, against a
 * subject whose code counts what it does.
 */
export const run = (subject: Target.Subject, counters: ReadonlyArray<Coverage.Counters>) => {
  const fuzz = Command.make("fuzz", { findings, replay, runs, seconds, seed }, ({ replay, ...options }) =>
    Effect.suspend(() => {
      const target = Target.make(subject)
      return Option.match(replay, {
        onNone: () => search(target, counters, options),
        onSome: (file) => execute(target, file)
      })
    })
  ).pipe(
    Command.withDescription("Feeds frames, envelopes, the server and the client with bytes that nobody would send")
  )
  return Command.runWith(fuzz, { version: "0.1.0" })
}
