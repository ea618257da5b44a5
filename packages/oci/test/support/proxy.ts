import * as Net from "node:net"
import { Effect } from "effect"
import { type Answer, type Origin, serve } from "./origin.ts"

/** A proxy, and what it was asked to do. */
export interface Proxy extends Origin {
  /** The tunnels that were asked for, `host:port` each. */
  readonly tunnels: ReadonlyArray<string>
  /** The `Proxy-Authorization` of each. */
  readonly authorizations: ReadonlyArray<string | undefined>
}

/**
 * Answers requests in place of the servers that they are for, and leads every
 * tunnel to one server, or refuses it with a status.
 */
export const serveProxy = Effect.fnUntraced(function* (answer: Answer, leadsTo: Origin | number = 403) {
  const origin = yield* serve(answer)
  const tunnels: Array<string> = []
  const authorizations: Array<string | undefined> = []
  origin.server.on("connect", (request, client: Net.Socket) => {
    tunnels.push(request.url ?? "")
    authorizations.push(request.headers["proxy-authorization"])
    if (typeof leadsTo === "number") return void client.end(`HTTP/1.1 ${leadsTo} No\r\ncontent-length: 0\r\n\r\n`)
    const server = Net.connect(leadsTo.port, "127.0.0.1", () => {
      client.write("HTTP/1.1 200 OK\r\n\r\n")
      server.pipe(client)
      client.pipe(server)
    })
    for (const socket of [client, server]) {
      socket.on("error", () => {})
      socket.on("close", () => {
        client.destroy()
        server.destroy()
      })
    }
  })
  return { ...origin, tunnels, authorizations } satisfies Proxy
})
