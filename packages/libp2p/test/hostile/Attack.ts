/**
 * What hostile peers do to a server, and what must come of it.
 */
import type { Socket } from "node:net"
import { encodeFrame, type Message, maxMessageBytes, protocolId } from "@gantry/protocol"
import { digestOf } from "@gantry/testkit/Fixtures"
import { type Ending, frameOf, openRaw, type Peer, readToEnd, silence } from "@gantry/testkit/suites/CoordFixture"
import { Effect, Option, type Scope } from "effect"
import { connect, type Node } from "../support.ts"

/** One thing that hostile peers do, and everything that the server is to show for it. */
export interface Attack {
  readonly title: string
  /** Does the worst, and gives what is left to wait for: how the stream ends, or that it is gone. */
  readonly strike: (attackers: ReadonlyArray<Node>, server: Peer) => Effect.Effect<Aftermath, never, Scope.Scope>
  /** What the hostile peer sees in the end; `gone` if it sees nothing any more. */
  readonly ending: Ending | "gone"
  /** All metrics that fire for it. */
  readonly counts: Record<string, number>
  /** Hostile peers; one. */
  readonly attackers?: number
  /** Streams that the server gives each peer at once; one. */
  readonly streamsPerPeer?: number
}

/** What follows a strike, as virtual time passes. */
export type Aftermath = Effect.Effect<Ending | "gone">

const wanted = digestOf("wanted")
const query: Message = { _tag: "PullIntentRequest", digest: wanted }
const batch = (
  digests: ReadonlyArray<string>,
  reference: { registry?: string; repository?: string } = {}
): Message => ({
  _tag: "PleasePullRequest",
  registry: "registry.example.com",
  repository: "library/nginx",
  kind: "layer",
  digests,
  ...reference
})

/** The length of the largest frame, and nothing of its body. */
export const announcement = Uint8Array.of(0x80, 0x80, 0x40)

const first = (attackers: ReadonlyArray<Node>) => attackers[0] as Node
const gone = Effect.succeed("gone" as const)

/** Sends bytes and then nothing, and leaves the stream open. */
const stall =
  (bytes: Uint8Array): Attack["strike"] =>
  (attackers, server) =>
    Effect.gen(function* () {
      const stream = yield* openRaw(first(attackers), server)
      if (bytes.length > 0) yield* Effect.ignore(stream.write(bytes))
      return readToEnd(stream)
    })

/** Sends bytes, ends its side, and reads on. */
const say =
  (bytes: Uint8Array): Attack["strike"] =>
  (attackers, server) =>
    Effect.gen(function* () {
      const stream = yield* openRaw(first(attackers), server)
      yield* Effect.ignore(Effect.andThen(stream.write(bytes), stream.closeWrite))
      return readToEnd(stream)
    })

const stalls = (title: string, bytes: Uint8Array): Attack => ({
  title,
  strike: stall(bytes),
  ending: silence,
  counts: { "streamError:deadline": 1 }
})

const says = (title: string, bytes: Uint8Array, reason: string): Attack => ({
  title,
  strike: say(bytes),
  ending: silence,
  counts: { [`streamError:${reason}`]: 1 }
})

const body = (message: Message) => {
  const frame = frameOf(message)
  return frame.subarray(frame.findIndex((byte) => byte < 0x80) + 1)
}

/** As many digests as one frame can take, without the reference that they are to come from. */
const mebibyteOfDigests = Array.from({ length: Math.floor((maxMessageBytes - 64) / 73) }, (_, index) =>
  digestOf(`digest ${index}`)
)

/** Opens streams at once, holds those that it is given, and then resets them all. */
const flood =
  (streams: number): Attack["strike"] =>
  (attackers, server) =>
    Effect.gen(function* () {
      const all = Array.from({ length: streams }, (_, index) => attackers[index % attackers.length] as Node)
      const opened = yield* Effect.forEach(
        all,
        (attacker) => Effect.option(attacker.transport.open(server.address, protocolId)),
        { concurrency: "unbounded" }
      )
      return Effect.as(
        Effect.forEach(opened, (stream) => (Option.isSome(stream) ? stream.value.reset : Effect.void)),
        "gone" as const
      )
    })

