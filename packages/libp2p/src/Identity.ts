/**
 * Who this node is to its peers.
 */

import { PeerId } from "@gantry/protocol"
import {
  generateKeyPair,
  generateKeyPairFromSeed,
  privateKeyFromProtobuf,
  privateKeyToProtobuf
} from "@libp2p/crypto/keys"
import type { Ed25519PrivateKey } from "@libp2p/interface"
import { peerIdFromPrivateKey } from "@libp2p/peer-id"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * Why there is no identity. `Unreadable`: the file cannot be read. `Exposed`:
 * others than its owner have access to it. `Corrupt`: it holds no key, or a
 * damaged one. `WrongKeyType`: the key is not of Ed25519. `NotCreated`: there
 * was no file, and none could be written.
 */
export class IdentityError extends Schema.TaggedError<IdentityError>("@gantry/libp2p/IdentityError")("IdentityError", {
  reason: Schema.Literals(["Unreadable", "Exposed", "Corrupt", "WrongKeyType", "NotCreated"]),
  path: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    const what = this.reason === "NotCreated" ? "cannot create" : "cannot use"
    return `${what} the identity in ${this.path}: ${this.detail}`
  }
}

/** The key pair of this node, and the peer id that follows from it. */
export class Identity extends Context.Service<
  Identity,
  {
    readonly peerId: PeerId
    readonly privateKey: Redacted.Redacted<Ed25519PrivateKey>
  }
>()("@gantry/libp2p/Identity") {}

/** The permission bits of everyone but the owner. */
const othersMode = 0o077

/** An Ed25519 key has 68 bytes, the largest key of another type that is told apart here a few thousand. */
const maxFileBytes = 16_384

const fromKey = (key: Ed25519PrivateKey): Identity["Service"] =>
  Identity.of({
    peerId: PeerId.make(peerIdFromPrivateKey(key).toString()),
    privateKey: Redacted.make(key, { label: "identity" })
  })

const generate = Effect.promise(() => generateKeyPair("Ed25519"))

/** A new identity at each use, kept nowhere. */
export const make: Effect.Effect<Identity["Service"]> = Effect.map(generate, fromKey)

const decode = Effect.fnUntraced(function* (path: string, bytes: Uint8Array) {
  const fail = (reason: IdentityError["reason"], detail: string) => new IdentityError({ reason, path, detail })
  const key = yield* Effect.try({
    try: () => privateKeyFromProtobuf(bytes),
    catch: () => fail("Corrupt", "it holds no private key")
  })
  if (key.type !== "Ed25519") return yield* fail("WrongKeyType", `its key is of ${key.type}, not of Ed25519`)
  // The file holds the public key beside the private one; with the wrong one every handshake would fail.
  const derived = yield* Effect.promise(() => generateKeyPairFromSeed("Ed25519", key.raw.subarray(0, 32)))
  return derived.publicKey.equals(key.publicKey) ? key : yield* fail("Corrupt", "its two keys do not belong together")
})

const load = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const unreadable = (error: PlatformError) => new IdentityError({ reason: "Unreadable", path, detail: error.message })
  const info = yield* fs.stat(path).pipe(
    Effect.asSome,
    Effect.catchReason("PlatformError", "NotFound", () => Effect.succeedNone),
    Effect.mapError(unreadable)
  )
  if (Option.isNone(info)) return Option.none<Ed25519PrivateKey>()
  const { mode, size, type } = info.value
  if (type !== "File") return yield* new IdentityError({ reason: "Unreadable", path, detail: "it is not a file" })
  if ((mode & othersMode) !== 0) {
    const detail = `its mode is ${(mode & 0o777).toString(8)}, and only its owner may have access`
    return yield* new IdentityError({ reason: "Exposed", path, detail })
  }
  if (size > maxFileBytes) return yield* new IdentityError({ reason: "Corrupt", path, detail: `it has ${size} bytes` })
  const bytes = yield* Effect.mapError(fs.readFile(path), unreadable)
  return Option.some(yield* decode(path, bytes))
})

/** Writes a new key beside the path and links it there, which fails if another process was first. */
const create = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const key = yield* generate
  const suffix = yield* Random.nextIntBetween(0, Number.MAX_SAFE_INTEGER)
  const temporary = `${path}.${suffix.toString(36)}.tmp`
  yield* fs.makeDirectory(paths.dirname(path), { recursive: true, mode: 0o700 })
  const file = yield* fs.open(temporary, { flag: "wx", mode: 0o600 })
  yield* Effect.addFinalizer(() => Effect.ignore(fs.remove(temporary), { log: true }))
  yield* file.writeAll(privateKeyToProtobuf(key))
  yield* file.sync
  yield* fs.link(temporary, path)
  return key
}, Effect.scoped)

const open = Effect.fnUntraced(function* (path: string) {
  const kept = yield* load(path)
  if (Option.isSome(kept)) return kept.value
  const notCreated = (detail: string) => new IdentityError({ reason: "NotCreated", path, detail })
  return yield* create(path).pipe(
    Effect.catchReason("PlatformError", "AlreadyExists", () =>
      Effect.flatMap(
        load(path),
        Option.match({
          onNone: () => Effect.fail(notCreated("the file of another process came and went")),
          onSome: Effect.succeed
        })
      )
    ),
    Effect.catchTag("PlatformError", (error) => Effect.fail(notCreated(error.message)))
  )
})

/**
 * The identity kept in a file of mode 0600: as libp2p's protobuf encoding of
 * an Ed25519 private key, which other implementations read too. It is created,
 * with its directories, if there is none; of processes that do so at once all
 * end with the same one.
 */
export const layer = (path: string): Layer.Layer<Identity, IdentityError, FileSystem.FileSystem | Path.Path> =>
  Layer.effect(Identity, Effect.map(open(path), fromKey))

/** A new identity, kept nowhere: for tests, and for nodes that nobody needs to recognize. */
export const layerEphemeral: Layer.Layer<Identity> = Layer.effect(Identity, make)
