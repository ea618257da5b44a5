/**
 * What a first question costs: dial, handshake, stream and answer, beside the
 * same without us.
 */

import { digestOf } from "@gantry/testkit/Fixtures"
import { peerIdFromString } from "@libp2p/peer-id"
import * as Effect from "effect/Effect"
import * as Echo from "./Echo.ts"
import type { Figures } from "./Figures.ts"
import * as Load from "./Load.ts"
import { type Client, serverId, startClient } from "./Node.ts"
import { frameFor } from "./Requests.ts"
import * as ServerProcess from "./ServerProcess.ts"

/** Peers that have never met the server, or have left it again. */
const peers = 1_000

/** Peers that come one after the other, in a round. */
const inTurn = 300

const digest = digestOf("layer")

/** Everyone's connections, closed. */
const leave = (clients: ReadonlyArray<Client>, { address }: ServerProcess.ServerProcess) =>
  Effect.promise(() => Promise.all(clients.map(({ libp2p }) => libp2p.hangUp(peerIdFromString(address.peerId)))))

/** The cases of bare dials and our own, and all peers at once. */
export const connect = (figures: Figures, rounds: number) =>
  Effect.gen(function* () {
    const server = yield* ServerProcess.spawnOurs
    const clients = yield* Effect.forEach(Array.from({ length: peers }), () => startClient(server.address))
    yield* server.join(clients.map(({ host }) => host.peerId))
    const clientAt = (index: number) => clients[index % peers] as Client

    const bare = Load.awaiting(async (index) => {
      const { libp2p } = clientAt(index)
      await Echo.ask(await Echo.dial(libp2p, server.address.addresses[0] as string), frameFor(digest))
    })
    const ours = Load.asking((index) => clientAt(index).coord.pullIntentQuery(serverId, digest))
    const measure = Effect.fnUntraced(function* (
      name: string,
      worker: Load.Worker,
      concurrency: number,
      count: number
    ) {
      const { p50, rate } = yield* Load.run(worker, concurrency, count)
      figures.note(`${name} x${concurrency}`, "a second", rate)
      figures.note(`${name} x${concurrency} p50`, "ms", p50)
      yield* leave(clients, server)
    })

    const subjects = Object.entries({ bare, ours })
    for (const [, worker] of subjects) {
      yield* Load.run(worker, 1, peers)
      yield* leave(clients, server)
    }
    for (let round = 0; round < rounds; round++) {
      const inOrder = round % 2 === 0 ? subjects : subjects.toReversed()
      for (const [name, worker] of inOrder) yield* measure(`connect, ${name}`, worker, 1, inTurn)
    }
    figures.quotient("connect / bare connect, time", "connect, ours x1 p50", "connect, bare x1 p50", { atMost: 1.1 })
    // A peer that is refused or runs out of time ends the benchmark.
    for (const [name, worker] of subjects) yield* measure(`connect, ${name}`, worker, peers, peers)
    figures.note("peers at once that were answered", "of 1,000", peers)
  })
