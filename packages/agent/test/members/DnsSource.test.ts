import { createSocket } from "node:dgram"
import { assert, describe, it } from "@effect/vitest"
import * as dnsPacket from "dns-packet"
import { Effect, Latch, Queue, Result } from "effect"
import { TestClock } from "effect/testing"
import * as DnsSource from "../../src/members/DnsSource.ts"
import type { Answer } from "../../src/members/MemberSource.ts"
import { turnsOfTheEventLoop } from "./support.ts"

type Zone = Readonly<Record<string, ReadonlyArray<dnsPacket.Answer> | "SERVFAIL">>

const a = (data: string, ttl = 30): dnsPacket.Answer => ({ type: "A", name: "", ttl, data })
const aaaa = (data: string, ttl = 30): dnsPacket.Answer => ({ type: "AAAA", name: "", ttl, data })
const srv = (target: string, port: number, ttl = 30): dnsPacket.Answer => ({
  type: "SRV",
  name: "",
  ttl,
  data: { target, port, priority: 0, weight: 0 }
})

/** RCODEs of RFC 1035. */
const [serverFailure, nameError] = [2, 3]

/** A name server on UDP that answers from a zone, and how often it was asked. */
const nameServer = Effect.fnUntraced(function* (zone: () => Zone) {
  const questions: Array<string> = []
  const socket = yield* Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createSocket>>((resume) => {
      const socket = createSocket("udp4", (message, { address, port }) => {
        const { id, questions: [question] = [] } = dnsPacket.decode(message)
        if (question === undefined) return
        questions.push(`${question.type} ${question.name}`)
        const records = zone()[question.name]
        const rcode = records === undefined ? nameError : records === "SERVFAIL" ? serverFailure : 0
        const answers = Array.isArray(records) ? records.filter(({ type }) => type === question.type) : []
        const reply = dnsPacket.encode({
          id: id ?? 0,
          type: "response",
          flags: dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE | rcode,
          questions: [question],
          answers: answers.map((answer) => ({ ...answer, name: question.name }))
        })
        socket.send(reply, port, address)
      })
      socket.bind(0, "127.0.0.1", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )
  return { servers: [`127.0.0.1:${socket.address().port}`], questions }
})

/** Follows a name; what it says goes into a queue. */
const follow = Effect.fnUntraced(function* (name: string, zone: () => Zone) {
  const { questions, servers } = yield* nameServer(zone)
  const answers = yield* Queue.unbounded<Answer>()
  const nudge = yield* Latch.make()
  const { follow } = DnsSource.make(name, { servers })
  yield* Effect.forkScoped(follow((answer) => Queue.offer(answers, answer), Effect.andThen(nudge.await, nudge.close)))
  const next = Effect.map(
    Queue.take(answers),
    Result.match({
      onFailure: ({ reason }): unknown => reason,
      onSuccess: (listed) => listed.map(({ transferAddress }) => transferAddress)
    })
  )
  return { next, nudge, questions }
})

describe("DnsSource", () => {
  it.effect("lists the addresses of a name, of both families, with the usual port", () =>
    Effect.gen(function* () {
      const { next } = yield* follow("agents.example.com", () => ({
        "agents.example.com": [a("10.0.0.1"), a("10.0.0.2"), aaaa("fd00::1")]
      }))
      assert.deepStrictEqual(yield* next, ["10.0.0.1:5001", "10.0.0.2:5001", "[fd00::1]:5001"])
    })
  )

  it.effect("lists the targets of SRV records with their ports", () =>
    Effect.gen(function* () {
      const { next, questions } = yield* follow("_gantry._tcp.example.com", () => ({
        "_gantry._tcp.example.com": [
          srv("n1.example.com", 5001),
          srv("n2.example.com", 6001),
          srv("gone.example.com", 1)
        ],
        "n1.example.com": [a("10.0.0.1")],
        "n2.example.com": [a("10.0.0.2"), aaaa("fd00::2")]
      }))
      assert.deepStrictEqual(yield* next, ["10.0.0.1:5001", "10.0.0.2:6001", "[fd00::2]:6001"])
      assert.include(questions, "SRV _gantry._tcp.example.com")
    })
  )

  it.effect.each([
    ["as long as its records live", 30, 30],
    ["no more often than every 5 seconds", 1, 5],
    ["at least once a minute", 3600, 60]
  ] as const)("asks again %s", ([, ttl, seconds]) =>
    Effect.gen(function* () {
      let host = "10.0.0.1"
      const { next, questions } = yield* follow("agents.example.com", () => ({
        "agents.example.com": [a(host, ttl), aaaa("fd00::1", 86_400)]
      }))
      yield* next
      host = "10.0.0.2"
      yield* TestClock.adjust(`${seconds * 1000 - 1} millis`)
      yield* turnsOfTheEventLoop
      assert.lengthOf(questions, 2)
      // A tenth of the time more, that a cluster does not ask in step.
      yield* TestClock.adjust(`${seconds * 100 + 1} millis`)
      assert.deepStrictEqual(yield* next, ["10.0.0.2:5001", "[fd00::1]:5001"])
    })
  )

  it.effect("asks at once when it is nudged", () =>
    Effect.gen(function* () {
      let host = "10.0.0.1"
      const { next, nudge } = yield* follow("agents.example.com", () => ({ "agents.example.com": [a(host, 3600)] }))
      yield* next
      host = "10.0.0.2"
      yield* nudge.open
      assert.deepStrictEqual(yield* next, ["10.0.0.2:5001"])
    })
  )

  it.effect("fails, and goes on asking, while the name does not exist or leads nowhere", () =>
    Effect.gen(function* () {
      let zone: Zone = {}
      const { next } = yield* follow("agents.example.com", () => zone)
      assert.strictEqual(yield* next, "Empty")
      zone = { "agents.example.com": [] }
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(yield* next, "Empty")
      zone = { "agents.example.com": [a("10.0.0.1")] }
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* next, ["10.0.0.1:5001"])
    })
  )

  it.effect("fails when the server does, rather than listing a half", () =>
    Effect.gen(function* () {
      const { next } = yield* follow("agents.example.com", () => ({ "agents.example.com": "SERVFAIL" }))
      assert.strictEqual(yield* next, "Unavailable")
    })
  )

  it.effect("keeps the addresses of a target that cannot be looked up, and goes on without one that never could", () =>
    Effect.gen(function* () {
      const services = [srv("n1.example.com", 5001), srv("n2.example.com", 5001), srv("n3.example.com", 5001)]
      let zone: Zone = {
        "_gantry._tcp.example.com": services,
        "n1.example.com": [a("10.0.0.1")],
        "n2.example.com": [a("10.0.0.2")],
        "n3.example.com": "SERVFAIL"
      }
      const { next } = yield* follow("_gantry._tcp.example.com", () => zone)
      assert.deepStrictEqual(yield* next, ["10.0.0.1:5001", "10.0.0.2:5001"])
      zone = { ...zone, "n1.example.com": [a("10.0.1.1")], "n2.example.com": "SERVFAIL" }
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* next, ["10.0.1.1:5001", "10.0.0.2:5001"])
    })
  )

  it.effect("does not take it for the end of all when no target can be looked up", () =>
    Effect.gen(function* () {
      const { next } = yield* follow("_gantry._tcp.example.com", () => ({
        "_gantry._tcp.example.com": [srv("n1.example.com", 5001)],
        "n1.example.com": "SERVFAIL"
      }))
      assert.strictEqual(yield* next, "Unavailable")
    })
  )
})
