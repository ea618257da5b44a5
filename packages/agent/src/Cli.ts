/**
 * The command line of `gantry`.
 */

import { architecture } from "@gantry/node/ImagePull"
import { RegistryClient } from "@gantry/oci"
import { isRegistry, isRepository, type Registry } from "@gantry/protocol"
import { Argument, CliConfig, CliError, Command, Flag, GlobalFlag } from "effect/cli"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import packageJson from "../package.json" with { type: "json" }
import { config } from "./config/ConfigCommand.ts"
import { containerd } from "./containerd/ContainerdCommand.ts"
import { agent } from "./daemon/AgentCommand.ts"
import * as Demo from "./demo/Demo.ts"
import * as DemoImage from "./demo/DemoImage.ts"
import * as ImagePacker from "./demo/ImagePacker.ts"
import type { ExternalImage } from "./demo/Origin.ts"
import * as Report from "./demo/Report.ts"
import * as Screen from "./demo/Screen.ts"
import { doctor } from "./doctor/DoctorCommand.ts"

/** A demo run whose report tells of problems. They have been shown. */
export class DemoFailed extends Schema.TaggedError<DemoFailed>("@gantry/agent/DemoFailed")("DemoFailed", {
  problems: Schema.Array(Schema.String)
}) {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return this.problems.join("\n")
  }
}

const nodes = Flag.Int("nodes").pipe(
  Flag.withDescription("How many nodes take the image, from 2 to 64; 8 by default"),
  Flag.filter(
    (count) => count >= 2 && count <= 64,
    () => "a number from 2 to 64"
  ),
  Flag.withDefault(8)
)

const image = Flag.String("image").pipe(
  Flag.withDescription(
    "Take this image of a real registry, <registry>/<name>:<tag>, instead of one packed on the spot"
  ),
  Flag.mapEffect((text) => Effect.mapError(Effect.fromResult(parseImageName(text)), invalid("image", text))),
  Flag.optional
)

const origin = Flag.String("origin").pipe(
  Flag.withDescription(
    "The URL of the registry to contact for --image; https://<registry>, or http on this machine, by default"
  ),
  Flag.mapEffect((text) => Effect.mapError(Effect.fromResult(parseOrigin(text)), invalid("origin", text))),
  Flag.optional
)

const killPuller = Flag.Boolean("kill-puller").pipe(
  Flag.withDescription("Kill a node in the middle of the layer that it pulls; the others take over"),
  Flag.withDefault(false)
)

const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print the report as one JSON document, and everything else to standard error"),
  Flag.withDefault(false)
)

const keep = Flag.String("keep").pipe(
  Flag.withDescription("Leave the nodes' image layouts in this directory, each under the name of its node"),
  Flag.withMetavar("directory"),
  Flag.optional
)

const invalid = (option: string, value: string) => (expected: string) =>
  new CliError.InvalidValue({ option, value, expected, kind: "flag" })

/** An image by its name. */
export interface ImageName {
  readonly registry: Registry
  readonly repository: ExternalImage["repository"]
  readonly tag: RegistryClient.Tag
}

/** Reads `<registry>/<name>:<tag>`. Nothing is taken for granted: no registry, and no tag. */
export const parseImageName = (text: string): Result.Result<ImageName, string> => {
  const [, registry = "", repository = "", tag = ""] = /^([^/]+)\/(.+):([^/:]+)$/.exec(text) ?? []
  return isRegistry(registry) && isRepository(repository) && Schema.is(RegistryClient.Tag)(tag)
    ? Result.succeed({ registry, repository, tag })
    : Result.fail("<registry>/<name>:<tag>, for example registry.example.com/library/app:v1")
}

/** Reads the URL of a registry. */
export const parseOrigin = (text: string): Result.Result<{ registry: Registry; plainHttp: boolean }, string> => {
  const url = URL.parse(text)
  return url !== null &&
    (url.protocol === "http:" || url.protocol === "https:") &&
    `${url.origin}/` === url.href &&
    isRegistry(url.host)
    ? Result.succeed({ registry: url.host, plainHttp: url.protocol === "http:" })
    : Result.fail("http://<host>[:<port>] or https://<host>[:<port>], without a path")
}

const misused = (message: string) =>
  new CliError.ShowHelp({
    commandPath: ["gantry", "demo"],
    errors: [new CliError.UserError({ cause: message, userMessage: message })]
  })

