/**
 * Commits two blobs, then stops half-way through a third, and says so. It
 * waits to be killed.
 */
import { NodeServices } from "@effect/platform-node"
import { BlobStore, ImageLayout } from "@gantry/oci"
import { Console, Effect, Layer } from "effect"
import { bytesOf, putBlob } from "./bytes.ts"

const directory = process.argv[2] ?? ""

const main = Effect.gen(function* () {
  yield* putBlob(bytesOf(1, 300_000))
  yield* putBlob(bytesOf(2, 300_000))
  const third = bytesOf(3, 300_000)
  const { writer } = yield* BlobStore.BlobStore
  const { append } = yield* writer(BlobStore.digestOf(third))
  yield* append(third.subarray(0, 150_000))
  yield* Console.log("half-way")
  return yield* Effect.never
})

// Keeps the process alive while nothing happens.
process.stdin.resume()
Effect.runFork(
  main.pipe(Effect.scoped, Effect.provide(ImageLayout.layer({ directory }).pipe(Layer.provide(NodeServices.layer))))
)
