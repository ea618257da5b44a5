/**
 * Brings blobs from peers' endpoints into this node's store (parts, Peer
 * transfer).
 */
import { Members } from "@gantry/coord/Members"
import * as MonotonicClock from "@gantry/coord/MonotonicClock"
import { RecentMap } from "@gantry/coord/RecentMap"
import type { SettingError } from "@gantry/coord/SettingError"
import * as Settings from "@gantry/coord/Settings"
import {
  NoHolder,
  StoreFailed,
  Transfer,
  TransferAttempt,
  TransferError,
  type TransferRequest
} from "@gantry/coord/Transfer"
import { describeCause, type Member, maxBlobBytes, type NodeId } from "@gantry/protocol"
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
import * as Bars from "./internal/bars.ts"
import * as ContentAddress from "./internal/contentAddress.ts"
import { parseContentLength, parseContentRange, parseRetryAfter } from "./internal/headers.ts"
import * as PeerClient from "./internal/peerClient.ts"
import * as Manifest from "./Manifest.ts"

/** Settings; a number or duration that is not positive is ignored. */
export interface Options {
  /** How long a holder may take to be reached and to begin its answer; 2 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** How long a holder may send nothing, or next to nothing; 30 seconds. */
  readonly stallTimeout?: Duration.Input | undefined
  /** The most bytes of a blob whose size is not known, unless it is a manifest; 64 GiB. */
  readonly maxSize?: number | undefined
  /** How long the holders are gone through without getting on, once there are bytes to go on from; 30 seconds. */
  readonly patience?: Duration.Input | undefined
  /**
   * How long to wait before the holders are gone through again, give or take a
   * half; longer each time, up to 10 seconds, or as long as a busy holder says;
   * 1 second.
   */
  readonly pause?: Duration.Input | undefined
}

/** What must arrive within the stall timeout, so that a holder cannot keep us by a byte now and then. */
const progressBytes = 64 * 1024

/** How long who sent wrong bytes is not asked for that digest (parts, Peer transfer). */
const suspicion = Duration.minutes(5)

/** How long an address to which no connection came about is left alone: twice as long each time. */
const outage = { first: Duration.seconds(2), longest: Duration.minutes(1) }

/** No pause between two rounds is longer, whatever a busy holder says. */
const maxPause = Duration.seconds(10)

/** The most unusable addresses of which it is remembered that they have been warned of. */
const maxWarnings = 10_000

const { Absent, Barred, Busy, NoAddress, Stalled, Suspicious, Unavailable, Unreachable, WrongBytes } =
  TransferAttempt.cases

/** The holder gives no part of the blob; it may give the whole. */
interface RangeRefused {
  readonly _tag: "RangeRefused"
  readonly detail: string
}

const rangeRefused = (detail: string): Effect.Effect<never, RangeRefused> =>
  Effect.fail({ _tag: "RangeRefused", detail })

/** Why a holder did not deliver. */
type Setback = TransferAttempt | RangeRefused

/** Whether to ask the holder again would bring nothing new. */
const isFinal = TransferAttempt.isAnyOf(["Absent", "NoAddress", "Suspicious", "WrongBytes"])

