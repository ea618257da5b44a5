/**
 * What a server's memory grows by.
 */
import { protocolId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import type { Figures } from "./Figures.ts"
import { startClient } from "./Node.ts"
import { manyMembers } from "./Requests.ts"
import * as ServerProcess from "./ServerProcess.ts"

const mebibyte = 1_048_576

export const memory = (figures: Figures) =>
  Effect.gen(function* () {
    const server = yield* ServerProcess.spawnOurs
    let before = yield* server.weight
    const grown = Effect.fnUntraced(function* (what: string) {
      const now = yield* server.weight
      const live = (now.liveBytes - before.liveBytes) / mebibyte
      figures.note(`${what}, live`, "MiB", live)
      const resident = (now.residentBytes - before.residentBytes) / mebibyte
      figures.note(`${what}, resident`, "MiB", resident)
      before = now
      return resident
    })
    figures.note("empty server, live", "MiB", before.liveBytes / mebibyte)
    figures.note("empty server, resident", "MiB", before.residentBytes / mebibyte)

    yield* server.join([], { members: manyMembers })
    const members = yield* grown("10,000 members")
    yield* server.fail(100_000)
    const failures = yield* grown("100,000 failures remembered")
    figures.note("members and failures, resident", "MiB", members + failures)
    figures.hold("10,000 members and 100,000 failures, MiB", "members and failures, resident", { atMost: 60 })

    const clients = yield* Effect.forEach(Array.from({ length: 1_000 }), () => startClient(server.address))
    const connect = clients.map(({ transport }) => Effect.scoped(transport.open(server.address, protocolId)))
    yield* Effect.orDie(Effect.all(connect, { concurrency: 32 }))
    yield* grown("1,000 idle connections")
    const open = clients.slice(0, 512).map(({ transport }) => transport.open(server.address, protocolId))
    yield* Effect.orDie(Effect.all(open, { concurrency: 32 }))
    yield* grown("512 open streams")
  })
