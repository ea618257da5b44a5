import { createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"
import * as Members from "@gantry/coord/Members"
import { NodeId } from "@gantry/protocol"
import { Fixtures } from "@gantry/testkit"
import { Context, Effect, Option, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as SelfDocument from "../../src/members/SelfDocument.ts"

/** What the node of a number says of itself. */
export const selfOf = (index: number, more: Partial<SelfDocument.SelfDocument> = {}) =>
  new SelfDocument.SelfDocument({
    node_id: NodeId.make(`n${index}`),
    peer_id: Fixtures.peerIdOf(index),
    p2p_addrs: [`/ip4/127.0.0.1/tcp/${4000 + index}`],
    transfer_addr: `127.0.0.1:${5000 + index}`,
    ...more
  })

/** A real HTTP server; its address, and how many requests it has had. */
export const serve = Effect.fnUntraced(function* (listener: RequestListener) {
  let requests = 0
  const server = yield* Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer((request, response) => {
        requests++
        listener(request, response)
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  const { port } = server.address() as AddressInfo
  return { address: `127.0.0.1:${port}`, requests: () => requests, server }
})

/** An agent that says who it is, as long as it says anything. */
export const serveSelf = (self: () => SelfDocument.SelfDocument | undefined) =>
  serve((request, response) => {
    const document = self()
    if (document === undefined || request.url !== SelfDocument.path) response.writeHead(404).end()
    else response.writeHead(200, { "content-type": "application/json" }).end(SelfDocument.encode(document))
  })

/** Members in short: `n1 12D3…@127.0.0.1:5001 in a`. */
export const describe = (view: Members.Members["Service"]["view"] extends Effect.Effect<infer A> ? A : never) =>
  view.members.map(({ nodeId, peerId, zone }) =>
    [nodeId, Option.isSome(peerId) ? "known" : "unknown", ...Option.toArray(zone)].join(" ")
  )

/** Waits until the members are these. */
export const until = Effect.fnUntraced(function* (
  context: Context.Context<Members.Members>,
  ...expected: ReadonlyArray<string>
) {
  const members = Context.get(context, Members.Members)
  yield* members.changes.pipe(
    Stream.filter((view) => JSON.stringify(describe(view)) === JSON.stringify(expected)),
    Stream.take(1),
    Stream.runDrain
  )
})

/** A request to a server in this process is answered within a few turns of the event loop, however busy the machine is. */
const turnsPerSecond = 100

/** Lets sockets and disks have their turn, while no time goes by. */
export const turnsOfTheEventLoop = Effect.promise(async () => {
  for (let turn = 0; turn < turnsPerSecond; turn++) await new Promise((resolve) => setImmediate(resolve))
})

/** Lets a second after the other go by, and what comes from sockets and disks come, until something is true. */
export const eventually = Effect.fnUntraced(function* <E, R>(condition: Effect.Effect<boolean, E, R>) {
  while (!(yield* condition)) {
    yield* turnsOfTheEventLoop
    yield* TestClock.adjust("1 second")
  }
})
