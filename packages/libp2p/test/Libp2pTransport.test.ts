import { createHash, randomBytes } from "node:crypto"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import type { PeerResolver, StreamTransport } from "@gantry/coord"
import { Identity } from "@gantry/libp2p"
import { Deferred, Effect, Exit, Fiber, FileSystem, Latch, Layer, Option, Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  bytes,
  echo,
  eventually,
  frameHeader,
  listen,
  readAll,
  serve,
  startNode,
  startRogue,
  startWire,
  streamsOf,
  text,
  turns
} from "./support.ts"

type Duplex = StreamTransport.DuplexStream

const protocol = "/gantry/test/1.0.0"

/** Two nodes; what comes to the second is used by the function. */
const pair = (use: (stream: Duplex) => Effect.Effect<void, StreamTransport.StreamError>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const [client, server] = yield* Effect.all([startNode(), startNode()])
    yield* server.transport.handle(protocol, serve(scope, use))
    return { client, server, open: client.transport.open(server.address, protocol) }
  })

/** Two nodes; the streams that come to the second are handed out. */
const meet = Effect.gen(function* () {
  const accepted = yield* Deferred.make<Duplex>()
  const { client, open, server } = yield* pair((stream) => Effect.asVoid(Deferred.succeed(accepted, stream)))
  const near = yield* open
  return { client, server, near, far: yield* Deferred.await(accepted) }
})

const reasonOf = (
  effect: Effect.Effect<unknown, StreamTransport.StreamError | StreamTransport.OpenError, Scope.Scope>
) => Effect.map(Effect.flip(Effect.scoped(effect)), ({ reason }) => reason)

