/**
 * Brings digests from their origin into this node's store.
 */
import { AccessFault, FetchError, OriginFailure, StoreFault } from "@gantry/coord/FetchError"
import type { Inflight } from "@gantry/coord/Inflight"
import type { Metrics } from "@gantry/coord/Metrics"
import type { NegativeCache } from "@gantry/coord/NegativeCache"
import type { PullLog } from "@gantry/coord/PullLog"
import * as Pump from "@gantry/coord/Pump"
import type { SettingError } from "@gantry/coord/SettingError"
import * as Settings from "@gantry/coord/Settings"
import type { Store } from "@gantry/coord/Store"
import { maxBlobBytes } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import { BlobStore, BlobWriteError, type BlobWriter } from "./BlobStore.ts"
import * as Manifest from "./Manifest.ts"
import { RegistryClient } from "./RegistryClient.ts"
import type { RegistryError } from "./RegistryError.ts"

/** Settings of the pump, and of what it takes from registries. */
export interface Options extends Omit<Pump.Options<never>, "fetch"> {
  /** The largest manifest, in bytes; 4 MiB. */
  readonly maxManifestSize?: number | undefined
  /** The largest config or layer, in bytes; 64 GiB. */
  readonly maxBlobSize?: number | undefined
}

/** What a registry did instead of delivering, for others to know. */
const refused = (error: RegistryError) => {
  const { failureClass, isOwnFault, message: detail, retryAfter } = error
  if (isOwnFault) return new FetchError({ reason: new AccessFault(), detail })
  return new FetchError({
    reason: new OriginFailure({
      failureClass: failureClass === "unspecified" ? "transient" : failureClass,
      ...(retryAfter === undefined ? {} : { retryAfter })
    }),
    detail
  })
}

/** Whose fault it is that the store did not take the bytes: what is wrong with them came with them. */
const notTaken = ({ isAboutBytes, message: detail }: BlobWriteError) =>
  new FetchError({
    reason: isAboutBytes ? new OriginFailure({ failureClass: "transient" }) : new StoreFault(),
    detail
  })

const isRefusalToTake = (error: FetchError | BlobWriteError) => error._tag === "BlobWriteError"
const isWrongDigest = (error: FetchError | BlobWriteError) => isRefusalToTake(error) && error.reason === "WrongDigest"

const make = Effect.fnUntraced(function* (options: Options) {
  const store = yield* BlobStore
  const registry = yield* RegistryClient
  const { maxBlobSize, maxManifestSize } = yield* Settings.read(options, (settings) => ({
    maxManifestSize: settings.integer("maxManifestSize", Manifest.maxBytes),
    maxBlobSize: settings.integer("maxBlobSize", maxBlobBytes)
  }))

  /** Appends what the registry delivers, from where the writer is. */
  const receive = Effect.fnUntraced(function* (
    { kind, ref }: Pump.PullRequest,
    pull: Pump.RunningPull,
    writer: BlobWriter,
    maxSize: number,
    /** Of the whole, by the delivery before. */
    size: Ref.Ref<number | undefined>
  ) {
    const offset = yield* writer.offset
    const delivery = yield* Effect.mapError(registry.fetch({ ref, kind, offset, size: yield* Ref.get(size) }), refused)
    const { totalSize: totalBytes } = delivery
    if (Option.exists(totalBytes, (size) => size > maxSize)) {
      const detail = `the registry announces ${Option.getOrThrow(totalBytes)} bytes, and ${maxSize} are allowed`
      return yield* new BlobWriteError({ reason: "TooLarge", digest: ref.digest, detail })
    }
    if (delivery.offset !== offset) yield* writer.restart
    yield* Ref.set(size, Option.getOrUndefined(totalBytes))
    if (Option.isSome(totalBytes)) yield* writer.announce(totalBytes.value)
    let receivedBytes = delivery.offset
    pull.report({ receivedBytes, totalBytes })
    yield* Stream.runForEach(Stream.mapError(delivery.stream, refused), (chunk) => {
      receivedBytes += chunk.length
      pull.report({ receivedBytes, totalBytes })
      return writer.append(chunk)
    })
  }, Effect.scoped)

  const fetch = Effect.fnUntraced(
    function* (request: Pump.PullRequest, pull: Pump.RunningPull) {
      const maxSize = request.kind === "manifest" ? maxManifestSize : maxBlobSize
      const writer = yield* store.writer(request.ref.digest, { maxSize, source: "origin" })
      const size = yield* Ref.make<number | undefined>(undefined)
      const whole = Effect.andThen(pull.retry(receive(request, pull, writer, maxSize, size)), writer.commit)
      // Wrong bytes may be the fault of one transfer, or of one of its parts.
      yield* Effect.catchIf(whole, isWrongDigest, () => Effect.andThen(writer.restart, whole))
    },
    Effect.catchIf(isRefusalToTake, notTaken)
  )

  return Pump.layerBackground({ ...options, fetch })
})

/** A pump that asks registries, goes on where a delivery was cut, and stores what has the digest. */
export const layer = (
  options: Options = {}
): Layer.Layer<
  Pump.Pump | PullLog,
  SettingError,
  BlobStore | RegistryClient | Store | Inflight | NegativeCache | Metrics
> => Layer.unwrap(make(options))
