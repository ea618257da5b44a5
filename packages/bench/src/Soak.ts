/**
 * A long run over one server, in which calls are aborted and connections lost:
 * whatever it is that each of them leaves behind adds up.
 */
import { protocolId } from "@gantry/protocol"
import { digestOf, pleasePull } from "@gantry/testkit/Fixtures"
import { peerIdFromString } from "@libp2p/peer-id"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Census from "./Census.ts"
import { type Client, serverId, startClient } from "./Node.ts"
import { frameFor } from "./Requests.ts"
import * as ServerProcess from "./ServerProcess.ts"
import { slopeOf } from "./Slope.ts"

/** How long a run is, and what it draws. */
export interface Options {
  readonly rpcs: number
  readonly concurrency: number
  readonly seed: number
}

/** Censuses of a run; the second half of them tells how memory grows. */
const samples = 20
/** Part of the calls that are aborted in the middle. */
const aborted = 0.02
/** Calls for each of which a connection is lost. */
const callsPerLoss = 5_000
/** Streams that the server gives one peer. */
const slotsPerPeer = 128
/** Bytes that a call may leave behind, as far as can be told: other than a leak, noise does not grow with the calls. */
const flatBytes = 4
/** How long everything may take to come to rest. */
const patience = Duration.seconds(30)

const digests = Array.from({ length: 60 }, (_, index) => digestOf(`layer ${index}`))
const frame = frameFor(digestOf("layer"))

/** One call, as the dice have it; gives what became of it. */
const call = Effect.fnUntraced(function* (client: Client, server: ServerProcess.ServerProcess) {
  const digest = digests[yield* Random.nextIntBetween(0, digests.length, { halfOpen: true })] ?? digestOf("layer")
  if ((yield* Random.next) < 1 / callsPerLoss) {
    yield* Effect.promise(() => client.libp2p.hangUp(peerIdFromString(server.address.peerId)))
    return "connection lost"
  }
  const isAborted = (yield* Random.next) < aborted
  if (isAborted && (yield* Random.nextBoolean)) {
    const half = Effect.andThen(
      client.transport.open(server.address, protocolId, frame.subarray(0, 40)),
      Effect.fail("half")
    )
    yield* Effect.exit(Effect.scoped(half))
    return "aborted by reset"
  }
  const asked = (yield* Random.nextBoolean)
    ? Effect.asVoid(client.coord.pullIntentQuery(serverId, digest))
    : Effect.asVoid(client.coord.pleasePull(serverId, pleasePull([digest])))
  const answered = asked.pipe(
    Effect.as("answered"),
    Effect.catch(({ reason }) => Effect.succeed(`failed: ${reason}`))
  )
  if (!isAborted) return yield* answered
  const millis = (yield* Random.next) * 5
  return Option.getOrElse(yield* Effect.timeoutOption(answered, millis), () => "interrupted")
})

/** Both processes' counts, without memory, which is never the same twice. */
const countsOf = (censuses: ReadonlyArray<Census.Census>) =>
  censuses.map(({ connections, fibers, listeners, streams }) => ({ connections, fibers, listeners, streams }))

/** Whether all slots of a peer can be taken, and not one more. */
const slotsAreFree = Effect.fnUntraced(function* (client: Client, { address }: ServerProcess.ServerProcess) {
  const open = client.transport.open(address, protocolId, frame.subarray(0, 40))
  yield* Effect.forEach(Array.from({ length: slotsPerPeer }), () => open, { concurrency: "unbounded" })
  const refusal = yield* Effect.flip(client.coord.pullIntentQuery(serverId, digestOf("layer")))
  return refusal.reason === "Reset"
}, Effect.scoped)

/** Runs, prints what came of it, and tells whether nothing was left behind. */
export const run = ({ concurrency, rpcs, seed }: Options) =>
  Census.counting(
    Effect.fnUntraced(function* (take) {
      const server = yield* ServerProcess.spawnOurs
      const client = yield* startClient(server.address)
      yield* server.join([client.host.peerId])
      const censuses = Effect.all([take(client.libp2p), server.census])
      const outcomes: Record<string, number> = {}
      const soak = (count: number) =>
        Effect.forEach(
          Array.from({ length: count }),
          () =>
            Effect.map(call(client, server), (outcome) => {
              outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
            }),
          { concurrency, discard: true }
        )
      // A connection that was lost is back, streams have lingered, and the fiber that watched their time has ended.
      const settled = Effect.andThen(
        Effect.ignore(client.coord.pullIntentQuery(serverId, digestOf("layer"))),
        Effect.andThen(Effect.sleep("6 seconds"), censuses)
      )

      const share = Math.ceil(rpcs / samples)
      yield* soak(share)
      const start = yield* settled
      const growth: Array<{ readonly x: number; readonly client: number; readonly server: number }> = []
      for (let done = share; done < rpcs; done += share) {
        yield* soak(Math.min(share, rpcs - done))
        const [ours, theirs] = yield* censuses
        growth.push({ x: done, client: ours.liveBytes, server: theirs.liveBytes })
        yield* Console.log(
          `${done} calls: ${(ours.liveBytes / 2 ** 20).toFixed(1)} MiB live in the client, ${(theirs.liveBytes / 2 ** 20).toFixed(1)} in the server`
        )
      }

      const isBack = (now: ReadonlyArray<Census.Census>) =>
        JSON.stringify(countsOf(now)) === JSON.stringify(countsOf(start))
      const end = yield* settled.pipe(
        Effect.repeat({ until: isBack, schedule: Schedule.spaced("1 second") }),
        Effect.timeoutOrElse({ duration: patience, orElse: () => settled })
      )
      const half = growth.slice(growth.length >> 1)
      const slopes = {
        client: slopeOf(half.map(({ client, x }) => ({ x, y: client }))),
        server: slopeOf(half.map(({ server, x }) => ({ x, y: server })))
      }
      const free = yield* slotsAreFree(client, server)
      const checks = {
        "streams, fibers, connections and listeners are back at their start": isBack(end),
        "all slots are free, and no more": free,
        [`memory grows by less than ${flatBytes} bytes a call`]: Math.max(slopes.client, slopes.server) < flatBytes,
        "no call ran out of time": outcomes["failed: TimedOut"] === undefined
      }
      yield* Console.log(`seed ${seed}, ${rpcs} calls, ${concurrency} at once: ${JSON.stringify(outcomes)}`)
      yield* Console.log(`at the start ${JSON.stringify(countsOf(start))}`)
      yield* Console.log(`at the end   ${JSON.stringify(countsOf(end))}`)
      yield* Console.log(
        `slope of the second half: client ${slopes.client.toFixed(2)}, server ${slopes.server.toFixed(2)} bytes a call`
      )
      for (const [what, holds] of Object.entries(checks)) yield* Console.log(`${holds ? "yes" : "NO "}  ${what}`)
      return Object.values(checks).every(Boolean)
    }, Effect.scoped)
  ).pipe(Random.withSeed(seed))
