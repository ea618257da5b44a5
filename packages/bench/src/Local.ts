/**
 * What needs no network: answers in the same process, and ranks.
 */
import { CoordServer } from "@gantry/coord/CoordServer"
import { Members, Membership } from "@gantry/coord/Members"
import { type NodeId, Rendezvous } from "@gantry/protocol"
import { digestOf, members, peerIdOf } from "@gantry/testkit/Fixtures"
import * as MemoryNetwork from "@gantry/testkit/MemoryNetwork"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Figures } from "./Figures.ts"
import * as Load from "./Load.ts"
import { layerServer } from "./Node.ts"

const digest = digestOf("layer")

/** The microseconds that one of `count` runs takes. */
const microsOf = (count: number, run: () => unknown): number => {
  const begunAt = performance.now()
  for (let index = 0; index < count; index++) run()
  return ((performance.now() - begunAt) * 1_000) / count
}

export const local = (figures: Figures, rounds: number) =>
  Effect.forEach(
    [3, 100, 1_000, 10_000],
    Effect.fnUntraced(function* (size) {
      const everyone = members(size)
      const nodes = everyone.map(({ nodeId }) => nodeId)
      const self = nodes[size - 1] as NodeId
      const among = (what: string) => `${what}, ${size.toLocaleString("en")} members`
      yield* Effect.gen(function* () {
        const server = yield* CoordServer
        yield* Membership.use(({ set }) => set(everyone))
        const view = yield* Effect.flatMap(Members, (known) => known.view)
        const ask = Load.asking(() => server.localPullIntent(digest))
        yield* Load.run(ask, 1, 50_000)
        for (let round = 0; round < rounds; round++) {
          const { rate } = yield* Load.run(ask, 1, 50_000)
          figures.note(among("localPullIntent"), "a second", rate)
          figures.note(
            among("rankOf, cached"),
            "µs",
            microsOf(100_000, () => view.rankOf(self, digest))
          )
          figures.note(
            among("best 3, cached"),
            "µs",
            microsOf(1_000, () => view.best(digest, 3))
          )
          figures.note(
            among("rankOf, plain"),
            "µs",
            microsOf(5, () => Rendezvous.rankOf(nodes, self, digest))
          )
          figures.note(
            among("topK of 3, plain"),
            "µs",
            microsOf(5, () => Rendezvous.topK(nodes, digest, 3))
          )
        }
      }).pipe(
        Effect.provide(
          layerServer.pipe(Layer.provide(MemoryNetwork.layerTransport(peerIdOf(0))), Layer.provide(MemoryNetwork.layer))
        )
      )
    }),
    { discard: true }
  ).pipe(
    Effect.tap(() =>
      Effect.sync(() => {
        figures.hold("localPullIntent a second, 10,000 members", "localPullIntent, 10,000 members", {
          atLeast: 100_000
        })
        figures.hold("rankOf, cached, µs", "rankOf, cached, 10,000 members", { atMost: 5 })
      })
    )
  )
