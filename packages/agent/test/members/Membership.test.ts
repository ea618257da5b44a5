import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Members from "@gantry/coord/Members"
import { NodeId } from "@gantry/protocol"
import { Fixtures } from "@gantry/testkit"
import { Context, Effect, Fiber, FileSystem, Latch, Layer, Metric, Option, Queue, Result } from "effect"
import { TestClock } from "effect/testing"
import * as FileSource from "../../src/members/FileSource.ts"
import * as Listed from "../../src/members/Listed.ts"
import { type Answer, type MemberSource, MemberSourceError } from "../../src/members/MemberSource.ts"
import * as Membership from "../../src/members/Membership.ts"
import * as SelfDocument from "../../src/members/SelfDocument.ts"
import * as StaticSource from "../../src/members/StaticSource.ts"
import { eventually, describe as membersOf, selfOf, serve, serveSelf, until } from "./support.ts"

/** A source that says what a test tells it to. */
const scripted = Effect.fnUntraced(function* () {
  const answers = yield* Queue.unbounded<Answer>()
  const nudges = yield* Queue.unbounded<void>()
  const source: MemberSource = {
    name: "script",
    follow: (accept, nudge) =>
      Effect.raceFirst(
        Effect.forever(Effect.flatMap(Queue.take(answers), accept)),
        Effect.forever(Effect.andThen(nudge, Queue.offer(nudges, undefined)))
      )
  }
  const list = (...addresses: ReadonlyArray<string>) => Queue.offer(answers, Result.succeed(addresses.map(Listed.at)))
  const fail = Queue.offer(
    answers,
    Result.fail(new MemberSourceError({ reason: "Unavailable", source: "script", detail: "no answer" }))
  )
  return { source, list, fail, nudges }
})

/** A membership of the node n1, with a metric registry of its own. */
const start = Effect.fnUntraced(function* <R>(source: MemberSource<R>, self = selfOf(1)) {
  const registry = new Map()
  const context = yield* Layer.build(Membership.layer({ source, self })).pipe(
    Effect.provideService(Metric.MetricRegistry, registry)
  )
  const gauges = Effect.map(Effect.provideService(Metric.snapshot, Metric.MetricRegistry, registry), (metrics) =>
    Object.fromEntries(metrics.map(({ id, state }) => [id, (state as { readonly value: number }).value]))
  )
  const membership = Context.get(context, Membership.Membership)
  const view = Effect.map(Context.get(context, Members.Members).view, membersOf)
  return { context, gauges, membership, view }
})

const layers = Layer.merge(NodeServices.layer, NodeHttpClient.layerUndici)

/** Waits for the end of an effect while time goes by. */
const whileTimePasses = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkScoped(effect)
  yield* eventually(Effect.sync(() => fiber.pollUnsafe() !== undefined))
  return yield* Fiber.join(fiber)
})

