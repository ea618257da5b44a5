import { assert, describe, it } from "@effect/vitest"
import { CoordClient, CoordServer, Inflight, Metrics, StreamTransport } from "@gantry/coord"
import * as Protocol from "@gantry/protocol"
import { Fixtures } from "@gantry/testkit"
import { Effect, Layer, Option, Result, Scope } from "effect"
import * as Seeds from "../src/Seeds.ts"
import * as Target from "../src/Target.ts"

/** What is wrong with a subject, as far as the seeds show it. */
const wrong = (subject: Target.Subject): ReadonlyArray<string> => {
  const target = Target.make(subject)
  return Seeds.inputs.flatMap((input) =>
    Option.match(Target.failureOf(target, input), { onNone: () => [], onSome: ({ what }) => [what] })
  )
}

type Stream = StreamTransport.DuplexStream

const codec = (broken: Partial<typeof Protocol>): Target.Subject => ({ codec: { ...Protocol, ...broken } })

/** A reader that does something to each chunk first. */
const reading = (change: (chunk: Uint8Array) => Uint8Array) =>
  codec({
    makeFrameReader: () => {
      const reader = Protocol.makeFrameReader()
      return { ...reader, push: (chunk) => reader.push(change(chunk)) }
    }
  })

/** A transport whose streams are different. */
const streaming = (change: (stream: Stream) => Stream) =>
  Layer.updateService(StreamTransport.StreamTransport, (transport) => ({
    handle: (protocol: string, handler: (stream: Stream) => Effect.Effect<void>) =>
      transport.handle(protocol, (stream) => handler(change(stream))),
    open: (...to: Parameters<typeof transport.open>) => Effect.map(transport.open(...to), change)
  }))

const serving = (change: (stream: Stream) => Stream): Target.Subject => ({
  server: CoordServer.layer.pipe(streaming(change))
})

const counting = (broken: (metrics: Metrics.Metrics["Service"]) => Partial<Metrics.Metrics["Service"]>) => ({
  server: CoordServer.layer.pipe(
    Layer.updateService(Metrics.Metrics, (metrics) => ({ ...metrics, ...broken(metrics) }))
  )
})

/** A client whose calls end differently. */
const calling = (
  change: (client: CoordClient.CoordClient["Service"]) => Partial<CoordClient.CoordClient["Service"]>
): Target.Subject => ({
  client: Layer.effect(
    CoordClient.CoordClient,
    Effect.map(CoordClient.CoordClient, (client) => ({ ...client, ...change(client) }))
  ).pipe(Layer.provide(CoordClient.layer))
})

const held: Array<Uint8Array> = []

const claimForEver = Effect.gen(function* () {
  const inflight = yield* Inflight.Inflight
  const transport = yield* StreamTransport.StreamTransport
  const claim = Scope.provide(inflight.start(Fixtures.A, "layer", Option.none()), Scope.makeUnsafe())
  return {
    ...transport,
    handle: (protocol: string, handler: (stream: Stream) => Effect.Effect<void>) =>
      transport.handle(protocol, (stream) => Effect.andThen(claim, handler(stream)))
  }
})

