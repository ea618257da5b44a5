import { networkInterfaces } from "node:os"
import { assert, describe, it } from "@effect/vitest"
import { Host, Identity } from "@gantry/libp2p"
import { Member, maxMessageBytes, NodeId, PeerId, parsePeerId } from "@gantry/protocol"
import { identify } from "@libp2p/identify"
import type { IdentifyResult } from "@libp2p/interface"
import { multiaddr } from "@multiformats/multiaddr"
import { Effect, Exit, Option, Scope } from "effect"
import { published } from "../src/internal/announcing.ts"
import { startPlain } from "./patches/unpatched.ts"
import {
  bytes,
  connect,
  echo,
  eventually,
  frameHeader,
  listen,
  readAll,
  serve,
  startNode,
  startRogue,
  streamsOf,
  text
} from "./support.ts"

const protocol = "/gantry/test/1.0.0"

const startEcho = Effect.fnUntraced(function* (options?: Partial<Host.Options>) {
  const scope = yield* Effect.scope
  const node = yield* startNode(options)
  yield* node.transport.handle(protocol, serve(scope, echo))
  return node
})

const failure = (options: Host.Options) =>
  Effect.flip(Effect.scoped(Host.make(options))).pipe(Effect.provide(Identity.layerEphemeral))

describe("Host", { timeout: 60_000 }, () => {
  it.effect("tells who it is and where it listens", () =>
    Effect.gen(function* () {
      const { host } = yield* startNode()
      assert.deepStrictEqual(parsePeerId(host.peerId), Option.some(host.peerId))
      assert.strictEqual(host.multiaddrs.length, 1)
      assert.match(host.multiaddrs[0] ?? "", new RegExp(`^/ip4/127\\.0\\.0\\.1/tcp/[1-9][0-9]*/p2p/${host.peerId}$`))
    })
  )

  it.effect("announces the addresses that it is told to", () =>
    Effect.gen(function* () {
      const announce = ["/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001", "/dns4/node-1.example.com/tcp/4001"]
      const { host } = yield* startNode({ announce })
      assert.deepStrictEqual(
        host.multiaddrs,
        announce.map((address) => `${address}/p2p/${host.peerId}`)
      )
    })
  )

  it.effect("refuses to announce where nobody can reach it, and says what to set", () =>
    Effect.gen(function* () {
      const { peerId } = (yield* startNode()).host
      for (const [address, why] of [
        ["/ip4/0.0.0.0/tcp/4001", "it names no host"],
        ["/ip6/::/tcp/4001", "it names no host"],
        ["/ip4/192.0.2.1/tcp/0", "it names no port"],
        ["/ip4/192.0.2.1/udp/4001", "it is not the TCP address of a host"],
        ["/ip4/192.0.2.1", "it is not the TCP address of a host"],
        ["/unix/%2Ftmp%2Fsocket", "it is not the TCP address of a host"],
        ["/ip4/192.0.2.1/tcp/4001/ws", "it is not the TCP address of a host"],
        [`/ip4/192.0.2.1/tcp/4001/p2p/${peerId}`, "it names another peer"]
      ] as const) {
        const { message, reason } = yield* failure({ listen: [], announce: ["/ip4/192.0.2.1/tcp/4001", address] })
        assert.strictEqual(reason, "CannotAnnounce")
        assert.include(message, `cannot announce ${address}: ${why}; set announce to`)
      }
    })
  )

  it.effect("publishes the addresses of the interfaces where it listens on all of them, and never a wildcard", () =>
    Effect.gen(function* () {
      const interfaces = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses)
      for (const [version, wildcard, local] of [
        ["IPv4", "/ip4/0.0.0.0", "127.0.0.1"],
        ["IPv6", "/ip6/::", "::1"]
      ] as const) {
        const others = interfaces.flatMap(({ address, family, internal }) =>
          family === version && !internal && !/^(169\.254\.|fe80)/.test(address) ? [address] : []
        )
        const { host } = yield* startNode({ listen: [`${wildcard}/tcp/0`] })
        const hosts = host.multiaddrs.map((address) => address.split("/")[2])
        assert.deepStrictEqual(hosts, others.length > 0 ? others : [local])
        assert.isTrue(host.multiaddrs.every((address) => /\/tcp\/[1-9][0-9]*\/p2p\//.test(address)))
      }
    })
  )

  it("publishes loopback and link-local addresses only where there is nothing better", () => {
    const publishes = (...addresses: ReadonlyArray<string>) =>
      published(addresses.map((address) => multiaddr(`${address}/tcp/4001`))).map((address) =>
        address.toString().replace("/tcp/4001", "")
      )
    const [loopback, loopback6, link, link6] = ["/ip4/127.0.0.2", "/ip6/::1", "/ip4/169.254.1.1", "/ip6/fe80::1"]
    const [own, own6, name] = ["/ip4/10.0.0.1", "/ip6/fd00::1", "/dns4/node-1.example.com"]
    assert.deepStrictEqual(publishes(loopback, own, loopback6, link, own6, link6, name), [own, own6, name])
    assert.deepStrictEqual(publishes(loopback, link, loopback6, link6), [link, link6])
    assert.deepStrictEqual(publishes(loopback, loopback6), [loopback, loopback6])
    assert.deepStrictEqual(publishes(), [])
  })

  it.effect("tells a peer that asks where it is and what it speaks, and asks nobody itself", () =>
    Effect.gen(function* () {
      const protocols = ["/ipfs/id/1.0.0", protocol]
      const node = yield* startEcho({ announce: ["/ip4/192.0.2.1/tcp/4001"] })
      const asking = yield* startPlain({ services: { identify: identify() } })
      let told: IdentifyResult | undefined
      let asked = 0
      asking.addEventListener("peer:identify", ({ detail }) => {
        told = detail
      })
      yield* Effect.promise(() => asking.unhandle(protocols))
      yield* Effect.promise(() => asking.handle(protocols, () => void asked++))
      const addresses = asking.getMultiaddrs().map((address) => address.toString())
      const stream = yield* node.transport.open({ peerId: PeerId.make(asking.peerId.toString()), addresses }, protocol)
      yield* stream.write(bytes("hello"))
      yield* eventually(() => told !== undefined)
      assert.deepStrictEqual(told?.listenAddrs.map(String), ["/ip4/192.0.2.1/tcp/4001"])
      assert.includeMembers(told?.protocols ?? [], protocols)
      assert.strictEqual(asked, 1)
    })
  )

  it.effect("says how others should list it", () =>
    Effect.gen(function* () {
      const { host } = yield* startNode({ announce: ["/ip4/192.0.2.1/tcp/4001"] })
      const nodeId = NodeId.make("node-1")
      const listed = (fields: Parameters<typeof Host.member>[0]) =>
        Effect.provideService(Host.member(fields), Host.Host, host)
      const known = { nodeId, peerId: Option.some(host.peerId), addresses: host.multiaddrs }
      assert.deepStrictEqual(yield* listed({ nodeId }), new Member(known))
      assert.deepStrictEqual(
        yield* listed({ nodeId, contentAddress: "192.0.2.1:5000", zone: "a" }),
        new Member({ ...known, contentAddress: Option.some("192.0.2.1:5000"), zone: Option.some("a") })
      )
    })
  )

  it.effect("may listen nowhere", () =>
    Effect.gen(function* () {
      const { host } = yield* startNode({ listen: [] })
      assert.deepStrictEqual(host.multiaddrs, [])
    })
  )

  it.effect("names the address that is none", () =>
    Effect.gen(function* () {
      for (const options of [{ listen: ["0.0.0.0:4001"] }, { listen: [], announce: ["0.0.0.0:4001"] }]) {
        const error = yield* failure(options)
        assert.strictEqual(error.reason, "BadAddress")
        assert.include(error.message, "0.0.0.0:4001")
      }
    })
  )

  it.effect("names the address that it cannot listen on", () =>
    Effect.gen(function* () {
      const { address } = yield* listen(() => {})
      for (const taken of [address, "/ip4/127.0.0.1/udp/4001"]) {
        const error = yield* failure({ listen: [taken] })
        assert.strictEqual(error.reason, "CannotListen")
        assert.include(error.message, taken)
        assert.notInclude(error.message, "\n")
      }
    })
  )

  it.effect("frees its address when it stops", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(startNode(), scope)
      const client = yield* startNode()
      yield* Effect.exit(client.transport.open(first.address, protocol))
      const address = (first.host.multiaddrs[0] ?? "").split("/p2p/")[0] ?? ""
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(first.libp2p.status, "stopped")
      yield* eventually(() => client.libp2p.getConnections().length === 0)
      yield* startNode({ listen: [address] })
    })
  )

  it.live("closes a connection on which nothing moves, and makes a new one when it is needed", () =>
    Effect.gen(function* () {
      const server = yield* startEcho()
      const client = yield* startNode({ idleTimeout: "300 millis" })
      // On a busy machine even a handshake may pause for that long.
      const open = Effect.retry(Effect.scoped(client.transport.open(server.address, protocol)), { times: 20 })
      for (let i = 0; i < 2; i++) {
        yield* open
        yield* eventually(() => client.libp2p.getConnections().length === 0)
      }
    })
  )

  it.effect("keeps nothing about the peers that it has met", () =>
    Effect.gen(function* () {
      const server = yield* startEcho()
      const client = yield* startNode()
      yield* client.transport.open(server.address, protocol)
      for (const { libp2p } of [server, client]) {
        assert.deepStrictEqual(yield* Effect.promise(() => libp2p.peerStore.all()), [])
      }
    })
  )

  it.effect("refuses connections beyond its limit, and keeps those it has", () =>
    Effect.gen(function* () {
      const server = yield* startEcho({ maxConnections: 2 })
      const clients = yield* Effect.all([startNode(), startNode(), startNode()])
      const opens = yield* Effect.forEach(clients, ({ transport }) =>
        Effect.result(transport.open(server.address, protocol))
      )
      assert.deepStrictEqual(
        opens.map(({ _tag }) => _tag),
        ["Success", "Success", "Failure"]
      )
      assert.strictEqual(server.libp2p.getConnections().length, 2)
      const [first] = clients
      assert.strictEqual(server.libp2p.getConnections(first?.libp2p.peerId).length, 1)
      const stream = yield* (first as (typeof clients)[0]).transport.open(server.address, protocol)
      yield* stream.write(bytes("still here"))
      yield* stream.closeWrite
      assert.strictEqual(text(yield* readAll(stream)), "still here")
    })
  )

  it.effect("lets a peer in while a hundred others do not get on with their handshakes", () =>
    Effect.gen(function* () {
      const server = yield* startEcho()
      yield* Effect.forEach(Array.from({ length: 100 }), () => connect(server.host.multiaddrs[0] ?? ""), {
        concurrency: "unbounded"
      })
      const client = yield* startNode()
      yield* client.transport.open(server.address, protocol)
    })
  )

  it.effect("ends the connection of a peer that announces a frame beyond the window", () =>
    Effect.gen(function* () {
      const server = yield* startEcho()
      const rogue = yield* startRogue()
      const connection = yield* rogue.connect(server.host.multiaddrs[0] ?? "")
      yield* eventually(() => server.libp2p.getConnections().length === 1)
      rogue.send(frameHeader("data", 1, 262_144).subarray(0, 5))
      rogue.send(frameHeader("data", 1, 262_144).subarray(5))
      rogue.send(new Uint8Array(262_144))
      // The peer answers to what came so far, so it bears with that.
      yield* Effect.exit(Effect.promise(() => connection.newStream("/gantry/other/1.0.0")))
      assert.strictEqual(connection.status, "open")
      rogue.send(frameHeader("data", 1, 262_145))
      yield* eventually(() => connection.status !== "open" && server.libp2p.getConnections().length === 0)
    })
  )

  it.effect("ends the connection of a peer that sends more than the window before anyone reads", () =>
    Effect.gen(function* () {
      const server = yield* startNode()
      yield* server.transport.handle(protocol, () => Effect.never)
      const rogue = yield* startRogue()
      const connection = yield* rogue.connect(server.host.multiaddrs[0] ?? "")
      const stream = yield* Effect.promise(() => connection.newStream(protocol))
      yield* eventually(() => streamsOf(server).length === 1)
      // The muxer of the rogue would wait for the window.
      for (let sent = 0; sent < 2 * maxMessageBytes; sent += 65_536) {
        rogue.send(frameHeader("data", Number(stream.id), 65_536))
        rogue.send(new Uint8Array(65_536))
      }
      yield* eventually(() => streamsOf(server).length === 0)
    })
  )
})