describe("Membership", () => {
  it.effect("is alone with itself until the source has answered and everybody listed has been asked", () =>
    Effect.gen(function* () {
      const { list, source } = yield* scripted()
      const { context, gauges, membership, view } = yield* start(source)
      assert.deepStrictEqual(yield* view, ["n1 known"])
      const peer = yield* serveSelf(() => selfOf(2, { zone: "a" }))
      const other = yield* serveSelf(() => undefined)
      yield* list(peer.address, other.address)
      yield* membership.ready
      yield* until(context, "n2 known a")
      assert.deepInclude(yield* membership.status, { source: "script", state: "synced", failure: Option.none() })
      assert.deepStrictEqual((yield* membership.status).complaints, [
        { transferAddress: other.address, problem: `${other.address} does not say who it is: it answers 404` }
      ])
      assert.deepInclude(yield* gauges, { gantry_members: 1, gantry_members_synced: 1, gantry_members_age_seconds: 0 })
    }).pipe(Effect.provide(layers))
  )

  it.effect("goes on alone after ten seconds, and joins the others when the source comes back", () =>
    Effect.gen(function* () {
      const { fail, list, source } = yield* scripted()
      const { context, gauges, membership, view } = yield* start(source)
      yield* fail
      const ready = yield* Effect.forkScoped(membership.ready)
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(ready.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(ready)
      assert.strictEqual((yield* membership.status).state, "alone")
      assert.deepStrictEqual(yield* view, ["n1 known"])
      assert.deepInclude(yield* gauges, { gantry_members: 1, gantry_members_synced: 0, gantry_members_age_seconds: 10 })

      const peer = yield* serveSelf(() => selfOf(2))
      yield* list(peer.address)
      yield* until(context, "n2 known")
      assert.strictEqual((yield* membership.status).state, "synced")
      assert.deepInclude(yield* gauges, { gantry_members_synced: 1, gantry_members_age_seconds: 0 })
    }).pipe(Effect.provide(layers))
  )

  it.effect("goes on with those who have answered when one of the listed does not", () =>
    Effect.gen(function* () {
      const { list, source } = yield* scripted()
      const { context, membership } = yield* start(source)
      const asked = yield* Latch.make()
      const silent = yield* serve(() => asked.openUnsafe())
      const peer = yield* serveSelf(() => selfOf(2))
      yield* list(silent.address, peer.address)
      yield* until(context, "n2 known")
      yield* asked.await
      yield* TestClock.adjust("1999 millis")
      assert.strictEqual((yield* membership.status).state, "waiting")
      yield* TestClock.adjust("1 millis")
      yield* membership.ready
      assert.include(JSON.stringify((yield* membership.status).complaints), "no answer within 2s")
    }).pipe(Effect.provide(layers))
  )

  it.effect("keeps the last members of a source that fails, and tells their age", () =>
    Effect.gen(function* () {
      const { fail, list, source } = yield* scripted()
      const { context, gauges, membership, view } = yield* start(source)
      const peer = yield* serveSelf(() => selfOf(2))
      yield* list(peer.address)
      yield* until(context, "n2 known")
      yield* fail
      yield* TestClock.adjust("40 seconds")
      assert.deepStrictEqual(yield* view, ["n2 known"])
      assert.deepInclude(yield* gauges, { gantry_members: 1, gantry_members_synced: 1, gantry_members_age_seconds: 40 })
      assert.deepStrictEqual(
        Option.getOrNull((yield* membership.status).failure),
        "script does not list the members: no answer"
      )
    }).pipe(Effect.provide(layers))
  )

  it.effect("forgets at once who is not listed any more, and asks them no more", () =>
    Effect.gen(function* () {
      const { list, source } = yield* scripted()
      const { context } = yield* start(source)
      const two = yield* serveSelf(() => selfOf(2))
      const three = yield* serveSelf(() => selfOf(3))
      yield* list(two.address, three.address)
      yield* until(context, "n2 known", "n3 known")
      yield* list(three.address)
      yield* until(context, "n3 known")
      const before = three.requests()
      yield* eventually(Effect.sync(() => three.requests() > before + 1))
      assert.strictEqual(two.requests(), 1)
    }).pipe(Effect.provide(layers))
  )

  it.effect("learns within minutes that an agent has another key, and at once when it is asked to", () =>
    Effect.gen(function* () {
      let key = 2
      const peer = yield* serveSelf(() => selfOf(2, { peer_id: Fixtures.peerIdOf(key) }))
      const { context, membership } = yield* start(StaticSource.make([Listed.at(peer.address)]))
      const members = Context.get(context, Members.Members)
      const peerId = Effect.map(members.view, (view) =>
        Option.getOrNull(Option.flatMap(view.byNodeId(NodeId.make("n2")), ({ peerId }) => peerId))
      )
      yield* until(context, "n2 known")
      assert.strictEqual(yield* peerId, Fixtures.peerIdOf(2))

      key = 3
      yield* membership.refresh
      assert.strictEqual(yield* peerId, Fixtures.peerIdOf(3))

      const asked = peer.requests()
      yield* membership.refresh
      assert.strictEqual(peer.requests(), asked, "so soon after the last time")

      key = 4
      yield* TestClock.adjust("3 minutes")
      yield* eventually(Effect.map(peerId, (peerId) => peerId === Fixtures.peerIdOf(4)))
    }).pipe(Effect.provide(layers))
  )

  it.effect("asks the source, too, when it is asked to, and does not wait for it for ever", () =>
    Effect.gen(function* () {
      const { list, nudges, source } = yield* scripted()
      const { context, membership } = yield* start(source)
      const peer = yield* serveSelf(() => selfOf(2))
      yield* list(peer.address)
      yield* until(context, "n2 known")
      const refreshed = yield* Effect.forkScoped(membership.refresh)
      yield* Queue.take(nudges)
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(refreshed.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(refreshed)
    }).pipe(Effect.provide(layers))
  )

  it.effect("asks at most 32 agents at once", () =>
    Effect.gen(function* () {
      let waiting = 0
      const full = yield* Latch.make()
      const silent = yield* serve(() => {
        if (++waiting === 32) full.openUnsafe()
      })
      const port = silent.address.split(":")[1]
      const listed = Array.from({ length: 100 }, (_, index) => Listed.at(`127.0.1.${index + 1}:${port}`))
      yield* Effect.callback<void>((resume) => void silent.server.close(() => resume(Effect.void)))
      yield* Effect.callback<void>(
        (resume) => void silent.server.listen(Number(port), "0.0.0.0", () => resume(Effect.void))
      )
      yield* start(StaticSource.make(listed))
      yield* full.await
      for (let turn = 0; turn < 50; turn++) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.strictEqual(waiting, 32)
    }).pipe(Effect.provide(layers))
  )

  it.effect("does not ask those of whom the list says everything", () =>
    Effect.gen(function* () {
      const entry = {
        ...Listed.at("127.0.0.1:1"),
        nodeId: Option.some(NodeId.make("n2")),
        peerId: Option.some(Fixtures.peerIdOf(2)),
        addresses: ["/ip4/127.0.0.1/tcp/4002"]
      }
      const { membership, view } = yield* start(StaticSource.make([entry]))
      yield* membership.ready
      assert.deepStrictEqual(yield* view, ["n2 known"])
      assert.deepStrictEqual((yield* membership.status).complaints, [])
    }).pipe(Effect.provide(layers))
  )

  it.effect("keeps the version of the view while nothing changes", () =>
    Effect.gen(function* () {
      const { list, source } = yield* scripted()
      const { context, membership } = yield* start(source)
      const members = Context.get(context, Members.Members)
      const peer = yield* serveSelf(() => selfOf(2))
      yield* list(peer.address)
      yield* membership.ready
      const { version } = yield* members.view
      yield* list(peer.address)
      yield* whileTimePasses(membership.refresh)
      assert.strictEqual((yield* members.view).version, version)
    }).pipe(Effect.provide(layers))
  )
})

describe("a file of members", () => {
  it.effect("is followed, spoilt by a bad entry no further than that, and kept when it cannot be read", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* fs.makeTempDirectoryScoped()}/members.yaml`
      const two = yield* serveSelf(() => selfOf(2))
      const three = yield* serveSelf(() => selfOf(3))
      yield* fs.writeFileString(
        path,
        `- transfer_addr: ${two.address}\n- {transfer_addr: nowhere}\n- {node_id: n9, zone: b, transfer_addr: "10.0.0.9:5001", p2p_addrs: [/ip4/10.0.0.9/tcp/4001/p2p/${Fixtures.peerIdOf(9)}]}\n`
      )
      const { context, membership, view } = yield* start(FileSource.make(path))
      yield* whileTimePasses(until(context, "n2 known", "n9 known b"))

      yield* fs.writeFileString(path, "- transfer_addr: [")
      yield* eventually(Effect.map(membership.status, ({ failure }) => Option.isSome(failure)))
      assert.deepStrictEqual(yield* view, ["n2 known", "n9 known b"])

      yield* fs.writeFileString(path, "[]")
      yield* eventually(
        Effect.map(membership.status, ({ failure }) => Option.exists(failure, (text) => text.includes("nobody")))
      )
      assert.deepStrictEqual(yield* view, ["n2 known", "n9 known b"])

      yield* fs.writeFileString(path, JSON.stringify([{ transfer_addr: three.address }]))
      yield* whileTimePasses(until(context, "n3 known"))
      assert.isTrue(Option.isNone((yield* membership.status).failure))
    }).pipe(Effect.provide(layers))
  )

  it("must be a list of at most 10,000 members", () => {
    const reasonOf = (text: string) =>
      Result.match(FileSource.parse("file", text), { onFailure: ({ reason }) => reason, onSuccess: () => "none" })
    assert.strictEqual(reasonOf(""), "Empty")
    assert.strictEqual(reasonOf("n1: 10.0.0.1:5001"), "Malformed")
    assert.strictEqual(reasonOf("- {transfer_addr: 10.0.0.1}"), "Malformed")
    const entries = (count: number) => JSON.stringify(Array.from({ length: count }, () => ({ transfer_addr: "a:1" })))
    assert.strictEqual(reasonOf(entries(10_001)), "TooMany")
    assert.strictEqual(reasonOf(entries(10_000)), "none")
  })
})

describe("SelfDocument", () => {
  const reasonAt = (address: string) => Effect.map(Effect.flip(SelfDocument.ask(address)), ({ reason }) => reason)

  it.effect("is read as it is served, with what a later agent adds to it", () =>
    Effect.gen(function* () {
      const document = {
        ...JSON.parse(SelfDocument.encode(selfOf(2, { zone: "a", transfer_tls_addr: "127.0.0.1:5003" }))),
        later: true
      }
      const { address } = yield* serve((_, response) => response.end(JSON.stringify(document)))
      assert.deepStrictEqual(
        yield* SelfDocument.ask(address),
        selfOf(2, { zone: "a", transfer_tls_addr: "127.0.0.1:5003" })
      )
    }).pipe(Effect.provide(layers))
  )

  it.effect.each([
    ["is no JSON", "hello"],
    ["has no peer id", JSON.stringify({ node_id: "n2", p2p_addrs: [], transfer_addr: "" })],
    ["has a peer id that is none", JSON.stringify({ node_id: "n2", peer_id: "n2", p2p_addrs: [], transfer_addr: "" })],
    [
      "has a node id of a thousand characters",
      JSON.stringify({ node_id: "n".repeat(1000), peer_id: Fixtures.peerIdOf(2), p2p_addrs: [], transfer_addr: "" })
    ],
    [
      "has addresses without end",
      JSON.stringify({
        node_id: "n2",
        peer_id: Fixtures.peerIdOf(2),
        p2p_addrs: Array(65).fill("/ip4/10.0.0.1/tcp/1"),
        transfer_addr: ""
      })
    ],
    ["is longer than 64 KiB", SelfDocument.encode(selfOf(2)).padEnd(64 * 1024 + 1)]
  ])("is refused when it %s", ([, body]) =>
    Effect.gen(function* () {
      const { address } = yield* serve((_, response) => response.end(body))
      assert.strictEqual(yield* reasonAt(address), "Malformed")
    }).pipe(Effect.provide(layers))
  )

  it.effect("is not waited for when nobody is there, and not for a body without end", () =>
    Effect.gen(function* () {
      const gone = yield* Effect.scoped(serve(() => {}))
      assert.strictEqual(yield* reasonAt(gone.address), "Unreachable")
      const begun = yield* Latch.make()
      const slow = yield* serve((_, response) => {
        response.write("{")
        begun.openUnsafe()
      })
      const asked = yield* Effect.forkScoped(reasonAt(slow.address))
      yield* begun.await
      assert.strictEqual(yield* whileTimePasses(Fiber.join(asked)), "Unreachable")
      const redirecting = yield* serve((_, response) =>
        response.writeHead(302, { location: "http://127.0.0.1:1/" }).end()
      )
      assert.strictEqual(yield* reasonAt(redirecting.address), "Refused")
    }).pipe(Effect.provide(layers))
  )
})