// Real sockets and handshakes, on a machine that may be busy.
describe("Libp2pTransport", { timeout: 60_000 }, () => {
  it.effect("carries bytes there and back and ends when both sides have ended", () =>
    Effect.gen(function* () {
      const { client, open, server } = yield* pair(echo)
      const stream = yield* open
      yield* stream.write(bytes("hello "))
      yield* stream.write(bytes("world"))
      yield* stream.closeWrite
      assert.strictEqual(text(yield* readAll(stream)), "hello world")
      assert.deepStrictEqual(yield* stream.read, Option.none())
      yield* eventually(() => streamsOf(client).length === 0 && streamsOf(server).length === 0)
    })
  )

  it.effect("tells each side who the other is", () =>
    Effect.gen(function* () {
      const { client, far, near, server } = yield* meet
      assert.strictEqual(near.remotePeer, server.host.peerId)
      assert.strictEqual(far.remotePeer, client.host.peerId)
    })
  )

  it.effect("gives plain bytes, and keeps what came before a read or the end", () =>
    Effect.gen(function* () {
      const { far, near } = yield* meet
      yield* far.write(bytes("a"))
      yield* far.write(bytes("b"))
      yield* far.close
      const chunk = Option.getOrThrow(yield* near.read)
      assert.strictEqual(chunk.constructor, Uint8Array)
      assert.strictEqual(text(chunk) + text(yield* readAll(near)), "ab")
    })
  )

  it.effect("lets a side that has ended go on reading, and refuses what it writes", () =>
    Effect.gen(function* () {
      const { far, near } = yield* meet
      yield* near.closeWrite
      yield* near.closeWrite
      assert.deepStrictEqual(yield* far.read, Option.none())
      assert.strictEqual(yield* reasonOf(near.write(bytes("late"))), "Closed")
      yield* far.write(bytes("still here"))
      yield* far.closeWrite
      assert.strictEqual(text(yield* readAll(near)), "still here")
    })
  )

  it.effect("shows a reset to the other side, which loses what it has not read", () =>
    Effect.gen(function* () {
      const { far, near, server } = yield* meet
      const reading = yield* Effect.forkChild(Effect.flip(near.read))
      yield* far.write(bytes("x".repeat(1000)))
      yield* far.reset
      yield* Fiber.await(reading)
      yield* eventually(() => streamsOf(server).length === 0)
      assert.strictEqual(yield* reasonOf(Effect.forever(near.read)), "Reset")
      assert.strictEqual(yield* reasonOf(near.write(bytes("y"))), "Reset")
      assert.strictEqual(yield* reasonOf(near.closeWrite), "Reset")
      assert.strictEqual(yield* reasonOf(far.read), "Closed")
      assert.strictEqual(yield* reasonOf(far.write(bytes("y"))), "Closed")
      yield* Effect.all([near.close, near.reset, far.close, far.reset])
    })
  )

  it.effect("wakes a reader when the other side resets", () =>
    Effect.gen(function* () {
      const { far, near } = yield* meet
      const reading = yield* Effect.forkChild(Effect.flip(near.read))
      yield* far.reset
      assert.strictEqual((yield* Fiber.join(reading)).reason, "Reset")
    })
  )

  it.effect("takes the end of a connection for a reset and not for the end of the stream", () =>
    Effect.gen(function* () {
      const { client, near } = yield* meet
      const reading = yield* Effect.forkChild(Effect.flip(near.read))
      yield* eventually(() => streamsOf(client).length === 1)
      for (const connection of client.libp2p.getConnections()) connection.abort(new Error("cut"))
      assert.strictEqual((yield* Fiber.join(reading)).reason, "Reset")
    })
  )

  it.effect("says that a peer does not speak the protocol", () =>
    Effect.gen(function* () {
      const { client, server } = yield* pair(echo)
      const other = client.transport.open(server.address, "/gantry/other/1.0.0")
      assert.strictEqual(yield* reasonOf(Effect.flatMap(other, ({ read }) => read)), "UnsupportedProtocol")
      yield* eventually(() => streamsOf(client).length === 0 && streamsOf(server).length === 0)
    })
  )

  it.effect("says that a peer cannot be reached, whatever the reason", () =>
    Effect.gen(function* () {
      const [client, server, other] = yield* Effect.all([startNode(), startNode(), startNode()])
      const refusing = yield* Effect.scoped(
        Effect.map(
          listen(() => {}),
          ({ address }) => address
        )
      )
      const garbage = yield* listen((socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))
      const { peerId } = server.address
      const unreachable = [
        { peerId, addresses: [refusing] },
        { peerId, addresses: [garbage.address] },
        { peerId, addresses: [] },
        {
          peerId,
          addresses: ["nonsense", "/ip4/127.0.0.1/udp/1", "/unix/%2Ftmp%2Fa", other.address.addresses[0] as string]
        },
        { peerId, addresses: other.address.addresses.map((address) => address.split("/p2p/")[0] as string) },
        client.address
      ]
      for (const address of unreachable) {
        const error = yield* Effect.flip(Effect.scoped(client.transport.open(address, protocol)))
        assert.strictEqual(error.reason, "Unreachable")
        assert.include(error.message, address.peerId)
      }
    })
  )

  it.effect("does not connect to sockets in the file system, whatever addresses a peer gives", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const [client, server] = yield* Effect.all([startNode(), startNode()])
      let count = 0
      const local = yield* listen(() => void count++, `${yield* fs.makeTempDirectoryScoped()}/socket`)
      const { peerId } = server.host
      assert.strictEqual(
        yield* reasonOf(client.transport.open({ peerId, addresses: [local.address] }, protocol)),
        "Unreachable"
      )
      yield* turns(3)
      assert.strictEqual(count, 0)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("tries the other addresses of a peer when one does not lead to it", () =>
    Effect.gen(function* () {
      const { client, server } = yield* pair(echo)
      const refusing = yield* Effect.scoped(
        Effect.map(
          listen(() => {}),
          ({ address }) => address
        )
      )
      const addresses = ["nonsense", refusing, ...server.address.addresses]
      yield* client.transport.open({ peerId: server.host.peerId, addresses }, protocol)
    })
  )

  it.effect("tries the next address of a peer after a quarter of a second, and gives up the one that is silent", () =>
    Effect.gen(function* () {
      const { client, server } = yield* pair(echo)
      const silent = [yield* listen(() => {}), yield* listen(() => {}), yield* listen(() => {})] as const
      const addresses = [silent[0].address, silent[1].address, ...server.address.addresses, silent[2].address]
      const opening = yield* Effect.forkChild(client.transport.open({ ...server.address, addresses }, protocol), {
        startImmediately: true
      })
      for (const { sockets } of silent.slice(0, 2)) {
        yield* eventually(() => sockets.size === 1)
        assert.strictEqual(client.libp2p.getConnections().length, 0)
        yield* TestClock.adjust("249 millis")
        yield* turns(3)
        assert.strictEqual(client.libp2p.getDialQueue().length, silent.filter(({ sockets }) => sockets.size > 0).length)
        yield* TestClock.adjust("1 millis")
      }
      yield* Fiber.join(opening)
      yield* eventually(() => silent.every(({ sockets }) => sockets.size === 0))
      yield* TestClock.adjust("1 second")
      yield* turns(3)
      assert.strictEqual(client.libp2p.getConnections().length, 1)
      assert.strictEqual(silent[2].sockets.size, 0)
    })
  )

  it.effect("accepts nobody else at an address of a peer", () =>
    Effect.gen(function* () {
      const { client, server } = yield* pair(echo)
      const other = yield* startNode()
      const bare = [other, client].flatMap(({ address }) =>
        address.addresses.map((text) => text.split("/p2p/")[0] ?? "")
      )
      const stray = { ...server.address, addresses: bare }
      const error = yield* Effect.flip(Effect.scoped(client.transport.open(stray, protocol)))
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, `leads to peer ${other.host.peerId}`)
      yield* eventually(() => client.libp2p.getConnections().length === 0)
      yield* client.transport.open({ ...stray, addresses: [...bare, ...server.address.addresses] }, protocol)
      assert.deepStrictEqual(
        client.libp2p.getConnections().map(({ remotePeer }) => remotePeer.toString()),
        [server.host.peerId]
      )
    })
  )

  it.effect("needs no addresses for a peer that is connected", () =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const { client, open, server } = yield* pair(echo)
      yield* client.transport.handle(protocol, serve(scope, echo))
      yield* Effect.flatMap(open, ({ write }) => write(bytes("x")))
      const back = yield* server.transport.open({ peerId: client.host.peerId, addresses: [] }, protocol)
      yield* back.write(bytes("hi"))
      yield* back.closeWrite
      assert.strictEqual(text(yield* readAll(back)), "hi")
      assert.strictEqual(server.libp2p.getConnections().length, 1)
    })
  )

  it.effect("really cancels a dial that nobody waits for any more", () =>
    Effect.gen(function* () {
      const client = yield* startNode()
      const server = yield* startNode()
      const silent = yield* listen(() => {})
      const address = { peerId: server.host.peerId, addresses: [silent.address] }
      const opening = yield* Effect.forkChild(
        Effect.timeoutOption(Effect.scoped(client.transport.open(address, protocol)), "2 seconds")
      )
      yield* eventually(() => silent.sockets.size === 1)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* Fiber.join(opening), Option.none())
      yield* turns(3)
      assert.deepStrictEqual(client.libp2p.getDialQueue(), [])
      yield* eventually(() => silent.sockets.size === 0)
    })
  )

  it.effect("dials anew for whoever comes right after a dial was given up", () =>
    Effect.gen(function* () {
      const { client, server } = yield* pair(echo)
      const silent = yield* listen(() => {})
      const nowhere = { peerId: server.host.peerId, addresses: [silent.address] }
      const opening = yield* Effect.forkChild(Effect.scoped(client.transport.open(nowhere, protocol)))
      yield* eventually(() => silent.sockets.size === 1)
      yield* Fiber.interrupt(opening)
      yield* client.transport.open(server.address, protocol)
    })
  )

  it.effect("leaves no stream behind when an opening is interrupted, at whatever moment", () =>
    Effect.gen(function* () {
      const { client, open, server } = yield* pair(echo)
      yield* Effect.scoped(open)
      for (let attempt = 0; attempt < 40; attempt++) {
        const opening = yield* Effect.forkChild(Effect.scoped(Effect.andThen(open, Effect.never)))
        yield* turns(attempt / 4)
        yield* Fiber.interrupt(opening)
      }
      yield* eventually(() => streamsOf(client).length === 0 && streamsOf(server).length === 0)
      assert.strictEqual(client.libp2p.getConnections().length, 1)
    })
  )

  it.effect("resets a stream to which the peer agrees just as nobody needs it any more", () =>
    Effect.gen(function* () {
      const { client, open, server } = yield* pair(echo)
      yield* Effect.scoped(open)
      yield* eventually(() => streamsOf(client).length === 0)
      const opening = yield* Effect.forkChild(Effect.scoped(Effect.andThen(open, Effect.never)))
      yield* eventually(() => streamsOf(client).length === 1)
      // The first message is the peer's agreement to the protocol.
      streamsOf(client)[0]?.addEventListener("message", () => opening.interruptUnsafe(), { once: true })
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(opening)))
      yield* eventually(() => streamsOf(client).length === 0 && streamsOf(server).length === 0)
    })
  )

  it.effect("keeps the stream and its bytes when a read is interrupted", () =>
    Effect.gen(function* () {
      const { far, near } = yield* meet
      for (const word of ["one", "two", "three"]) {
        const reading = yield* Effect.forkChild(Effect.timeoutOption(near.read, "1 second"))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(reading), Option.none())
        yield* far.write(bytes(word))
        assert.strictEqual(text(Option.getOrThrow(yield* near.read)), word)
      }
      const reading = yield* Effect.forkChild(near.read, { startImmediately: true })
      yield* far.write(bytes("last"))
      yield* far.closeWrite
      yield* Fiber.interrupt(reading)
      assert.include(["last", ""], text(yield* readAll(near)))
    })
  )

  it.effect("reads on after a read that was interrupted just as its bytes came", () =>
    Effect.gen(function* () {
      const { client, far, near } = yield* meet
      const reading = yield* Effect.forkChild(near.read, { startImmediately: true })
      streamsOf(client)[0]?.addEventListener("message", () => reading.interruptUnsafe(), { once: true })
      yield* far.write(bytes("one"))
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(reading)))
      assert.strictEqual(text(Option.getOrThrow(yield* near.read)), "one")
      const next = yield* Effect.forkChild(near.read, { startImmediately: true })
      yield* far.write(bytes("two"))
      assert.strictEqual(text(Option.getOrThrow(yield* Fiber.join(next))), "two")
    })
  )

  it.effect("holds back a writer whose peer does not read, with little memory, until it is interrupted", () =>
    Effect.gen(function* () {
      const { client, far, near, server } = yield* meet
      const content = randomBytes(4 * 1024 * 1024)
      const writing = yield* Effect.forkChild(near.write(content))
      const unread = () => streamsOf(server)[0]?.readBufferLength ?? 0
      yield* eventually(() => unread() >= 262_144)
      // Whatever else could come would come before the answers to these.
      for (let i = 0; i < 20; i++) {
        const other = client.transport.open(server.address, "/gantry/other/1.0.0")
        yield* reasonOf(Effect.flatMap(other, ({ read }) => read))
      }
      assert.strictEqual(unread(), 262_144)
      assert.isUndefined(writing.pollUnsafe())
      yield* Fiber.interrupt(writing)
      const [chunk] = yield* Effect.all([far.read])
      assert.isTrue(content.subarray(0, Option.getOrThrow(chunk).length).equals(Option.getOrThrow(chunk)))
      yield* near.reset
    })
  )

  it.effect("brings megabytes in order to a reader that takes its time", () =>
    Effect.gen(function* () {
      const { far, near } = yield* meet
      const content = randomBytes(8 * 1024 * 1024)
      const writing = yield* Effect.forkChild(
        Effect.gen(function* () {
          for (let start = 0; start < content.length; start += 300_000) {
            yield* near.write(content.subarray(start, start + 300_000))
          }
          yield* near.closeWrite
        })
      )
      const hash = createHash("sha256")
      while (true) {
        const chunk = yield* far.read
        if (Option.isNone(chunk)) break
        hash.update(chunk.value)
        yield* eventually(() => true)
      }
      yield* Fiber.join(writing)
      assert.strictEqual(hash.digest("hex"), createHash("sha256").update(content).digest("hex"))
    })
  )

  it.effect("resets a stream that was closed when the peer does not end its side within a second", () =>
    Effect.gen(function* () {
      const { client, far, near } = yield* meet
      yield* near.write(bytes("bye"))
      yield* near.close
      assert.strictEqual(yield* reasonOf(near.read), "Closed")
      assert.strictEqual(text(yield* readAll(far)), "bye")
      yield* TestClock.adjust("999 millis")
      yield* far.write(bytes("ignored"))
      assert.strictEqual(streamsOf(client).length, 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(streamsOf(client).length, 0)
      yield* eventually(() => Effect.runSyncExit(far.closeWrite)._tag === "Failure")
      assert.strictEqual(yield* reasonOf(far.write(bytes("more"))), "Reset")
    })
  )

  it.effect("lets a peer end its side after our close", () =>
    Effect.gen(function* () {
      const { client, far, near, server } = yield* meet
      yield* near.close
      assert.deepStrictEqual(yield* far.read, Option.none())
      yield* far.write(bytes("unread"))
      yield* far.closeWrite
      yield* eventually(() => streamsOf(client).length === 0 && streamsOf(server).length === 0)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* far.read, Option.none())
    })
  )

  it.effect("ends an opened stream with its scope: in peace on success, by reset on failure and interruption", () =>
    Effect.gen(function* () {
      const ends: Array<string> = []
      const { open } = yield* pair((stream) =>
        Effect.matchEffect(readAll(stream), {
          onFailure: ({ reason }) => Effect.sync(() => void ends.push(reason)),
          onSuccess: () =>
            Effect.andThen(
              stream.close,
              Effect.sync(() => void ends.push("end"))
            )
        })
      )
      for (const end of [Effect.void, Effect.fail("no"), Effect.interrupt]) {
        const count = ends.length
        const used = Effect.flatMap(open, ({ write }) => write(bytes("x")))
        yield* Effect.exit(Effect.scoped(Effect.andThen(used, end)))
        yield* eventually(() => ends.length > count)
      }
      assert.deepStrictEqual(ends, ["end", "Reset", "Reset"])
    })
  )

  it.effect("carries 600 streams at once over one connection", () =>
    Effect.gen(function* () {
      const all = yield* Latch.make()
      let count = 0
      const { client, open, server } = yield* pair((stream) =>
        Effect.andThen(
          Effect.suspend(() => (++count === 600 ? all.open : all.await)),
          echo(stream)
        )
      )
      const words = yield* Effect.forEach(
        Array.from({ length: 600 }, (_, i) => `stream ${i}`),
        (word) =>
          Effect.scoped(
            Effect.gen(function* () {
              const stream = yield* open
              yield* stream.write(bytes(word))
              yield* stream.closeWrite
              return text(yield* readAll(stream)) === word
            })
          ),
        { concurrency: "unbounded" }
      )
      assert.isTrue(words.every((same) => same))
      assert.strictEqual(client.libp2p.getConnections().length, 1)
      assert.strictEqual(server.libp2p.getConnections().length, 1)
      yield* eventually(() => streamsOf(client).length === 0 && streamsOf(server).length === 0)
    })
  )

  it.effect("tells a peer that resets streams from one that is gone, and keeps the connection", () =>
    Effect.gen(function* () {
      let count = 0
      const { client, open, server } = yield* pair((stream) => (++count === 1 ? echo(stream) : stream.reset))
      const kept = yield* open
      yield* kept.write(bytes("a"))
      yield* kept.read
      const attempt = Effect.scoped(
        Effect.andThen(open, (stream) => Effect.andThen(stream.read, Effect.succeed("EOF")))
      )
      const outcomes = yield* Effect.forEach(
        Array.from({ length: 300 }),
        () => Effect.catch(attempt, ({ reason }) => Effect.succeed(reason)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...new Set(outcomes)], ["Reset"])
      yield* kept.write(bytes("b"))
      yield* kept.closeWrite
      assert.strictEqual(text(yield* readAll(kept)), "b")
      assert.strictEqual(client.libp2p.getConnections().length, 1)
      assert.strictEqual(server.libp2p.getConnections().length, 1)
    })
  )

  it.effect("takes 100 peers that connect at once from one address", () =>
    Effect.gen(function* () {
      const { server } = yield* pair(echo)
      const clients = yield* Effect.forEach(Array.from({ length: 100 }), () => startNode({ listen: [] }), {
        concurrency: "unbounded"
      })
      yield* Effect.forEach(
        clients,
        (client) =>
          Effect.scoped(
            Effect.gen(function* () {
              const stream = yield* client.transport.open(server.address, protocol)
              yield* stream.write(bytes(client.host.peerId))
              yield* stream.closeWrite
              assert.strictEqual(text(yield* readAll(stream)), client.host.peerId)
            })
          ),
        { concurrency: "unbounded" }
      )
    })
  )

  it.effect("finds a peer that restarts with its identity on another port", () =>
    Effect.gen(function* () {
      const identity = Layer.succeed(Identity.Identity, yield* Identity.make)
      const client = yield* startNode()
      const addresses = new Set<string>()
      for (let life = 0; life < 3; life++) {
        const scope = yield* Scope.make()
        const server = yield* Scope.provide(startNode({}, identity), scope)
        yield* Scope.provide(server.transport.handle(protocol, serve(scope, echo)), scope)
        addresses.add(server.address.addresses[0] as string)
        yield* Effect.scoped(client.transport.open(server.address, protocol))
        yield* Scope.close(scope, Exit.void)
      }
      assert.strictEqual(addresses.size, 3)
    })
  )

  it.effect(
    "replaces a connection in which the peer wants no more streams, or that it gives up while it is asked",
    () =>
      Effect.gen(function* () {
        const client = yield* startNode()
        const rogue = yield* startRogue()
        yield* Effect.promise(() => rogue.node.handle(protocol, () => {}))
        const open = Effect.scoped(
          Effect.flatMap(client.transport.open(rogue.address, protocol), ({ write }) => write(bytes("x")))
        )
        const goAway = () => void rogue.send(frameHeader("go away", 0, 0))
        yield* open
        const [first] = client.libp2p.getConnections()
        goAway()
        const other = client.transport.open(rogue.address, "/gantry/other/1.0.0")
        assert.strictEqual(yield* reasonOf(Effect.flatMap(other, ({ read }) => read)), "UnsupportedProtocol")
        const [second] = client.libp2p.getConnections()
        rogue.onceTold(goAway)
        yield* open
        const [third] = client.libp2p.getConnections()
        assert.strictEqual(new Set([first?.id, second?.id, third?.id]).size, 3)
        assert.strictEqual(client.libp2p.getConnections().length, 1)
      })
  )

  /** A client that has a connection to a server over a wire, and what it asks there. */
  const wired = (use: (stream: Duplex) => Effect.Effect<void, StreamTransport.StreamError>) =>
    Effect.gen(function* () {
      const { client, server } = yield* pair(use)
      const wire = yield* startWire(server)
      const ask = (address: PeerResolver.PeerAddress) =>
        Effect.gen(function* () {
          const stream = yield* client.transport.open(address, protocol, bytes("ping"))
          yield* stream.closeWrite
          return text(yield* readAll(stream))
        }).pipe(Effect.scoped)
      assert.strictEqual(yield* ask(wire.address), "ping")
      const [kept] = client.libp2p.getConnections()
      return { ask, client, kept, server, wire, unpublished: { ...wire.address, addresses: [] } }
    })

  it.effect("dials the addresses that a peer has now, half a second after it fell silent where it was", () =>
    Effect.gen(function* () {
      let asked = 0
      const { ask, client, kept, server, wire } = yield* wired((stream) => {
        asked++
        return echo(stream)
      })
      const { heal } = yield* wire.hold("to", "from")
      const asking = yield* Effect.forkChild(ask(server.address), { startImmediately: true })
      yield* eventually(() => streamsOf(client).length === 1)
      yield* TestClock.adjust("499 millis")
      yield* turns(3)
      assert.strictEqual(client.libp2p.getConnections().length, 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(asking), "ping")
      // From now on the new one is used, at once.
      assert.strictEqual(yield* ask(server.address), "ping")
      assert.strictEqual(asked, 3)
      assert.strictEqual(kept?.streams.length, 0)
      // What was sent first arrives as well; nobody waits for the answer.
      yield* heal
      yield* eventually(() => server.libp2p.getConnections().every(({ streams }) => streams.length === 0))
    })
  )

  it.effect("stays with a silent connection whose peer answers after all, and cancels the dial", () =>
    Effect.gen(function* () {
      const { ask, client, server, wire } = yield* wired(echo)
      const nowhere = yield* listen(() => {})
      const { heal } = yield* wire.hold("from")
      const asking = yield* Effect.forkChild(ask({ peerId: server.host.peerId, addresses: [nowhere.address] }), {
        startImmediately: true
      })
      yield* eventually(() => streamsOf(client).length === 1)
      yield* TestClock.adjust("500 millis")
      yield* eventually(() => nowhere.sockets.size === 1)
      yield* heal
      assert.strictEqual(yield* Fiber.join(asking), "ping")
      yield* turns(3)
      assert.deepStrictEqual(client.libp2p.getDialQueue(), [])
      assert.strictEqual(client.libp2p.getConnections().length, 1)
    })
  )

  it.effect("does not dial a peer that stays silent in a new connection as well, for ten seconds", () =>
    Effect.gen(function* () {
      const client = yield* startNode()
      let streams = 0
      const rogue = yield* startRogue({ onStream: () => void streams++ })
      const giveUp = Effect.gen(function* () {
        const before = streams
        const opening = yield* Effect.forkChild(
          Effect.timeoutOption(
            Effect.scoped(Effect.flatMap(client.transport.open(rogue.address, protocol), ({ read }) => read)),
            "2 seconds"
          ),
          { startImmediately: true }
        )
        yield* eventually(() => streams > before)
        yield* TestClock.adjust("500 millis")
        yield* eventually(() => client.libp2p.getDialQueue().length === 0)
        yield* turns(3)
        yield* TestClock.adjust("1500 millis")
        assert.deepStrictEqual(yield* Fiber.join(opening), Option.none())
        return client.libp2p.getConnections().length
      })
      assert.deepStrictEqual([yield* giveUp, yield* giveUp, yield* giveUp], [1, 2, 2])
      const [, second] = client.libp2p.getConnections()
      yield* TestClock.adjust("10 seconds")
      yield* giveUp
      assert.notStrictEqual(client.libp2p.getConnections()[1], second)
    })
  )

  it.effect("asks again over a new connection when the one it has ends before the peer has agreed", () =>
    Effect.gen(function* () {
      const { ask, client, kept, wire } = yield* wired(echo)
      const { heal } = yield* wire.hold("to", "from")
      const asking = yield* Effect.forkChild(ask(wire.address), { startImmediately: true })
      yield* eventually(() => streamsOf(client).length === 1)
      yield* wire.sever
      yield* heal
      assert.strictEqual(yield* Fiber.join(asking), "ping")
      assert.notStrictEqual(client.libp2p.getConnections()[0], kept)
    })
  )

  it.effect("fails with Reset when such a connection cannot be replaced, for what was sent may have arrived", () =>
    Effect.gen(function* () {
      const { ask, client, unpublished, wire } = yield* wired(echo)
      yield* wire.hold("to", "from")
      const asking = yield* Effect.forkChild(Effect.flip(ask(unpublished)), { startImmediately: true })
      yield* eventually(() => streamsOf(client).length === 1)
      yield* wire.sever
      const error = yield* Fiber.join(asking)
      assert.deepInclude(error, { _tag: "StreamError", reason: "Reset" })
    })
  )

  it.effect("gives up a connection that has been silent for ten seconds", () =>
    Effect.gen(function* () {
      const { ask, client, kept, server, unpublished, wire } = yield* wired(echo)
      yield* wire.hold("to", "from")
      for (let attempt = 0; attempt < 5; attempt++) {
        assert.strictEqual(kept?.status, "open")
        const asking = yield* Effect.forkChild(Effect.timeoutOption(ask(unpublished), "2 seconds"))
        yield* eventually(() => streamsOf(client).length > 0)
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* Fiber.join(asking), Option.none())
        yield* turns(3)
        assert.strictEqual(streamsOf(client).length, 0)
      }
      assert.notStrictEqual(kept?.status, "open")
      assert.strictEqual(yield* ask(server.address), "ping")
    })
  )

  it.effect("refuses new streams once the handler's scope is closed, and leaves running ones alone", () =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const [client, server] = yield* Effect.all([startNode(), startNode()])
      const handling = yield* Scope.make()
      yield* Scope.provide(server.transport.handle(protocol, serve(scope, echo)), handling)
      const open = client.transport.open(server.address, protocol)
      const stream = yield* open
      yield* stream.write(bytes("before "))
      yield* Scope.close(handling, Exit.void)
      assert.strictEqual(yield* reasonOf(Effect.flatMap(open, ({ read }) => read)), "UnsupportedProtocol")
      yield* stream.write(bytes("after"))
      yield* stream.closeWrite
      assert.strictEqual(text(yield* readAll(stream)), "before after")
      yield* server.transport.handle(protocol, serve(scope, echo))
      yield* open
    })
  )

  it.effect("resets the stream of a handler that fails, and serves the next", () =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const [client, server] = yield* Effect.all([startNode(), startNode()])
      let count = 0
      yield* server.transport.handle(protocol, (stream) =>
        Effect.suspend(() => (count++ === 0 ? Effect.die("no") : serve(scope, echo)(stream)))
      )
      const open = client.transport.open(server.address, protocol)
      assert.strictEqual(yield* reasonOf(Effect.flatMap(open, (stream) => stream.read)), "Reset")
      const stream = yield* open
      yield* stream.closeWrite
      assert.deepStrictEqual(yield* stream.read, Option.none())
    })
  )

  it.effect("brings across what was written to a stream that was closed, although the host stops right after", () =>
    Effect.gen(function* () {
      const client = yield* startNode()
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(startNode(), scope)
      const written = yield* Deferred.make<void>()
      yield* Scope.provide(
        server.transport.handle(
          protocol,
          serve(scope, (stream) =>
            Effect.gen(function* () {
              yield* stream.write(new Uint8Array(250_000).fill(7))
              yield* stream.close
              yield* Deferred.succeed(written, undefined)
            })
          )
        ),
        scope
      )
      const stream = yield* client.transport.open(server.address, protocol)
      yield* Deferred.await(written)
      yield* Scope.close(scope, Exit.void)
      const answer = yield* readAll(stream)
      assert.strictEqual(answer.length, 250_000)
      assert.isTrue(answer.every((byte) => byte === 7))
    })
  )

  it.effect("fails in its types when the host is gone", () =>
    Effect.gen(function* () {
      const { server } = yield* pair(echo)
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(startNode(), scope)
      const stream = yield* client.transport.open(server.address, protocol)
      const reading = yield* Effect.forkChild(Effect.exit(stream.read), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Fiber.join(reading)
      assert.isTrue(Exit.isFailure(exit) || Option.isNone(exit.value))
      assert.strictEqual(yield* reasonOf(stream.write(bytes("x"))), "Reset")
      assert.strictEqual(yield* reasonOf(client.transport.open(server.address, protocol)), "Unreachable")
      yield* stream.close
    })
  )
})
