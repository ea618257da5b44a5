/**
 * `npm run bench`: measures what coordination costs beside the bare transport.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { connect } from "./Connecting.ts"
import * as Figures from "./Figures.ts"
import { local } from "./Local.ts"
import { memory } from "./Memory.ts"
import * as Requests from "./Requests.ts"
import { rival } from "./Rival.ts"

/** By name, in the order in which they run. */
const cases = {
  echo: Requests.echo,
  intent: Requests.intent,
  "intent-10k": (figures: Figures.Figures, rounds: number) =>
    Effect.andThen(Requests.manyIntents(figures, rounds), Requests.newDigests(figures, rounds)),
  churn: Requests.churn,
  "please-pull": Requests.batches,
  connect,
  local,
  memory,
  go: rival
}
const names = Object.keys(cases) as ReadonlyArray<keyof typeof cases>

const bench = Command.make(
  "bench",
  {
    only: Flag.Literals("only", names).pipe(Flag.optional, Flag.withDescription("Runs one case")),
    json: Flag.Boolean("json").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Ends with all figures as one line of JSON")
    ),
    rounds: Flag.Int("rounds").pipe(
      Flag.withDefault(7),
      Flag.withDescription("How often each figure is taken; the median counts")
    )
  },
  Effect.fnUntraced(function* ({ json, only, rounds }) {
    const figures = Figures.make()
    for (const name of Option.match(only, { onNone: () => names, onSome: (name) => [name] })) {
      yield* Console.error(`${name} …`)
      yield* Effect.scoped(cases[name](figures, rounds))
    }
    yield* Console.log(Figures.format(figures))
    if (json) yield* Console.log(JSON.stringify({ ratios: figures.ratios, medians: figures.medians() }))
  })
).pipe(Command.withDescription("Measures what coordination costs beside the bare transport"))

Command.run(bench, { version: "0.1.0" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