/** Opens streams that never say, or only begin to say, which protocol they are for; holds those it is given. */
const nameless =
  (count: number, bytes: Uint8Array): Attack["strike"] =>
  (attackers) =>
    Effect.gen(function* () {
      const [connection] = first(attackers).libp2p.getConnections()
      const open = Effect.tryPromise(async () => {
        const stream = await connection?.newStream(protocolId, { negotiateFully: false, maxOutboundStreams: count })
        stream?.send(bytes)
        return stream
      })
      const opened = yield* Effect.forEach(Array.from({ length: count }), () => Effect.option(open), {
        concurrency: "unbounded"
      })
      const reset = Effect.sync(() => {
        for (const stream of opened) Option.getOrUndefined(stream)?.abort(new Error("enough"))
      })
      return Effect.as(reset, "gone" as const)
    })

/** Does something to a connection that has not become secure. */
const onSockets =
  (count: number, use: (socket: Socket) => Effect.Effect<void>): Attack["strike"] =>
  (_, server) =>
    Effect.gen(function* () {
      const address = server.address.addresses[0] as string
      const sockets = yield* Effect.forEach(Array.from({ length: count }), () => connect(address), {
        concurrency: "unbounded"
      })
      yield* Effect.forEach(sockets, use, { concurrency: "unbounded" })
      return Effect.as(
        Effect.sync(() => sockets.forEach((socket) => void socket.destroy())),
        "gone" as const
      )
    })

/** Selects Noise, waits until the server has agreed, and sends the beginning of its first message. */
const beginNoise = (socket: Socket) =>
  Effect.callback<void>((resume) => {
    socket.once("data", () => {
      socket.write(Uint8Array.of(0, 32, 1, 2, 3), () => resume(Effect.void))
    })
    socket.write("\u0013/multistream/1.0.0\n\u0007/noise\n")
  })

/** Streams that are opened, and aborted, at the same time. */
const abortedAtOnce = 50