const demo = Command.make(
  "demo",
  { nodes, image, origin, killPuller, json, keep },
  Effect.fnUntraced(function* (flags) {
    if (Option.isNone(flags.image) && Option.isSome(flags.origin)) {
      return yield* misused("--origin needs --image: it says where that image is")
    }
    if (Option.isSome(flags.image) && flags.killPuller) {
      return yield* misused(
        "--kill-puller needs the demo's own registry, which can stop a layer in its middle; leave out --image"
      )
    }
    const source = yield* Option.match(flags.image, {
      onNone: () =>
        Effect.map(DemoImage.layers, (layers) => Demo.Source.Embedded({ layers, killPuller: flags.killPuller })),
      onSome: (name) => {
        const contacted = Option.getOrElse(flags.origin, () => ({ registry: name.registry, plainHttp: undefined }))
        return Effect.succeed(Demo.Source.External({ image: { ...name, ...contacted } }))
      }
    })
    yield* show(Demo.run({ nodes: flags.nodes, source, keep: flags.keep }), flags.json).pipe(
      Effect.provide(Screen.layer(flags.json ? "stderr" : "stdout"))
    )
  })
).pipe(
  Command.withDescription(
    "Roll an image out to a cluster of processes on this machine, and count how often it leaves the registry"
  ),
  Command.withExamples([
    { command: "gantry demo --nodes 16", description: "A larger cluster" },
    { command: "gantry demo --kill-puller", description: "A node dies while all others wait for it" },
    {
      command: "gantry demo --image registry.example.com/library/app:v1",
      description: "An image of a real registry"
    }
  ])
)

/** Runs the demo, shows its report, and fails if that tells of problems. */
const show = <E extends { readonly message: string }, R>(run: Effect.Effect<Report.Report, E, R>, asJson: boolean) =>
  Effect.gen(function* () {
    const screen = yield* Screen.Screen
    const report = yield* run.pipe(
      Effect.mapError((error) => new CliError.UserError({ cause: error, userMessage: error.message })),
      Effect.onInterrupt(() => screen.print("interrupted: the nodes are ended and their files removed"))
    )
    yield* screen.print("", ...Report.render(report))
    if (asJson) yield* printJson(report)
    if (report.problems.length > 0) {
      yield* screen.print("", "NOT AS IT SHOULD BE", ...report.problems.map((problem) => `  ${problem}`))
      return yield* new DemoFailed({ problems: report.problems })
    }
  })

const printJson = Effect.fnUntraced(function* (report: Report.Report) {
  const stdio = yield* Stdio.Stdio
  const text = yield* Effect.orDie(Schema.encodeEffect(Schema.fromJsonString(Report.Report))(report))
  yield* Effect.orDie(Stream.run(Stream.succeed(`${text}\n`), stdio.stdout({ endOnDone: false })))
})

const pack = Command.make(
  "pack",
  {
    directory: Argument.String("directory").pipe(Argument.withDescription("Where to write the image layout")),
    tag: Flag.String("tag").pipe(Flag.withDescription("The name of the image in the layout"), Flag.withDefault("v1"))
  },
  Effect.fnUntraced(
    function* ({ directory, tag }) {
      const stdio = yield* Stdio.Stdio
      const layers = yield* DemoImage.layers
      const { blobs, root } = yield* ImagePacker.pack({ directory, tag, layers, architecture })
      const summary = `${root.digest} ${Report.formatBytes(Report.totalSize(blobs))}\n`
      yield* Stream.run(Stream.succeed(summary), stdio.stdout({ endOnDone: false }))
    },
    Effect.mapError((error) => new CliError.UserError({ cause: error, userMessage: error.message }))
  )
).pipe(Command.withDescription("Pack the demo's image into an image layout"))

const gantry = Command.make("gantry").pipe(
  Command.withDescription("One machine pulls each layer of an image; all others have it from there"),
  Command.withSubcommands([agent, config, containerd, doctor, demo, pack])
)

const runCommand = Command.runWith(gantry, { version: packageJson.version })

/** `--log-level` is a setting of the agent here, and no flag of every command. */
const builtIns = GlobalFlag.BuiltIns.filter((flag) => flag !== GlobalFlag.LogLevel)

/** Runs a command line: everything after the name of the program. */
export const run = (args: ReadonlyArray<string>) =>
  Effect.provideService(runCommand(args), CliConfig.CliConfig, CliConfig.make({ builtIns }))
