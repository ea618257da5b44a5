/**
 * The same questions to a server in Go, where Go is installed.
 */
import { fileURLToPath } from "node:url"
import { PeerId } from "@gantry/protocol"
import { digestOf } from "@gantry/testkit/Fixtures"
import { peerIdFromString } from "@libp2p/peer-id"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Figures } from "./Figures.ts"
import * as Load from "./Load.ts"
import { type Client, serverId, startClient } from "./Node.ts"
import * as Requests from "./Requests.ts"

const folder = fileURLToPath(new URL("../../interop/go", import.meta.url))
const program = fileURLToPath(new URL("../../interop/dist/go-peer", import.meta.url))

const Ready = Schema.fromJsonString(Schema.Struct({ peer: PeerId, addrs: Schema.Array(Schema.String) }))

const build = Effect.gen(function* () {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const exitCode = yield* spawner.exitCode(ChildProcess.make("go", ["build", "-o", program, "."], { cwd: folder }))
  if (exitCode !== 0) return yield* Effect.die(new Error(`go build ended with exit code ${exitCode}`))
  return true
}).pipe(
  Effect.catchReason("PlatformError", "NotFound", () => Effect.succeed(false)),
  Effect.orDie
)

/** A Go node that answers every query, until the scope closes. */
const spawnGo = Effect.gen(function* () {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const child = yield* spawner.spawn(
    // Its input stays open: it ends with that.
    ChildProcess.make(program, ["-answer"], { stdin: Stream.never, stderr: "inherit", killSignal: "SIGKILL" })
  )
  const lines = child.stdout.pipe(Stream.decodeText(), Stream.splitLines)
  const { addrs, peer } = yield* Effect.flatMap(
    Effect.flatten(Effect.map(Stream.runHead(lines), Effect.fromOption)),
    (line) => Schema.decodeEffect(Ready)(line)
  )
  return { peerId: peer, addresses: addrs }
}).pipe(Effect.orDie)

export const go = Effect.fnUntraced(function* (figures: Figures, rounds: number) {
  if (!(yield* build)) return yield* Console.error("go is not installed: its server is not measured")
  const address = yield* spawnGo
  const clients = yield* Effect.forEach(Array.from({ length: 4 }), () => startClient(address))
  const clientAt = (index: number) => clients[index % clients.length] as Client
  const digest = digestOf("layer")
  const ask = (index: number) => clientAt(index).coord.pullIntentQuery(serverId, digest)
  const intent = Load.asking(ask)
  yield* Load.run(intent, 64, Load.warmUp)
  yield* Requests.compareAll(figures, { "intent to Go": intent }, rounds)
  const server = peerIdFromString(address.peerId)
  const anew = Load.asking((index) =>
    Effect.andThen(
      Effect.promise(() => clientAt(index).libp2p.hangUp(server)),
      ask(index)
    )
  )
  for (let round = 0; round < rounds; round++) {
    const { p50 } = yield* Load.run(anew, 1, 50)
    figures.note("connect to Go p50", "ms", p50)
  }
})
