import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Identity } from "@gantry/libp2p"
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys"
import { Effect, FileSystem, Layer, Redacted } from "effect"

const withDirectory = <A, E>(
  use: (directory: string, fs: FileSystem.FileSystem) => Effect.Effect<A, E, NodeServices.NodeServices>
) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    return yield* use(yield* fs.makeTempDirectoryScoped(), fs)
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

/** A process that starts with the identity in a file. */
const start = (path: string) => Effect.provide(Identity.Identity, Layer.fresh(Identity.layer(path)))

const reasonOf = (path: string) => Effect.map(Effect.flip(start(path)), ({ reason }) => reason)

const newKey = (type: "Ed25519" | "secp256k1") =>
  Effect.promise(async () =>
    privateKeyToProtobuf(await (type === "Ed25519" ? generateKeyPair(type) : generateKeyPair(type)))
  )

describe("Identity", () => {
  it.effect("creates a key that only its owner can read, with its directories, and nothing beside it", () =>
    withDirectory((directory, fs) =>
      Effect.gen(function* () {
        const path = `${directory}/a/b/key`
        yield* start(path)
        assert.strictEqual((yield* fs.stat(path)).mode & 0o777, 0o600)
        assert.strictEqual((yield* fs.stat(`${directory}/a/b`)).mode & 0o777, 0o700)
        assert.deepStrictEqual(yield* fs.readDirectory(`${directory}/a/b`), ["key"])
      })
    )
  )

  it.effect("is the same at each start, and readable for every libp2p", () =>
    withDirectory((directory, fs) =>
      Effect.gen(function* () {
        const path = `${directory}/key`
        const first = yield* start(path)
        const second = yield* start(path)
        assert.strictEqual(first.peerId, second.peerId)
        const kept = privateKeyFromProtobuf(yield* fs.readFile(path))
        assert.isTrue(kept.equals(Redacted.value(first.privateKey)))
        assert.strictEqual(kept.publicKey.toString(), first.peerId)
      })
    )
  )

  it.effect("is one and the same for all who start at once", () =>
    withDirectory((directory, fs) =>
      Effect.gen(function* () {
        const identities = yield* Effect.forEach(Array.from({ length: 20 }), () => start(`${directory}/new/key`), {
          concurrency: "unbounded"
        })
        assert.strictEqual(new Set(identities.map(({ peerId }) => peerId)).size, 1)
        assert.deepStrictEqual(yield* fs.readDirectory(`${directory}/new`), ["key"])
      })
    )
  )

  it.effect("takes a key that another libp2p has written", () =>
    withDirectory((directory, fs) =>
      Effect.gen(function* () {
        const path = `${directory}/key`
        const key = yield* newKey("Ed25519")
        yield* fs.writeFile(path, key, { mode: 0o400 })
        assert.strictEqual((yield* start(path)).peerId, privateKeyFromProtobuf(key).publicKey.toString())
      })
    )
  )

  it.effect("refuses a key that others have access to", () =>
    withDirectory((directory, fs) =>
      Effect.gen(function* () {
        const path = `${directory}/key`
        yield* start(path)
        for (const mode of [0o640, 0o604, 0o660]) {
          yield* fs.chmod(path, mode)
          const error = yield* Effect.flip(start(path))
          assert.strictEqual(error.reason, "Exposed")
          assert.include(error.message, path)
          assert.include(error.message, mode.toString(8))
        }
      })
    )
  )

  it.effect("refuses what is no Ed25519 key, and leaves it as it is", () =>
    withDirectory((directory, fs) =>
      Effect.gen(function* () {
        const path = `${directory}/key`
        const key = yield* newKey("Ed25519")
        const damaged = key.map((byte, index) => (index === 10 ? byte ^ 1 : byte))
        const cases: ReadonlyArray<readonly [Uint8Array, Identity.IdentityError["reason"]]> = [
          [new Uint8Array(), "Corrupt"],
          [key.subarray(0, 40), "Corrupt"],
          [damaged, "Corrupt"],
          [new TextEncoder().encode("-----BEGIN PRIVATE KEY-----"), "Corrupt"],
          [new Uint8Array(20_000), "Corrupt"],
          [yield* newKey("secp256k1"), "WrongKeyType"]
        ]
        for (const [content, reason] of cases) {
          yield* fs.writeFile(path, content, { mode: 0o600 })
          assert.strictEqual(yield* reasonOf(path), reason)
          assert.deepStrictEqual(Uint8Array.from(yield* fs.readFile(path)), Uint8Array.from(content))
        }
      })
    )
  )

  it.effect("says why a file cannot be read or created", () =>
    withDirectory((directory, fs) =>
      Effect.gen(function* () {
        assert.strictEqual(yield* reasonOf(directory), "Unreadable")
        yield* fs.writeFileString(`${directory}/file`, "")
        assert.strictEqual(yield* reasonOf(`${directory}/file/key`), "Unreadable")
        yield* fs.symlink(`${directory}/nowhere/key`, `${directory}/dangling`)
        assert.strictEqual(yield* reasonOf(`${directory}/dangling`), "NotCreated")
      })
    )
  )

  it.effect("keeps the private key out of what is printed", () =>
    Effect.gen(function* () {
      const identity = yield* Identity.make
      const { peerId } = identity
      assert.deepStrictEqual(JSON.parse(JSON.stringify(identity)), { peerId, privateKey: "<redacted:identity>" })
      assert.strictEqual(String(identity.privateKey), "<redacted:identity>")
    })
  )
})
