/**
 * `npm run simulate -- --nodes 40 --seeds 1..300`: runs seeds, tells what they
 * came to, and fails if anything happened that must not.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Plan from "./Plan.ts"
import * as Report from "./Report.ts"
import * as Simulation from "./Simulation.ts"
import * as Summary from "./Summary.ts"
import * as Timeline from "./Timeline.ts"

/** Seeds in which something happened that must not; the report is out already. */
class Violated extends Schema.TaggedError<Violated>("@gantry/simulation/Violated")("Violated", {
  seeds: Schema.Array(Schema.Int)
}) {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return `invariants did not hold in seeds ${this.seeds.join(", ")}`
  }
}

const seedsOf = (text: string): ReadonlyArray<number> => {
  const [, first = "", last = first] = /^(\d+)(?:\.\.(\d+))?$/.exec(text) ?? []
  if (first === "") return []
  return Array.from({ length: Math.max(0, Number(last) - Number(first) + 1) }, (_, index) => Number(first) + index)
}

const simulate = Command.make(
  "simulate",
  {
    nodes: Flag.Int("nodes").pipe(Flag.withDefault(40), Flag.withDescription("Nodes of each cluster")),
    seeds: Flag.String("seeds").pipe(Flag.withDefault("1..300"), Flag.withDescription("One seed, or a range A..B")),
    report: Flag.String("report").pipe(Flag.optional, Flag.withDescription("Writes a page about the last seed")),
    timeline: Flag.Boolean("timeline").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Prints the timeline of every seed")
    )
  },
  Effect.fnUntraced(function* ({ nodes, report, seeds, timeline }) {
    const summary = Summary.make()
    for (const seed of seedsOf(seeds)) {
      const result = yield* Effect.flatMap(Plan.make(seed, { nodes }), Simulation.run)
      Summary.add(summary, result)
      // A simulation never lets go of the thread: here a signal gets through.
      yield* Effect.yieldNow
      const isBad = result.violations.length > 0
      if (timeline || isBad) yield* Console.log(`seed ${seed}\n${Timeline.format(result.events)}`)
      for (const { detail, invariant } of result.violations) yield* Console.log(`  ${invariant}: ${detail}`)
      if (Option.isSome(report)) {
        const files = yield* FileSystem.FileSystem
        yield* files.writeFileString(report.value, Report.render(result))
      }
    }
    yield* Console.log(Summary.format(summary))
    if (summary.failed.length > 0) return yield* new Violated({ seeds: summary.failed })
  })
).pipe(Command.withDescription("Simulates whole clusters that share blobs while much goes wrong"))

Command.run(simulate, { version: "0.1.0" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
