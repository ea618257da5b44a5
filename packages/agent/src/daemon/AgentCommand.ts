/**
 * `gantry agent`: runs the agent until it is told to stop.
 */
import { Command } from "effect/cli"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as LiveSettings from "../config/LiveSettings.ts"
import * as SettingsFlags from "../config/SettingsFlags.ts"
import { printError } from "../runtime/Output.ts"
import * as Signals from "../runtime/Signals.ts"
import * as Agent from "./Agent.ts"
import * as Logging from "./Logging.ts"

/** The agent did not start; what there is to say has been said. */
export class AgentFailed extends Data.TaggedError("AgentFailed")<{ readonly cause: unknown }> {
  override get message(): string {
    return "the agent did not start"
  }
}

/** `gantry agent`. */
export const agent = Command.make(
  "agent",
  SettingsFlags.flags,
  Effect.fnUntraced(function* (flags) {
    const settings = LiveSettings.layer(SettingsFlags.sourcesOf(flags)).pipe(
      Layer.tapError((error) => SettingsFlags.showProblems(error))
    )
    const program = Agent.layer.pipe(
      Layer.tapError((error) => printError(`gantry agent: ${error.message}`)),
      Layer.provide(Logging.layer),
      Layer.provide(settings)
    )
    yield* Signals.endAtSecond
    return yield* Layer.launch(program).pipe(
      Effect.mapError((cause) => new AgentFailed({ cause })),
      Effect.onInterrupt(() => Signals.isAsked)
    )
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Mirror registries for the container runtime of this machine, together with the other agents"
  ),
  Command.withExamples([
    { command: "gantry agent --config /etc/gantry/config.yaml", description: "As a service runs it" }
  ])
)
