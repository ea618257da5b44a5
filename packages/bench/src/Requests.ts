/**
 * The cases that ask a server again and again: what a request costs beside an
 * echo of the same bytes.
 */

import { type Digest, encodeFrame, encodeMessage } from "@gantry/protocol"
import { digestOf, pleasePull } from "@gantry/testkit/Fixtures"
import type { Connection } from "@libp2p/interface"
import * as Effect from "effect/Effect"
import * as Echo from "./Echo.ts"
import type { Figures } from "./Figures.ts"
import * as Load from "./Load.ts"
import { type Client, serverId, startClient } from "./Node.ts"
import * as ServerProcess from "./ServerProcess.ts"

/** Members of a large cluster. */
export const manyMembers = 10_000

/** The layers of one image. */
const image: ReadonlyArray<Digest> = Array.from({ length: 60 }, (_, index) => digestOf(`layer ${index}`))

const layerOf = (index: number) => image[index % image.length] as Digest

/** The bytes of a query. */
export const frameFor = (digest: Digest) => encodeFrame(encodeMessage({ _tag: "PullIntentRequest", digest }))

/** Peers that share the load, so that none comes near the streams that a server grants to one. */
const peers = 4

/** A server that knows its clients, and workers that ask it. */
interface Setting {
  readonly server: ServerProcess.ServerProcess
  readonly echo: Load.Worker
  readonly intent: (digestFor?: (index: number) => Digest) => Load.Worker
  readonly pull: (digests: ReadonlyArray<Digest>) => Load.Worker
}

const prepare = Effect.fnUntraced(function* (options?: { readonly members?: number; readonly churns?: boolean }) {
  const server = yield* ServerProcess.spawnOurs
  const clients = yield* Effect.forEach(Array.from({ length: peers }), () => startClient(server.address))
  yield* server.join(
    clients.map(({ host }) => host.peerId),
    { members: 3, ...options }
  )
  const setting = yield* settingOf(server, clients)
  yield* Load.run(setting.echo, 64, Load.warmUp)
  yield* Load.run(setting.intent(), 64, Load.warmUp)
  return setting
})

/** How clients ask a server, each in its turn. */
const settingOf = Effect.fnUntraced(function* (
  server: ServerProcess.ServerProcess,
  clients: ReadonlyArray<Client>
): Effect.fn.Return<Setting> {
  const clientAt = (index: number) => clients[index % clients.length] as Client
  const connections = yield* Effect.forEach(clients, ({ libp2p }) =>
    Effect.promise(() => Echo.dial(libp2p, server.address.addresses[0] as string))
  )
  const frame = frameFor(layerOf(0))
  return {
    server,
    echo: Load.awaiting((index) => Echo.ask(connections[index % connections.length] as Connection, frame)),
    intent: (digestFor = layerOf) =>
      Load.asking((index) => clientAt(index).coord.pullIntentQuery(serverId, digestFor(index))),
    pull: (digests) => {
      const request = pleasePull(digests)
      return Load.asking((index) => clientAt(index).coord.pleasePull(serverId, request))
    }
  }
})

/** Runs subjects in turn, each round in another order, and notes their rates and times. */
const compare = Effect.fnUntraced(function* (
  figures: Figures,
  subjects: Readonly<Record<string, Load.Worker>>,
  options: { readonly concurrency: number; readonly count: number; readonly rounds: number }
) {
  const names = Object.entries(subjects)
  for (let round = 0; round < options.rounds; round++) {
    for (const [name, worker] of round % 2 === 0 ? names : names.toReversed()) {
      const { p50, rate } = yield* Load.run(worker, options.concurrency, options.count)
      figures.note(`${name} x${options.concurrency}`, "a second", rate)
      figures.note(`${name} x${options.concurrency} p50`, "ms", p50)
    }
  }
})

