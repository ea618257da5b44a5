import { assert, describe, it } from "@effect/vitest"
import type { PeerResolver } from "@gantry/coord"
import { MembersView } from "@gantry/coord"
import { Member, NodeId, type PeerId, parsePeerId, protocolId } from "@gantry/protocol"
import { digestOf } from "@gantry/testkit/Fixtures"
import {
  ask,
  frameOf,
  ioTurn,
  memberOf,
  messageIn,
  openRaw,
  type Peer,
  readToEnd,
  sendRaw,
  startServer,
  whileTimePasses
} from "@gantry/testkit/suites/CoordFixture"
import { Effect, Option } from "effect"
import { base32 } from "multiformats/bases/base32"
import { base58btc } from "multiformats/bases/base58"
import { type Node, startNode } from "../support.ts"
import * as TcpPeers from "../TcpPeers.ts"
import { announcement, attacks } from "./Attack.ts"
import { type Memory, startMeasured } from "./MeasuredProcess.ts"

const query = { _tag: "PullIntentRequest", digest: digestOf("wanted") } as const

const isServed = (honest: Peer, server: Peer) =>
  Effect.map(ask(honest, server, query), (reply) => assert.isTrue(Option.isSome(reply)))

const sum = (counts: Record<string, number>) => Object.values(counts).reduce((total, count) => total + count, 0)

const plus = (left: Record<string, number>, right: Record<string, number>) => {
  const both = { ...left }
  for (const [event, count] of Object.entries(right)) both[event] = (both[event] ?? 0) + count
  return both
}

/** That all peers together get each slot there is, that one stream more is refused, and that all are served. */
const slotsAreFree = (peers: ReadonlyArray<Peer>, server: Peer, perPeer: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const all = peers.flatMap((peer) => Array.from({ length: perPeer }, () => peer))
      const streams = yield* Effect.forEach(all, (peer) => openRaw(peer, server), { concurrency: "unbounded" })
      for (const peer of peers) {
        assert.deepStrictEqual(yield* sendRaw(peer, server, frameOf(query)), { _tag: "Reset" })
      }
      yield* Effect.forEach(
        streams,
        (stream) =>
          Effect.gen(function* () {
            yield* stream.write(frameOf(query))
            yield* stream.closeWrite
            assert.isTrue(Option.isSome(messageIn(yield* readToEnd(stream))))
          }),
        { concurrency: "unbounded" }
      )
    })
  )

describe("CoordServer bears with hostile peers", { timeout: 60_000 }, () => {
  for (const { attackers: count = 1, counts: expected, ending, streamsPerPeer = 1, strike, title } of attacks) {
    it.effect(title, () =>
      Effect.gen(function* () {
        const attackers = yield* Effect.all(Array.from({ length: count }, () => startNode()))
        const honest = yield* startNode()
        const peers = [honest, ...attackers]
        const { counts, peer: server } = yield* startServer({
          config: {
            maxConcurrentStreams: peers.length * streamsPerPeer,
            maxConcurrentStreamsPerPeer: streamsPerPeer
          }
        })
        // Whoever is hostile has his connection: what he does may cost him the next one.
        yield* Effect.forEach(peers, (peer) => isServed(peer, server))

        const aftermath = yield* strike(attackers, server)
        yield* isServed(honest, server)
        assert.deepStrictEqual(yield* whileTimePasses(aftermath), ending)

        const soFar = plus(expected, { pullIntentServed: peers.length + 1 })
        while (sum(yield* counts) < sum(soFar)) yield* ioTurn
        assert.deepStrictEqual(yield* counts, soFar)

        yield* slotsAreFree(peers, server, streamsPerPeer)
        assert.deepStrictEqual(
          yield* counts,
          plus(soFar, {
            pullIntentServed: peers.length * streamsPerPeer,
            "streamError:peer_stream_limit": peers.length
          })
        )
      }).pipe(Effect.provide(TcpPeers.layer))
    )
  }
})

describe("CoordServer keeps no memory for what was only announced", { timeout: 60_000 }, () => {
  const mebibyte = 1_048_576

  it.effect("of 1 MiB on each of 600 streams", () =>
    Effect.gen(function* () {
      const { greeting: address, order } = yield* startMeasured<PeerResolver.PeerAddress, "measure", Memory>(
        "MeasuredServer.ts"
      )
      const attackers = yield* Effect.all(Array.from({ length: 6 }, () => startNode()))
      const flood = (bytes: Uint8Array) =>
        Effect.forEach(
          attackers.flatMap((attacker) => new Array<Node>(100).fill(attacker)),
          ({ transport }) => transport.open(address, protocolId, bytes),
          { concurrency: "unbounded", discard: true }
        )
      // What any 600 streams at once cost is no part of it: code is compiled and pools are filled before.
      for (let round = 0; round < 10; round++) yield* Effect.scoped(flood(frameOf(query)))
      const before = yield* order("measure")
      yield* flood(announcement)
      const after = yield* order("measure")
      assert.isBelow(after.rss - before.rss, 20 * mebibyte)
      assert.isBelow(after.live - before.live, 20 * mebibyte)
    })
  )
})

/** The same id in the form of a CIDv1: version 1, codec libp2p-key, then the multihash. */
const asCid = (peerId: PeerId) => base32.encode(Uint8Array.of(0x01, 0x72, ...base58btc.decode(`z${peerId}`)))

describe("CoordServer knows its members", () => {
  it.effect("although the membership publishes their ids as CIDv1, and refuses a stranger", () =>
    Effect.gen(function* () {
      const [member, stranger] = yield* Effect.all([startNode(), startNode()])
      const published = parsePeerId(asCid(member.host.peerId))
      const { counts, peer } = yield* startServer({
        config: { peerAuthorization: "enforce" },
        view: Effect.succeed(MembersView.make([new Member({ ...memberOf(NodeId.make("member")), peerId: published })]))
      })
      assert.deepStrictEqual(yield* ask(stranger, peer, query), Option.none())
      yield* isServed(member, peer)
      assert.deepStrictEqual(yield* counts, { pullIntentServed: 1, "unauthorizedPeer:unrecognized": 1 })
    }).pipe(Effect.provide(TcpPeers.layer))
  )
})
