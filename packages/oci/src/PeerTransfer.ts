/**
 * Brings blobs from peers' endpoints into this node's store (parts, Peer
 * transfer).
 */
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import { positiveDuration, positiveInteger } from "@gantry/coord/Settings"
import { Transfer, type TransferAttempt, TransferError, type TransferRequest } from "@gantry/coord/Transfer"
import { describeCause, isRegistry, type Member, maxBlobBytes, type NodeId } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { mirrored } from "./BlobEndpoint.ts"
import { BlobStore, type BlobWriteError, type BlobWriter } from "./BlobStore.ts"
import { parseContentLength, parseContentRange, parseRetryAfter } from "./internal/headers.ts"
import * as Manifest from "./Manifest.ts"

/** Settings; a number or duration that is not positive is ignored. */
export interface Options {
  /** How long a holder may take to be reached and to begin its answer; 2 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** How long a holder may send nothing, or next to nothing; 30 seconds. */
  readonly stallTimeout?: Duration.Input | undefined
  /** The most bytes of a blob whose size is not known, unless it is a manifest; 64 GiB. */
  readonly maxSize?: number | undefined
  /** How often the holders are gone through, as long as there is something to go on with; 5. */
  readonly rounds?: number | undefined
  /** How long to wait between two rounds, give or take a half, unless a holder says how long it is busy; 1 second. */
  readonly pause?: Duration.Input | undefined
}

/** What must arrive within the stall timeout, so that a holder cannot keep us by a byte now and then. */
const progressBytes = 64 * 1024

/** How long who sent wrong bytes is not asked for that digest (parts, Peer transfer). */
const suspicionMillis = 5 * 60 * 1000

/** The most suspicions that are remembered; the oldest leave first. */
const maxSuspicions = 10_000

/** No holder's word on how long it is busy is taken beyond this. */
const maxPause = Duration.seconds(10)

/** Why a holder did not deliver, and for how long it would not. */
interface Setback {
  readonly _tag: "Setback"
  readonly problem: TransferAttempt["problem"]
  readonly detail: string
  readonly retryAfter: Option.Option<Duration.Duration>
}

const setback = (
  problem: Setback["problem"],
  detail: string,
  retryAfter: Setback["retryAfter"] = Option.none()
): Effect.Effect<never, Setback> => Effect.fail({ _tag: "Setback", problem, detail, retryAfter })

/** The blob as far as it has come. */
interface Assembly {
  readonly writer: BlobWriter
  readonly limit: number
  /** Whose bytes the writer holds. */
  readonly contributors: Set<NodeId>
  /** Wrong bytes came from several holders together: from now on each has to deliver all of them, and shows who it was. */
  alone: boolean
}

const describe = (error: HttpClientError): string =>
  describeCause("cause" in error.reason && error.reason.cause !== undefined ? error.reason.cause : error)

