import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import type { Digest } from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as BlobStore from "../src/BlobStore.ts"
import * as Fills from "../src/Fills.ts"
import * as ImageLayout from "../src/ImageLayout.ts"

const bytes = Buffer.alloc(600_000, "the bytes of a layer, which repeat ")
const digest = BlobStore.digestOf(bytes)
const whole = { offset: 0, length: bytes.length }

const disk = Layer.unwrap(
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    return ImageLayout.layer({ directory: yield* fs.makeTempDirectoryScoped({ prefix: "gantry-fills-" }) })
  })
).pipe(Layer.provide(NodeServices.layer), Layer.orDie)

const stores = { memory: BlobStore.layerMemory(), disk }

const test = (name: string, body: Effect.Effect<void, unknown, BlobStore.BlobStore | Fills.Fills | Scope.Scope>) => {
  for (const [place, store] of Object.entries(stores)) {
    it.effect(`${name} (${place})`, () => Effect.provide(body, Layer.provide(Fills.layer, store), { local: true }))
  }
}

/** A writer, and the end of its scope. */
const write = Effect.fnUntraced(function* (of: Digest, options?: BlobStore.WriterOptions) {
  const store = yield* BlobStore.BlobStore
  const scope = yield* Scope.make()
  const writer = yield* Scope.provide(store.writer(of, options), scope)
  return { writer, end: Scope.close(scope, Exit.void) }
})

/** Reads in the background; tells how much came, and once so much has come. */
const follow = Effect.fnUntraced(function* (fill: Fills.Fill, range = whole, mark = Number.POSITIVE_INFINITY) {
  const pieces: Array<Buffer> = []
  const marked = yield* Deferred.make<void>()
  const length = () => pieces.reduce((sum, piece) => sum + piece.length, 0)
  const reading = yield* Effect.forkChild(
    fill.runForEach(range, (piece) => {
      pieces.push(Buffer.from(piece))
      return length() >= mark ? Deferred.succeed(marked, undefined) : Effect.void
    }),
    { startImmediately: true }
  )
  return { reading, marked: Deferred.await(marked), bytes: () => Buffer.concat(pieces) }
})

const fillOf = (of: Digest) =>
  Effect.flatMap(Fills.Fills, (fills) => Effect.flatten(Effect.map(fills.lookup(of), Effect.fromOption)))

describe("a fill", () => {
  test(
    "is read while it grows, but for its last 64 KiB, which wait for the digest",
    Effect.gen(function* () {
      const { end, writer } = yield* write(digest, { size: bytes.length })
      const fill = yield* fillOf(digest)
      const early = bytes.length - Fills.heldBack
      const reader = yield* follow(fill, whole, early)
      yield* writer.append(bytes.subarray(0, 100_000))
      yield* writer.append(bytes.subarray(100_000))
      yield* reader.marked
      assert.strictEqual(reader.bytes().length, early)
      yield* writer.commit
      yield* end
      yield* Fiber.join(reader.reading)
      assert.isTrue(reader.bytes().equals(bytes))
    })
  )

  test(
    "keeps 64 KiB of what has come while its size is not known",
    Effect.gen(function* () {
      const { writer } = yield* write(digest)
      const fill = yield* fillOf(digest)
      const reader = yield* follow(fill, whole, 100_000 - Fills.heldBack)
      yield* writer.append(bytes.subarray(0, 100_000))
      yield* reader.marked
      assert.strictEqual(reader.bytes().length, 100_000 - Fills.heldBack)
      yield* writer.announce(bytes.length)
      assert.deepStrictEqual(yield* fill.size, Option.some(bytes.length))
      yield* Fiber.interrupt(reader.reading)
      const all = yield* follow(fill, { offset: 0, length: 100_000 })
      yield* Fiber.join(all.reading)
      assert.isTrue(all.bytes().equals(bytes.subarray(0, 100_000)))
    })
  )

  test(
    "never hands out the end of bytes that turn out to be wrong",
    Effect.gen(function* () {
      const wrong = Buffer.concat([bytes.subarray(0, -1), Buffer.from("!")])
      const { end, writer } = yield* write(digest, { size: bytes.length })
      const reader = yield* follow(yield* fillOf(digest))
      yield* writer.append(wrong)
      yield* Effect.flip(writer.commit)
      yield* writer.restart
      const error = yield* Effect.flip(Fiber.join(reader.reading))
      assert.strictEqual(error._tag === "FillError" && error.reason, "Restarted")
      assert.isAtMost(reader.bytes().length, bytes.length - Fills.heldBack)
      yield* end
    })
  )

  test(
    "goes on for a reader that had nothing yet when it begins anew",
    Effect.gen(function* () {
      const { end, writer } = yield* write(digest)
      const reader = yield* follow(yield* fillOf(digest))
      yield* writer.append(bytes.subarray(0, 1000))
      yield* writer.restart
      yield* writer.append(bytes)
      yield* writer.commit
      yield* end
      yield* Fiber.join(reader.reading)
      assert.isTrue(reader.bytes().equals(bytes))
    }).pipe(Effect.timeout("5 seconds"))
  )

  test(
    "fails its readers when its writer gives up",
    Effect.gen(function* () {
      const { end, writer } = yield* write(digest, { size: bytes.length })
      const reader = yield* follow(yield* fillOf(digest))
      yield* writer.append(bytes.subarray(0, 200_000))
      yield* end
      const error = yield* Effect.flip(Fiber.join(reader.reading))
      assert.strictEqual(error._tag === "FillError" && error.reason, "Ended")
      assert.deepStrictEqual(yield* (yield* Fills.Fills).lookup(digest), Option.none())
    })
  )

  test(
    "is read from any byte on, in part",
    Effect.gen(function* () {
      const { end, writer } = yield* write(digest, { size: bytes.length })
      const fill = yield* fillOf(digest)
      const reader = yield* follow(fill, { offset: 300_000, length: 250_000 })
      const reached = yield* Effect.forkChild(fill.reaches(300_000), { startImmediately: true })
      yield* writer.append(bytes.subarray(0, 300_000))
      assert.isUndefined(reached.pollUnsafe())
      yield* writer.append(bytes.subarray(300_000))
      yield* Fiber.join(reached)
      yield* writer.commit
      yield* end
      yield* Fiber.join(reader.reading)
      assert.isTrue(reader.bytes().equals(bytes.subarray(300_000, 550_000)))
    })
  )

  test(
    "from the origin is found before one from a peer, and is waited for until it begins",
    Effect.gen(function* () {
      const fills = yield* Fills.Fills
      const waiting = yield* Effect.forkChild(fills.begun(digest, "origin"), { startImmediately: true })
      yield* write(digest, { source: "peer" })
      assert.strictEqual((yield* fillOf(digest)).source, "peer")
      assert.isUndefined(waiting.pollUnsafe())
      const origin = yield* write(digest, { source: "origin" })
      assert.strictEqual(yield* Fiber.join(waiting), yield* fillOf(digest))
      assert.strictEqual((yield* fillOf(digest)).source, "origin")
      yield* origin.end
      assert.strictEqual((yield* fillOf(digest)).source, "peer")
    })
  )
})
