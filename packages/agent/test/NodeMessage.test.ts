import { assert, describe, it } from "@effect/vitest"
import { Digest, Member, NodeId, parsePeerId, Registry } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { type Command, commandLine, type Event, eventLine, maxLineBytes } from "../src/demo/NodeMessage.ts"
import { repository } from "./fixtures.ts"

const digest = Digest.make(`sha256:${"a".repeat(64)}`)

const member = (number: number) =>
  new Member({
    nodeId: NodeId.make(`node-${number}`),
    peerId: parsePeerId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"),
    addresses: [`/ip4/127.0.0.1/tcp/${30_000 + number}`],
    contentAddress: Option.some(`127.0.0.1:${20_000 + number}`),
    zone: Option.none()
  })

const commands: ReadonlyArray<Command> = [
  {
    _tag: "Start",
    nodeId: NodeId.make("node-1"),
    directory: "/tmp/a directory",
    identityFile: "/tmp/key",
    dockerConfig: null,
    upstreams: { "registry.example.com:5000": { plainHttp: true } },
    slowness: 1.5
  },
  { _tag: "Join", members: Array.from({ length: 64 }, (_, index) => member(index)) },
  { _tag: "Greet", nodeId: NodeId.make("node-2"), digest },
  {
    _tag: "Pull",
    image: {
      registry: Registry.make("127.0.0.1:5000"),
      repository,
      tag: "v1",
      root: digest
    }
  }
]

const events: ReadonlyArray<Event> = [
  { _tag: "Ready", member: member(1) },
  { _tag: "Joined" },
  { _tag: "Greeted" },
  { _tag: "Progress", bytes: 1, totalBytes: 2, digests: 3, totalDigests: 4 },
  { _tag: "Obtained", digest, from: "Peer" },
  { _tag: "Pulled", digest, bytes: 5, stored: true },
  { _tag: "Failed", detail: "a line\nand another" },
  { _tag: "Finished" }
]

const lines = <A>(schema: Schema.Codec<A, unknown>, messages: ReadonlyArray<A>) =>
  Stream.fromIterable(messages).pipe(
    Stream.pipeThroughChannel(Ndjson.encodeSchema(schema)()),
    Stream.decodeText(),
    Stream.mkString
  )

const read = <A>(schema: Schema.Codec<A, unknown>, text: string) =>
  Stream.succeed(new TextEncoder().encode(text)).pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(schema)({ maxLineBytes })),
    Stream.runCollect
  )

describe("NodeMessage", () => {
  it.effect("carries every command, a line each", () =>
    Effect.gen(function* () {
      const text = yield* lines(commandLine, commands)
      assert.strictEqual(text.split("\n").length, commands.length + 1)
      assert.deepStrictEqual(yield* read(commandLine, text), [...commands])
    })
  )

  it.effect("carries every event, a line each", () =>
    Effect.gen(function* () {
      const text = yield* lines(eventLine, events)
      assert.strictEqual(text.split("\n").length, events.length + 1)
      assert.deepStrictEqual(yield* read(eventLine, text), [...events])
    })
  )

  it.effect.each([
    ["text that is no JSON", "ready\n"],
    ["an unknown event", '{"_tag":"Retired"}\n'],
    ["a digest that is none", '{"_tag":"Obtained","digest":"sha256:00","from":"Peer"}\n'],
    ["a field too few", '{"_tag":"Progress","bytes":1}\n'],
    ["a line without end", `{"_tag":"Failed","detail":"${"x".repeat(maxLineBytes)}`]
  ] as const)("refuses %s", ([, text]) => Effect.flip(read(eventLine, text)))
})
