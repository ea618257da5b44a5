/**
 * Opens a layout and puts a blob of 300,000 bytes into it, and says what came
 * of it: the reason of the error, and its message.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { ImageLayout } from "@gantry/oci"
import { Console, Effect, Layer } from "effect"
import { bytesOf, putBlob } from "./bytes.ts"

putBlob(bytesOf(1, 300_000)).pipe(
  Effect.provide(ImageLayout.layer({ directory: process.argv[2] ?? "" })),
  Effect.match({
    onSuccess: () => "Stored",
    onFailure: ({ _tag, message, reason }) => `${_tag} ${reason} ${message}`
  }),
  Effect.flatMap(Console.log),
  Effect.provide(Layer.fresh(NodeServices.layer)),
  NodeRuntime.runMain
)