describe("Target", () => {
  it("finds nothing wrong with what Gantry runs", () => {
    assert.deepStrictEqual(wrong({}), [])
  })

  describe("does not let pass", () => {
    const cases: ReadonlyArray<readonly [title: string, subject: () => Target.Subject, invariant: string]> = [
      [
        "a frame reader that loses the ends of chunks",
        () => reading((chunk) => (chunk.length === 3 ? chunk.subarray(0, 2) : chunk)),
        "chunks make no difference"
      ],
      [
        "a frame reader that takes memory for more than has arrived",
        () =>
          reading((chunk) => {
            held.push(new Uint8Array(Protocol.maxMessageBytes))
            return chunk
          }),
        "memory follows the bytes that have arrived"
      ],
      [
        "frames that are written differently than they are read",
        () => codec({ encodeFrame: (body) => Uint8Array.of(body.length | 0x80, body.length >> 7, ...body) }),
        "a frame that is read is the one that would be written"
      ],
      [
        "a codec that throws",
        () =>
          codec({
            decodeMessage: () => {
              throw new RangeError("premature end")
            }
          }),
        "an unexpected RangeError"
      ],
      [
        "a codec whose errors are not its own",
        () => codec({ decodeMessage: () => Result.fail(new Error("no") as Protocol.MalformedEnvelope) }),
        "an envelope is read or malformed"
      ],
      [
        "a codec that forgets what kind is asked for",
        () =>
          codec({
            encodeMessage: (message) =>
              Protocol.encodeMessage(message._tag === "PleasePullRequest" ? { ...message, kind: "layer" } : message)
          }),
        "what is read is written and read as the same"
      ],
      [
        "a server that leaves its streams open",
        () => serving((stream) => ({ ...stream, close: Effect.void })),
        "a stream that is served ends once, in peace"
      ],
      [
        "a server that ends its streams by reset",
        () => serving((stream) => ({ ...stream, close: stream.reset })),
        "a stream that is served ends once, in peace"
      ],
      [
        "a server that does not give back its slots",
        () => serving((stream) => ({ ...stream, close: Effect.andThen(stream.close, Effect.never) })),
        "an honest peer is served afterwards"
      ],
      [
        "a server that gives a reason on the wire",
        () =>
          serving((stream) => ({
            ...stream,
            close: Effect.andThen(Effect.ignore(stream.write(Uint8Array.of(0))), stream.close)
          })),
        "no bytes without an answer"
      ],
      [
        "a server that replies in pieces",
        () =>
          serving((stream) => ({
            ...stream,
            write: (bytes) => Effect.andThen(stream.write(bytes.subarray(0, 1)), stream.write(bytes.subarray(1)))
          })),
        "a good request has the reply that the protocol wants"
      ],
      [
        "a server that replies with something else",
        () => serving((stream) => ({ ...stream, write: () => stream.write(Uint8Array.of(0)) })),
        "a good request has the reply that the protocol wants"
      ],
      [
        "a server that counts a failure twice",
        () =>
          counting(({ streamError }) => ({
            streamError: (reason) => Effect.andThen(streamError(reason), streamError(reason))
          })),
        "each stream counts once, by how it ended"
      ],
      [
        "a server that does not count what it serves",
        () => counting(() => ({ pullIntentServed: Effect.void })),
        "each stream counts once, by how it ended"
      ],
      [
        "a server that does not notice strangers",
        () => counting(() => ({ unauthorizedPeer: () => Effect.void })),
        "a stranger who asks is counted"
      ],
      [
        "a server that leaves claims behind",
        () => ({
          server: CoordServer.layer.pipe(Layer.provide(Layer.effect(StreamTransport.StreamTransport, claimForEver)))
        }),
        "no claim is left behind"
      ],
      [
        "a client that takes every reply for an error",
        () =>
          calling(({ pullIntentQuery }) => ({
            pullIntentQuery: (...to) => Effect.flip(pullIntentQuery(...to)) as never
          })),
        "a call ends as its reply says"
      ],
      [
        "a client that takes its time",
        () => calling(({ pleasePull }) => ({ pleasePull: (...to) => Effect.delay(pleasePull(...to), "3 seconds") })),
        "a call ends in time"
      ],
      [
        "a client that leaves its streams open",
        () => ({
          client: CoordClient.layer.pipe(
            Layer.updateService(StreamTransport.StreamTransport, ({ handle, open }) => ({
              handle,
              open: (...to: Parameters<typeof open>) => Scope.provide(open(...to), Scope.makeUnsafe())
            }))
          )
        }),
        "a call ends its stream once: in peace after an exchange, by reset otherwise"
      ],
      [
        "a client that asks twice",
        () => ({
          client: CoordClient.layer.pipe(
            Layer.updateService(StreamTransport.StreamTransport, (transport) => ({
              ...transport,
              open: (peer, protocol, first = new Uint8Array()) =>
                transport.open(peer, protocol, Buffer.concat([first, first]))
            }))
          )
        }),
        "a request is one frame"
      ],
      [
        "a client that mixes up outcomes",
        () =>
          calling(({ pleasePull }) => ({
            pleasePull: (...to) => Effect.map(pleasePull(...to), (outcomes) => outcomes.toReversed())
          })),
        "a batch has one outcome for each digest, in order"
      ]
    ]

    it.each(cases)("%s", (_, subject, invariant) => {
      assert.include(wrong(subject()), invariant)
    })
  })
})