const make = Effect.fnUntraced(function* (options: Options = {}) {
  const store = yield* BlobStore
  const client = HttpClient.withScope(yield* HttpClient.HttpClient)
  const connectTimeout = positiveDuration(options.connectTimeout, "2 seconds")
  const stallTimeout = positiveDuration(options.stallTimeout, "30 seconds")
  const maxSize = positiveInteger(options.maxSize, maxBlobBytes)
  const rounds = positiveInteger(options.rounds, 5)
  const pause = positiveDuration(options.pause, "1 second")

  /** Who sent wrong bytes, and until when that is remembered; the oldest first. */
  const suspicions = new Map<string, number>()
  const suspicion = (holder: Member, { digest }: TransferRequest) => `${digest} ${holder.nodeId}`
  const isSuspicious = (holder: Member, request: TransferRequest) =>
    Effect.map(MonotonicClock.millis, (now) => (suspicions.get(suspicion(holder, request)) ?? now) > now)
  const suspect = (holder: Member, request: TransferRequest) =>
    Effect.map(MonotonicClock.millis, (now) => {
      const key = suspicion(holder, request)
      suspicions.delete(key)
      suspicions.set(key, now + suspicionMillis)
      for (const oldest of suspicions.keys()) {
        if (suspicions.size <= maxSuspicions) break
        suspicions.delete(oldest)
      }
    })

  // One holder

  const ask = (holder: Member, { digest, kind }: TransferRequest, offset: number) => {
    const address = Option.getOrElse(holder.contentAddress, () => "")
    if (!isRegistry(address)) return setback("Unreachable", `it publishes no address of its blobs (${address})`)
    // The digest says it all; a repository there has to be.
    const url = `http://${address}/v2/gantry/${kind === "manifest" ? "manifests" : "blobs"}/${digest}`
    const headers = {
      [mirrored.name]: mirrored.value,
      "accept-encoding": "identity",
      ...(offset === 0 ? {} : { range: `bytes=${offset}-` })
    }
    return client.execute(HttpClientRequest.get(url, { headers })).pipe(
      Effect.catch((error) => setback("Unreachable", describe(error))),
      Effect.timeoutOrElse({
        duration: connectTimeout,
        orElse: () => setback("Unreachable", `no answer within ${Duration.format(connectTimeout)}`)
      })
    )
  }

  /** What part of the blob a response carries. */
  const partOf = Effect.fnUntraced(function* ({ headers, status }: HttpClientResponse, offset: number) {
    switch (status) {
      case 200:
        return { first: 0, total: parseContentLength(headers["content-length"]) }
      case 206: {
        const header = headers["content-range"] ?? ""
        const range = Option.filter(parseContentRange(header), ({ first }) => first === offset)
        if (Option.isSome(range)) return range.value
        return yield* setback("WrongBytes", `asked for what follows byte ${offset}, it answered with "${header}"`)
      }
      case 404:
        return yield* setback("Absent", "it does not have it")
      case 503: {
        const retryAfter = parseRetryAfter(headers["retry-after"], yield* Clock.currentTimeMillis, maxPause)
        if (Option.isSome(retryAfter)) return yield* setback("Busy", "it serves as many as it can", retryAfter)
        return yield* setback("Unreachable", "it cannot reach its own store")
      }
      default:
        return yield* setback("Unreachable", `it answered ${status}`)
    }
  })

  const restart = ({ contributors, writer }: Assembly) => Effect.map(writer.restart, () => contributors.clear())

  /** Appends the body; each `progressBytes` of it within the stall timeout. */
  const append = Effect.fnUntraced(function* (response: HttpClientResponse, writer: BlobWriter) {
    const stalled = setback("Stalled", `it sent next to nothing for ${Duration.format(stallTimeout)}`)
    let progressed = yield* MonotonicClock.millis
    let fresh = 0
    const check = Effect.fnUntraced(function* (chunk: Uint8Array) {
      const now = yield* MonotonicClock.millis
      fresh += chunk.length
      if (fresh >= progressBytes) {
        progressed = now
        fresh = 0
      }
      if (now - progressed >= Duration.toMillis(stallTimeout)) return yield* stalled
    })
    yield* response.stream.pipe(
      Stream.catch((error) => Stream.fromEffect(setback("Stalled", `it broke off: ${describe(error)}`))),
      Stream.timeoutOrElse({ duration: stallTimeout, orElse: () => Stream.fromEffect(stalled) }),
      Stream.runForEach((chunk) => Effect.andThen(check(chunk), writer.append(chunk)))
    )
  })

  /** Gets the rest of the blob from a holder, or all of it. */
  const receive = Effect.fnUntraced(function* (
    holder: Member,
    request: TransferRequest,
    assembly: Assembly
  ): Effect.fn.Return<void, Setback | BlobWriteError, Scope.Scope> {
    const { contributors, limit, writer } = assembly
    if (assembly.alone) yield* restart(assembly)
    const offset = yield* writer.offset
    const response = yield* ask(holder, request, offset)
    if (response.status === 416 && offset > 0) {
      // It has fewer bytes than we do, and who is right only the digest can tell.
      yield* restart(assembly)
      return yield* receive(holder, request, assembly)
    }
    const { first, total } = yield* partOf(response, offset)
    if (Option.isSome(total) && total.value > limit) {
      return yield* setback("WrongBytes", `it offers ${total.value} bytes where at most ${limit} are due`)
    }
    if (first === 0) yield* restart(assembly)
    contributors.add(holder.nodeId)
    yield* append(response, writer)
    const reached = yield* writer.offset
    if (Option.isSome(total) && reached < total.value) {
      return yield* setback("Stalled", `it ended after ${reached} of ${total.value} bytes`)
    }
  }, Effect.scoped)

  /** What wrong bytes say about who sent them. */
  const blame = Effect.fnUntraced(function* (
    { digest }: TransferRequest,
    assembly: Assembly,
    { detail }: BlobWriteError
  ) {
    const senders = [...assembly.contributors]
    yield* restart(assembly)
    if (senders.length === 1) return yield* setback("WrongBytes", detail)
    assembly.alone = true
    const together = `what ${senders.join(", ")} sent together is wrong: ${detail}`
    yield* Effect.logWarning(`${digest}: ${together}`)
    return yield* setback("Stalled", together)
  })

  /** Gets the blob from a holder and commits it, or tells why not. */
  const obtain = Effect.fnUntraced(
    function* (holder: Member, request: TransferRequest, assembly: Assembly) {
      if (yield* isSuspicious(holder, request)) {
        return yield* setback("Suspicious", "it sent wrong bytes lately")
      }
      yield* Effect.andThen(receive(holder, request, assembly), assembly.writer.commit).pipe(
        Effect.catchTag("BlobWriteError", (error) =>
          error.reason === "Failed" ? Effect.fail(error) : blame(request, assembly, error)
        )
      )
    },
    (effect, holder, request) =>
      Effect.tapErrorTag(effect, "Setback", ({ detail, problem }) => {
        const line = `${request.digest} from ${holder.nodeId}: ${problem}: ${detail}`
        return problem === "WrongBytes"
          ? Effect.andThen(suspect(holder, request), Effect.logWarning(line))
          : Effect.logDebug(line)
      })
  )

  // All holders

  const transfer = Effect.fnUntraced(function* (request: TransferRequest) {
    const { digest, kind } = request
    const limit = Option.getOrElse(request.size, () => (kind === "manifest" ? Manifest.maxBytes : maxSize))
    const writer = yield* store.writer(digest, { maxSize: limit })
    const assembly: Assembly = { writer, limit, contributors: new Set(), alone: false }
    const attempts: Array<TransferAttempt> = []

    let holders = [...new Map(request.holders.map((holder) => [holder.nodeId, holder])).values()]
    for (let round = 1; true; round++) {
      const again: Array<Member> = []
      let wait = maxPause
      for (const holder of holders) {
        const outcome = yield* Effect.result(obtain(holder, request, assembly))
        if (Result.isSuccess(outcome)) return { bytes: yield* writer.offset, holder: holder.nodeId }
        if (outcome.failure._tag === "BlobWriteError") return yield* outcome.failure
        const { detail, problem, retryAfter } = outcome.failure
        attempts.push({ holder: holder.nodeId, problem, detail })
        if (problem !== "Busy" && problem !== "Stalled") continue
        again.push(holder)
        wait = Duration.min(
          wait,
          Option.getOrElse(retryAfter, () => pause)
        )
      }
      // Unless there are bytes to go on from, or a lie to sort out, our caller
      // does better: by now it may find other holders.
      const isWorthwhile = assembly.alone || (yield* writer.offset) > 0
      if (round === rounds || again.length === 0 || !isWorthwhile) {
        return yield* new TransferError({ reason: "NoHolder", digest, attempts })
      }
      holders = again
      yield* Effect.sleep(Duration.times(wait, yield* Random.nextBetween(0.5, 1.5)))
    }
  }, Effect.scoped)

  const fetch = Effect.fn("PeerTransfer.fetch")((request: TransferRequest) =>
    Effect.catchTag(transfer(request), "BlobWriteError", (cause) =>
      Effect.fail(new TransferError({ reason: "Store", digest: request.digest, attempts: [], cause }))
    )
  )

  return Transfer.of({ fetch })
})

/** Transfers over the given HTTP client into the store. */
export const layer = (options?: Options): Layer.Layer<Transfer, never, BlobStore | HttpClient.HttpClient> =>
  Layer.effect(Transfer, make(options))