/** Every attack of one or more peers on a server. */
export const attacks: ReadonlyArray<Attack> = [
  stalls("a stream that stays silent", new Uint8Array()),
  stalls("a header and nothing more", frameOf(query).subarray(0, 1)),
  stalls("half a frame, then silence", frameOf(query).subarray(0, 40)),
  stalls("a length of 1 MiB and nothing of it", announcement),
  {
    title: "one byte per second",
    strike: (attackers, server) =>
      Effect.gen(function* () {
        const stream = yield* openRaw(first(attackers), server)
        const drip = Effect.forEach(frameOf(query), (byte) =>
          Effect.andThen(stream.write(Uint8Array.of(byte)), Effect.sleep("1 second"))
        )
        yield* Effect.forkScoped(Effect.ignore(drip), { startImmediately: true })
        return readToEnd(stream)
      }),
    ending: silence,
    counts: { "streamError:deadline": 1 }
  },
  says("a length of 1 MiB + 1", Uint8Array.of(0x81, 0x80, 0x40), "read"),
  says("a length of ten bytes", new Uint8Array(10).fill(0xff), "read"),
  says("a length that is not minimal", Uint8Array.of(0xcb, 0x00, ...body(query)), "read"),
  says("bytes that are no protobuf", encodeFrame(Uint8Array.of(0x0a, 0x7f)), "decode"),
  says("text that is not UTF-8", encodeFrame(Uint8Array.of(10, 3, 10, 1, 0xff)), "decode"),
  says("an empty envelope", Uint8Array.of(0), "request"),
  says("a response as a request", frameOf({ _tag: "PleasePullResponse", results: [] }), "request"),
  says(
    "a query and a response in one envelope, of which the last counts",
    encodeFrame(Uint8Array.of(...body(query), ...body({ _tag: "PleasePullResponse", results: [] }))),
    "request"
  ),
  says("1 MiB of digests", frameOf(batch(mebibyteOfDigests)), "request"),
  says("257 digests", frameOf(batch(mebibyteOfDigests.slice(0, 257))), "request"),
  says("a repository that climbs out", frameOf(batch([wanted], { repository: "../../etc/passwd" })), "request"),
  says("a registry with credentials", frameOf(batch([wanted], { registry: "user:secret@example.com" })), "request"),
  says("a registry with spaces", frameOf(batch([wanted], { registry: "registry example" })), "request"),
  says("a registry with a newline", frameOf(batch([wanted], { registry: "example.com\nHost: evil" })), "request"),
  {
    title: "256 times the same digest",
    strike: (attackers, server) =>
      Effect.map(say(frameOf(batch(new Array(256).fill(wanted))))(attackers, server), (rest) =>
        Effect.andThen(rest, gone)
      ),
    ending: "gone",
    counts: { pleasePullServed: 1 }
  },
  {
    title: "a request whose reply is never read",
    strike: (attackers, server) =>
      Effect.gen(function* () {
        const stream = yield* openRaw(first(attackers), server)
        yield* stream.write(frameOf(batch(mebibyteOfDigests.slice(0, 256)))).pipe(Effect.orDie)
        return gone
      }),
    ending: "gone",
    counts: { pleasePullServed: 1 }
  },
  {
    title: "a reset after half a request",
    strike: (attackers, server) =>
      Effect.gen(function* () {
        const stream = yield* openRaw(first(attackers), server)
        yield* Effect.orDie(stream.write(frameOf(query).subarray(0, 40)))
        return Effect.as(stream.reset, "gone" as const)
      }),
    ending: "gone",
    counts: { "streamError:read": 1 }
  },
  {
    title: "death in the middle of a frame",
    strike: (attackers, server) =>
      Effect.gen(function* () {
        const attacker = first(attackers)
        const stream = yield* openRaw(attacker, server)
        yield* Effect.orDie(stream.write(frameOf(query).subarray(0, 40)))
        return Effect.as(
          Effect.sync(() => {
            for (const connection of attacker.libp2p.getConnections()) connection.abort(new Error("died"))
          }),
          "gone" as const
        )
      }),
    ending: "gone",
    counts: { "streamError:read": 1 }
  },
  {
    title: "streams that never name their protocol, more than a connection may have",
    strike: nameless(1_200, new Uint8Array()),
    ending: "gone",
    counts: {}
  },
  {
    title: "streams that begin to name their protocol",
    strike: nameless(1_000, new TextEncoder().encode("\u0013/multistream/1.0.0\n\u0017/gantry/co")),
    ending: "gone",
    counts: {}
  },
  { title: "a connection that never negotiates", strike: onSockets(1, () => Effect.void), ending: "gone", counts: {} },
  { title: "300 connections at once", strike: onSockets(300, () => Effect.void), ending: "gone", counts: {} },
  { title: "death in the middle of Noise", strike: onSockets(1, beginNoise), ending: "gone", counts: {} },
  {
    title: "700 streams at once of one peer",
    strike: flood(700),
    ending: "gone",
    streamsPerPeer: 128,
    counts: { "streamError:peer_stream_limit": 572, "streamError:read": 128 }
  },
  {
    title: "700 streams at once of ten peers",
    strike: flood(700),
    ending: "gone",
    attackers: 10,
    streamsPerPeer: 8,
    counts: { "streamError:peer_stream_limit": 620, "streamError:read": 80 }
  },
  {
    title: "10,000 streams, each opened and aborted",
    strike: (attackers, server) =>
      Effect.succeed(
        Effect.as(
          Effect.forEach(
            Array.from({ length: 10_000 }),
            () =>
              // Bytes are taken only once the server has the stream.
              Effect.scoped(
                Effect.flatMap(openRaw(first(attackers), server), (stream) =>
                  Effect.andThen(Effect.ignore(stream.write(Uint8Array.of(0x80))), stream.reset)
                )
              ),
            { concurrency: abortedAtOnce, discard: true }
          ),
          "gone" as const
        )
      ),
    ending: "gone",
    streamsPerPeer: abortedAtOnce,
    counts: { "streamError:read": 10_000 }
  }
]
