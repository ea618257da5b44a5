/**
 * The registry that all nodes of a simulation pull from.
 */
import { type FetchRequest, RegistryClient } from "@gantry/oci/RegistryClient"
import * as RegistryError from "@gantry/oci/RegistryError"
import type { OriginRef } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Ledger } from "./Ledger.ts"
import type { OriginAnswer, PlannedBlob, PlannedRef } from "./Plan.ts"

/** Parts in which a blob arrives. */
const parts = 4

/** How long a client waits for an answer, and for the next byte. */
const responseTimeout = Duration.seconds(10)
const idleTimeout = Duration.seconds(30)

const rateLimited = (status: number, retryAfterMillis: number) =>
  new RegistryError.RateLimited({
    status,
    detail: `it answered ${status}`,
    retryAfter: Duration.millis(retryAfterMillis)
  })

export class SimulatedOrigin {
  /** Connections that are open. */
  open = 0
  readonly #ledger: Ledger
  readonly #refs = new Map<string, { readonly blob: PlannedBlob; readonly planned: PlannedRef }>()
  readonly #turns = new Map<string, number>()

  constructor(blobs: ReadonlyArray<PlannedBlob>, ledger: Ledger) {
    this.#ledger = ledger
    for (const blob of blobs) {
      for (const planned of blob.refs) this.#refs.set(planned.ref.toString(), { blob, planned })
    }
  }

  /** The client of one node; it fails for good once the node is no more. */
  layer(node: number, isAlive: () => boolean): Layer.Layer<RegistryClient> {
    return Layer.succeed(RegistryClient, {
      fetch: (request) => this.#fetch(node, isAlive, request),
      resolve: () => Effect.die(new Error("nobody asks for tags here"))
    })
  }

  #fail(ref: OriginRef, reason: RegistryError.RegistryErrorReason) {
    const { digest, registry, repository } = ref
    const error = new RegistryError.RegistryError({ reason, registry, repository, reference: digest })
    return Effect.suspend(() => {
      this.#ledger.failed(ref, error.failureClass)
      return Effect.fail(error)
    })
  }

  #answer(ref: OriginRef): { readonly answer: OriginAnswer; readonly blob: PlannedBlob } | undefined {
    const known = this.#refs.get(ref.toString())
    if (known === undefined) return undefined
    const turn = this.#turns.get(ref.toString()) ?? 0
    this.#turns.set(ref.toString(), turn + 1)
    const { answers } = known.planned
    return { answer: answers[Math.min(turn, answers.length - 1)] as OriginAnswer, blob: known.blob }
  }

  readonly #fetch = Effect.fnUntraced(
    { self: this },
    function* (this: SimulatedOrigin, node: number, isAlive: () => boolean, { offset = 0, ref }: FetchRequest) {
      const ledger = this.#ledger
      const gone = this.#fail(ref, new RegistryError.NotFound({ status: 404, detail: "this node is no more" }))
      if (!isAlive()) return yield* gone
      ledger.fetched(node, ref.digest)
      const known = this.#answer(ref)
      if (known === undefined)
        return yield* this.#fail(ref, new RegistryError.NotFound({ status: 404, detail: "nothing has this name" }))
      const { answer, blob } = known
      ledger.note(node, "origin", `${ref.repository}/${blob.name} from byte ${offset}: ${answer._tag}`)
      yield* Effect.acquireRelease(
        Effect.sync(() => this.open++),
        () => Effect.sync(() => this.open--)
      )
      const step = blob.originMillis / parts
      if (answer._tag === "Hang") {
        yield* Effect.sleep(responseTimeout)
        return yield* this.#fail(ref, new RegistryError.TimedOut({ detail: "no answer" }))
      }
      yield* Effect.sleep(Math.min(step, 5_000))
      if (!isAlive()) return yield* gone
      switch (answer._tag) {
        case "NotFound":
          return yield* this.#fail(ref, new RegistryError.NotFound({ status: 404, detail: "it answered 404" }))
        case "Unauthorized":
          return yield* this.#fail(ref, new RegistryError.Unauthorized({ status: 401, detail: "it answered 401" }))
        case "RateLimited":
          return yield* this.#fail(ref, rateLimited(429, answer.retryAfterMillis))
        case "Refused":
          return yield* this.#fail(
            ref,
            answer.retryAfterMillis === undefined
              ? new RegistryError.Refused({ status: 503, detail: "it answered 503" })
              : rateLimited(503, answer.retryAfterMillis)
          )
      }
      if (answer._tag === "WrongBytes") ledger.failed(ref, "transient")
      const bytes = answer._tag === "WrongBytes" ? blob.bytes.map((byte) => byte ^ 1) : blob.bytes
      const size = Math.max(1, Math.ceil(bytes.length / parts))
      const chunks: Array<Uint8Array> = []
      for (let at = offset; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
      const isBroken = answer._tag === "Stall" || answer._tag === "Cut"
      const coming = isBroken ? chunks.slice(0, Math.floor(chunks.length / 2)) : chunks
      const end =
        answer._tag === "Stall"
          ? Effect.andThen(
              Effect.sleep(idleTimeout),
              this.#fail(ref, new RegistryError.TimedOut({ detail: "no further byte" }))
            )
          : answer._tag === "Cut"
            ? this.#fail(ref, new RegistryError.Truncated({ detail: "it broke off" }))
            : Effect.void
      const stream = Stream.fromIterable(coming).pipe(
        Stream.rechunk(1),
        Stream.mapEffect((chunk) =>
          Effect.andThen(
            Effect.sleep(step),
            Effect.suspend(() => (isAlive() ? Effect.succeed(chunk) : gone))
          )
        ),
        Stream.concat(Stream.drain(Stream.fromEffect(end)))
      )
      return { offset, totalSize: Option.some(bytes.length), stream }
    }
  )
}