/** Compares subjects at every concurrency. */
export const compareAll = (figures: Figures, subjects: Readonly<Record<string, Load.Worker>>, rounds: number) =>
  Effect.forEach(
    Load.concurrencies,
    (concurrency) => compare(figures, subjects, { concurrency, count: Load.countAt(concurrency), rounds }),
    { discard: true }
  )

/** The limit by itself. */
export const echo = (figures: Figures, rounds: number) =>
  Effect.gen(function* () {
    const { echo } = yield* prepare()
    yield* compareAll(figures, { "echo alone": echo }, rounds)
  })

/** What one query costs beside an echo, for one caller and for many. */
export const intent = (figures: Figures, rounds: number) =>
  Effect.gen(function* () {
    const { echo, intent } = yield* prepare()
    yield* compareAll(figures, { echo, intent: intent() }, rounds)
    figures.quotient("intent / echo, rate at 64", "intent x64", "echo x64", { atLeast: 0.9 })
    figures.quotient("intent / echo, p50 at 1", "intent x1 p50", "echo x1 p50", { atMost: 1.1 })
  })

/** What a large membership costs. */
export const manyIntents = (figures: Figures, rounds: number) =>
  Effect.gen(function* () {
    const few = yield* prepare()
    const many = yield* prepare({ members: manyMembers })
    const subjects = { "intent, 3 members": few.intent(), "intent-10k": many.intent() }
    yield* compare(figures, subjects, { concurrency: 64, count: Load.countAt(64), rounds })
    figures.quotient("intent-10k / intent, rate", "intent-10k x64", "intent, 3 members x64", { atLeast: 0.95 })
  })

/** What a large membership costs when it changes all the time. */
export const churn = (figures: Figures, rounds: number) =>
  Effect.gen(function* () {
    const many = yield* prepare({ members: manyMembers })
    const churning = yield* prepare({ members: manyMembers, churns: true })
    const subjects = { "at rest": many.intent(), churn: churning.intent() }
    yield* compare(figures, subjects, { concurrency: 64, count: Load.countAt(64), rounds })
    figures.quotient("churn / at rest, rate", "churn x64", "at rest x64", { atLeast: 0.8 })
  })

/** What the first question about a digest costs among many members: hashing all of them. */
export const newDigests = (figures: Figures, rounds: number) =>
  Effect.gen(function* () {
    const { intent, server } = yield* prepare({ members: manyMembers })
    const count = 300
    const cpuOf = Effect.fnUntraced(function* (worker: Load.Worker) {
      const before = yield* server.report
      yield* Load.run(worker, 16, count)
      const after = yield* server.report
      return { cpuMillis: (after.cpuMillis - before.cpuMillis) / count, stallMillis: after.stallMillis }
    })
    for (let round = 0; round < rounds; round++) {
      const known = yield* cpuOf(intent())
      const unknown = yield* cpuOf(intent((index) => digestOf(`new ${round} ${index}`)))
      figures.note("ranking a new digest among 10,000", "ms of CPU", unknown.cpuMillis - known.cpuMillis)
      figures.note("longest stall while ranking new digests", "ms", unknown.stallMillis)
    }
    figures.hold("ranking a new digest, ms of CPU", "ranking a new digest among 10,000", { atMost: 3.5 })
    figures.hold("longest stall meanwhile, ms", "longest stall while ranking new digests", { atMost: 10 })
  })

/** What a batch costs beside a single digest. */
export const batches = (figures: Figures, rounds: number) =>
  Effect.gen(function* () {
    const { pull } = yield* prepare()
    const subjects = Object.fromEntries(
      [1, 16, 256].map((size) => [
        `please-pull of ${size}`,
        pull(Array.from({ length: size }, (_, index) => digestOf(`layer ${index}`)))
      ])
    )
    yield* compare(figures, subjects, { concurrency: 1, count: 500, rounds })
    figures.quotient("please-pull of 256 / of 1, time", "please-pull of 256 x1 p50", "please-pull of 1 x1 p50", {
      atMost: 6
    })
  })
