import { assert, describe, it } from "@effect/vitest"
import { Fixtures, MemoryNetwork } from "@gantry/testkit"
import { Effect, Option } from "effect"

const [a, b] = [Fixtures.peerIdOf(0), Fixtures.peerIdOf(1)]
const text = (bytes: Option.Option<Uint8Array>) => Option.map(bytes, (chunk) => new TextDecoder().decode(chunk))

describe("MemoryNetwork", () => {
  it.effect("carries a request and a reply, and counts nothing as open after that", () =>
    Effect.gen(function* () {
      const network = yield* MemoryNetwork.MemoryNetwork
      const server = yield* network.join(b)
      const client = yield* network.join(a)
      yield* server.handle("/echo", (stream) =>
        Effect.gen(function* () {
          const chunk = yield* stream.read
          if (Option.isSome(chunk)) yield* stream.write(chunk.value)
          yield* stream.close
        }).pipe(Effect.orDie)
      )
      const reply = yield* Effect.gen(function* () {
        const stream = yield* client.open({ peerId: b, addresses: [] }, "/echo")
        yield* stream.write(new TextEncoder().encode("hello"))
        yield* stream.closeWrite
        return [text(yield* stream.read), text(yield* stream.read)]
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(reply, [Option.some("hello"), Option.none()])
      assert.deepStrictEqual(yield* network.traffic("/echo"), { open: 0, opened: 1, bytes: 10 })
    }).pipe(Effect.provide(MemoryNetwork.layer))
  )
})
