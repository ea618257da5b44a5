import { assert, describe, it } from "@effect/vitest"
import type { Libp2p, Stream } from "@libp2p/interface"
import { Effect } from "effect"
import { deferSelection } from "../../src/internal/patches/deferSelection.ts"
import { keepUnreadBytes } from "../../src/internal/patches/keepUnreadBytes.ts"
import { selectAtOnce } from "../../src/internal/patches/selectAtOnce.ts"
import { proposalOf } from "../../src/internal/selection.ts"
import { bytes, eventually, text, turns } from "../support.ts"
import { muxers, startPlain } from "./unpatched.ts"

const protocol = "/gantry/test/1.0.0"

/** A server that may be patched, and a connection whose streams are handed out before a protocol was selected. */
const pairUp = Effect.fnUntraced(function* (services: {}) {
  const [client, server] = yield* Effect.all([
    startPlain({ streamMuxers: [() => deferSelection(muxers())] }),
    startPlain({ streamMuxers: [() => keepUnreadBytes(muxers())], services })
  ])
  const connection = yield* Effect.promise(() => client.dial(server.getMultiaddrs()))
  const open = Effect.promise(() => connection.newStream(protocol, { negotiateFully: false }))
  return { connection, open, server }
})

/** Long enough for every test to be over. */
const patched = (millis = 3_600_000) => ({ selectAtOnce: selectAtOnce(millis) })

/** Timers that have been made of which a signal comes, as upstream makes one for each inbound stream. */
const countTimers = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const timeout = AbortSignal.timeout
      const made: Array<number> = []
      AbortSignal.timeout = (millis) => {
        made.push(millis)
        return timeout(millis)
      }
      return { made, timeout }
    }),
    ({ timeout }) =>
      Effect.sync(() => {
        AbortSignal.timeout = timeout
      })
  ),
  ({ made }) => made
)

/** Collects the text that arrives in a stream. */
const heardIn = (stream: Stream) => {
  let heard = ""
  stream.addEventListener("message", ({ data }) => {
    heard += text(data.subarray())
  })
  return () => heard
}

/** Takes the streams of the protocol, and what arrives in each. */
const take = Effect.fnUntraced(function* (server: Libp2p, limits: { readonly maxInboundStreams?: number } = {}) {
  const taken: Array<() => string> = []
  yield* Effect.promise(() => server.handle(protocol, (stream) => void taken.push(heardIn(stream)), limits))
  return taken
})

const agreement = text(proposalOf(protocol))

describe("selectAtOnce", () => {
  it.effect("agrees to a proposal that comes with the first bytes, and hands those to the handler", () =>
    Effect.gen(function* () {
      const { open, server } = yield* pairUp(patched())
      const taken = yield* take(server)
      const stream = yield* open
      const heard = heardIn(stream)
      const timers = yield* countTimers
      stream.send(Buffer.concat([proposalOf(protocol), bytes("request")]))
      yield* Effect.promise(() => stream.close())
      yield* eventually(() => taken[0]?.() === "request" && heard() === agreement)
      assert.isEmpty(timers)
    })
  )

  it.effect("leaves to upstream a proposal that comes in pieces", () =>
    Effect.gen(function* () {
      const { open, server } = yield* pairUp(patched())
      const taken = yield* take(server)
      const stream = yield* open
      const heard = heardIn(stream)
      const proposal = proposalOf(protocol)
      stream.send(proposal.subarray(0, 25))
      yield* turns(10)
      stream.send(Buffer.concat([proposal.subarray(25), bytes("request")]))
      yield* eventually(() => taken[0]?.() === "request" && heard() === agreement)
    })
  )

  it.effect("leaves to upstream what nobody handles, and what is above the limit of a protocol", () =>
    Effect.gen(function* () {
      const { open, server } = yield* pairUp(patched())
      const stranger = yield* open
      const heard = heardIn(stranger)
      stranger.send(proposalOf(protocol))
      yield* eventually(() => heard().endsWith("na\n"))

      const taken = yield* take(server, { maxInboundStreams: 1 })
      const [first, second] = yield* Effect.all([open, open])
      first.send(proposalOf(protocol))
      yield* eventually(() => taken.length === 1)
      second.send(proposalOf(protocol))
      yield* eventually(() => second.status === "reset")
      assert.lengthOf(taken, 1)
    })
  )

  it.effect("aborts a stream whose peer says nothing, and none that was taken", () =>
    Effect.gen(function* () {
      const { open, server } = yield* pairUp(patched(2))
      const taken = yield* take(server)
      const [spoken, silent] = yield* Effect.all([open, open])
      spoken.send(proposalOf(protocol))
      yield* eventually(() => silent.status === "reset")
      assert.lengthOf(taken, 1)
      assert.strictEqual(spoken.status, "open")
    })
  )

  it.effect("resets a stream whose handler fails", () =>
    Effect.gen(function* () {
      const { open, server } = yield* pairUp(patched())
      yield* Effect.promise(() => server.handle(protocol, () => Promise.reject(new Error("no"))))
      const stream = yield* open
      stream.send(proposalOf(protocol))
      yield* eventually(() => stream.status === "reset")
    })
  )

  it.effect("is needed as long as each inbound stream has a timer of its own", () =>
    Effect.gen(function* () {
      const { open, server } = yield* pairUp({})
      const taken = yield* take(server)
      const stream = yield* open
      const timers = yield* countTimers
      stream.send(proposalOf(protocol))
      yield* eventually(() => taken.length === 1)
      assert.lengthOf(timers, 1)
    })
  )
})