/** When to ask the holder again, if it depends on itself. */
const dueOf = (attempt: TransferAttempt, otherwise: Duration.Duration): Duration.Duration => {
  if (attempt._tag === "Barred") return attempt.remaining
  return attempt._tag === "Busy" ? Option.getOrElse(attempt.retryAfter, () => otherwise) : otherwise
}

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
  const members = yield* Members
  const client = HttpClient.withScope(yield* HttpClient.HttpClient)
  const { connectTimeout, maxSize, patience, pause, stallTimeout } = yield* Settings.read(options, (settings) => ({
    connectTimeout: settings.duration("connectTimeout", "2 seconds"),
    stallTimeout: settings.duration("stallTimeout", "30 seconds"),
    maxSize: settings.integer("maxSize", maxBlobBytes),
    patience: settings.duration("patience", "30 seconds"),
    pause: settings.duration("pause", "1 second")
  }))

  /** Who sent wrong bytes, by digest and node. */
  const suspects = Bars.make(suspicion, suspicion)
  const suspect = (holder: NodeId, { digest }: TransferRequest) => `${digest} ${holder}`
  /** Addresses to which no connection came about. */
  const outages = Bars.make(outage.first, outage.longest)
  const warned = new RecentMap<string, true>(maxWarnings)

  // One holder

  const addressOf = Effect.fnUntraced(function* ({ contentAddress, nodeId }: Member) {
    const unusable = (detail: string) => Effect.fail(NoAddress.make({ holder: nodeId, detail }))
    if (Option.isNone(contentAddress)) return yield* unusable("it publishes no address of its blobs")
    const published = contentAddress.value
    const address = ContentAddress.parse(published)
    if (Result.isSuccess(address)) return address.success
    const detail = `it publishes "${published}" as the address of its blobs: ${address.failure}`
    const key = `${nodeId} ${published}`
    if (!warned.get(key)) {
      warned.set(key, true)
      yield* Effect.logWarning(`${nodeId} is not asked for blobs: ${detail}`)
    }
    return yield* unusable(detail)
  })

  const ask = Effect.fnUntraced(function* (holder: Member, { digest, kind }: TransferRequest, offset: number) {
    const address = yield* addressOf(holder)
    const unreachable = (detail: string) => Unreachable.make({ holder: holder.nodeId, detail })
    const remaining = yield* outages.remaining(address)
    if (Duration.isPositive(remaining)) {
      return yield* Effect.fail(Barred.make({ holder: holder.nodeId, remaining }))
    }
    // The digest says it all; a repository there has to be.
    const url = `http://${address}/v2/gantry/${kind === "manifest" ? "manifests" : "blobs"}/${digest}`
    const headers = {
      [mirrored.name]: mirrored.value,
      "accept-encoding": "identity",
      ...(offset === 0 ? {} : { range: `bytes=${offset}-` })
    }
    const response = yield* client.execute(HttpClientRequest.get(url, { headers })).pipe(
      Effect.mapError((error) => unreachable(describe(error))),
      Effect.timeoutOrElse({
        duration: connectTimeout,
        orElse: () => Effect.fail(unreachable(`no answer within ${Duration.format(connectTimeout)}`))
      }),
      Effect.tapError(() => outages.raise(address))
    )
    yield* outages.clear(address)
    return response
  })

  /** What part of the blob a response carries. */
  const partOf = Effect.fnUntraced(function* (
    { nodeId: holder }: Member,
    { headers, status }: HttpClientResponse,
    offset: number
  ) {
    const retryAfter = parseRetryAfter(headers["retry-after"], yield* Clock.currentTimeMillis, maxPause)
    if (status === 404) return yield* Effect.fail(Absent.make({ holder }))
    if (status === 429 || (status === 503 && Option.isSome(retryAfter))) {
      return yield* Effect.fail(Busy.make({ holder, retryAfter }))
    }
    if (offset === 0) {
      if (status === 200) return { first: 0, total: parseContentLength(headers["content-length"]) }
    } else if (status === 206) {
      const header = headers["content-range"] ?? ""
      const range = parseContentRange(header)
      if (Option.isSome(range) && range.value.first === offset) return range.value
      return yield* rangeRefused(`asked for what follows byte ${offset}, it answered with "${header}"`)
    } else if (status === 200 || status === 400 || status === 416) {
      return yield* rangeRefused(`asked for what follows byte ${offset}, it answered ${status}`)
    }
    return yield* Effect.fail(Unavailable.make({ holder, detail: `it answered ${status}` }))
  })

  const restart = ({ contributors, writer }: Assembly) => Effect.map(writer.restart, () => contributors.clear())

  /** Appends the body; each `progressBytes` of it within the stall timeout. */
  const append = Effect.fnUntraced(function* (
    { nodeId: holder }: Member,
    response: HttpClientResponse,
    writer: BlobWriter
  ) {
    const stalled = (detail: string) => Effect.fail(Stalled.make({ holder, detail }))
    const tooSlow = stalled(`it sent next to nothing for ${Duration.format(stallTimeout)}`)
    let progressed = yield* MonotonicClock.millis
    let fresh = 0
    const check = Effect.fnUntraced(function* (chunk: Uint8Array) {
      const now = yield* MonotonicClock.millis
      fresh += chunk.length
      if (fresh >= progressBytes) {
        progressed = now
        fresh = 0
      }
      if (now - progressed >= Duration.toMillis(stallTimeout)) return yield* tooSlow
    })
    yield* response.stream.pipe(
      Stream.catch((error) => Stream.fromEffect(stalled(`it broke off: ${describe(error)}`))),
      Stream.timeoutOrElse({ duration: stallTimeout, orElse: () => Stream.fromEffect(tooSlow) }),
      Stream.runForEach((chunk) => Effect.andThen(check(chunk), writer.append(chunk)))
    )
  })

  /** Gets the rest of the blob from a holder, or all of it. */
  const receive = Effect.fnUntraced(function* (
    holder: Member,
    request: TransferRequest,
    assembly: Assembly,
    isWhole: boolean
  ): Effect.fn.Return<void, Setback | BlobWriteError, Scope.Scope> {
    const { contributors, limit, writer } = assembly
    const offset = isWhole || assembly.alone ? 0 : yield* writer.offset
    const response = yield* ask(holder, request, offset)
    const { first, total } = yield* partOf(holder, response, offset)
    if (Option.isSome(total) && total.value > limit) {
      const detail = `it offers ${total.value} bytes where at most ${limit} are due`
      return yield* Effect.fail(WrongBytes.make({ holder: holder.nodeId, detail }))
    }
    if (first === 0) yield* restart(assembly)
    contributors.add(holder.nodeId)
    yield* append(holder, response, writer)
    const reached = yield* writer.offset
    if (Option.isSome(total) && reached < total.value) {
      const detail = `it ended after ${reached} of ${total.value} bytes`
      return yield* Effect.fail(Stalled.make({ holder: holder.nodeId, detail }))
    }
  }, Effect.scoped)

  /** What wrong bytes say about who sent them. */
  const blame = Effect.fnUntraced(function* (
    { nodeId: holder }: Member,
    { digest }: TransferRequest,
    assembly: Assembly,
    { detail }: BlobWriteError
  ) {
    const senders = [...assembly.contributors]
    yield* restart(assembly)
    if (senders.length === 1) return yield* Effect.fail(WrongBytes.make({ holder, detail }))
    assembly.alone = true
    const together = `what ${senders.join(", ")} sent together is wrong: ${detail}`
    yield* Effect.logWarning(`${digest}: ${together}`)
    return yield* Effect.fail(Stalled.make({ holder, detail: together }))
  })

  const note = (holder: Member, request: TransferRequest, setback: Setback) => {
    const line = `${request.digest} from ${holder.nodeId}: ${setback._tag}${"detail" in setback ? `: ${setback.detail}` : ""}`
    return setback._tag === "WrongBytes"
      ? Effect.andThen(suspects.raise(suspect(holder.nodeId, request)), Effect.logWarning(line))
      : Effect.logDebug(line)
  }

  /** Gets the blob from a holder and commits it, or tells why not. */
  const obtain = Effect.fnUntraced(
    function* (holder: Member, request: TransferRequest, assembly: Assembly, isWhole: boolean) {
      const remaining = yield* suspects.remaining(suspect(holder.nodeId, request))
      if (Duration.isPositive(remaining)) {
        return yield* Effect.fail(Suspicious.make({ holder: holder.nodeId, remaining }))
      }
      yield* Effect.andThen(receive(holder, request, assembly, isWhole), assembly.writer.commit).pipe(
        Effect.catchTag("BlobWriteError", (error) =>
          error.isAboutBytes ? blame(holder, request, assembly, error) : Effect.fail(error)
        )
      )
    },
    (effect, holder, request) =>
      Effect.tapError(effect, (error) => (error._tag === "BlobWriteError" ? Effect.void : note(holder, request, error)))
  )

  // All holders

  /** Those of our own zone first; each once. */
  const inOrder = Effect.fnUntraced(function* (holders: ReadonlyArray<Member>) {
    const view = yield* members.view
    const zone = Option.flatMap(view.byNodeId(members.self), (member) => member.zone)
    const isNear = (holder: Member) => Option.isSome(zone) && Option.contains(holder.zone, zone.value)
    const unique = [...new Map(holders.map((holder) => [holder.nodeId, holder])).values()]
    return [...unique.filter(isNear), ...unique.filter((holder) => !isNear(holder))]
  })

  const transfer = Effect.fnUntraced(function* (request: TransferRequest) {
    const { digest, kind } = request
    const limit = Option.getOrElse(request.size, () => (kind === "manifest" ? Manifest.maxBytes : maxSize))
    const writer = yield* store.writer(digest, { maxSize: limit })
    const assembly: Assembly = { writer, limit, contributors: new Set(), alone: false }
    const attempts = new Map<NodeId, TransferAttempt>()
    const progress = { bytes: 0, at: yield* MonotonicClock.millis }

    let holders = yield* inOrder(request.holders)
    let longest = pause
    while (true) {
      const again: Array<Member> = []
      let wait = maxPause
      // Who gives no part is asked for the whole after the others, lest what came be dropped in vain.
      const queue = holders.map((holder) => ({ holder, isWhole: false }))
      for (const { holder, isWhole } of queue) {
        const outcome = yield* Effect.result(obtain(holder, request, assembly, isWhole))
        if (Result.isSuccess(outcome)) return { bytes: yield* writer.offset, holder: holder.nodeId }
        const setback = outcome.failure
        if (setback._tag === "BlobWriteError") return yield* setback
        if (setback._tag === "RangeRefused") {
          queue.push({ holder, isWhole: true })
          continue
        }
        attempts.set(holder.nodeId, setback)
        if (isFinal(setback)) continue
        again.push(holder)
        wait = Duration.min(wait, Duration.max(dueOf(setback, longest), pause))
      }

      const now = yield* MonotonicClock.millis
      const reached = yield* writer.offset
      if (reached >= progress.bytes + progressBytes) {
        Object.assign(progress, { bytes: reached, at: now })
        longest = pause
      }
      // Unless there are bytes to go on from, or a lie to sort out, our caller
      // does better: by now it may find other holders.
      const isWorthwhile = assembly.alone || reached > 0
      const isOver = now - progress.at >= Duration.toMillis(patience)
      if (again.length === 0 || !isWorthwhile || isOver) {
        return yield* new TransferError({ digest, reason: new NoHolder({ attempts: [...attempts.values()] }) })
      }
      holders = again
      yield* Effect.sleep(Duration.times(wait, yield* Random.nextBetween(0.5, 1.5)))
      longest = Duration.min(Duration.times(longest, 2), maxPause)
    }
  }, Effect.scoped)

  const fetch = Effect.fn("PeerTransfer.fetch")((request: TransferRequest) =>
    Effect.catchTag(transfer(request), "BlobWriteError", (cause) =>
      Effect.fail(new TransferError({ digest: request.digest, reason: new StoreFailed({ cause }) }))
    )
  )

  return Transfer.of({ fetch })
})

/** Transfers over a given HTTP client into the store. */
export const layerNoHttpClient = (
  options?: Options
): Layer.Layer<Transfer, SettingError, BlobStore | HttpClient.HttpClient | Members> =>
  Layer.effect(Transfer, make(options))

/**
 * Transfers into the store, over a client of their own: it never uses a proxy,
 * and speaks HTTP/1.1, or h2c to peers that speak nothing else.
 */
export const layer = (options?: Options): Layer.Layer<Transfer, SettingError, BlobStore | Members> =>
  Layer.provide(layerNoHttpClient(options), PeerClient.layer)
