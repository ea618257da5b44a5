/**
 * Our server and one in Go that does the same work, in turn under the load of a
 * client in Go, as the nodes of a mixed cluster would bring it.
 */
import { fileURLToPath } from "node:url"
import { PeerId } from "@gantry/protocol"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Schema from "effect/Schema"
import * as Accounting from "./Accounting.ts"
import * as Child from "./Child.ts"
import * as Contest from "./Contest.ts"
import type { Figures } from "./Figures.ts"
import { manyMembers } from "./Requests.ts"
import * as ServerProcess from "./ServerProcess.ts"

const folder = fileURLToPath(new URL("../../interop/go", import.meta.url))
const program = fileURLToPath(new URL("../../interop/dist/go-rival", import.meta.url))

/** What is asked of the client's process. */
const Command = Schema.Union([
  /** Makes so many peers that nobody has met. */
  Schema.TaggedStruct("Make", { hosts: Schema.Int }),
  /** Asks a server for a while, so many at once; of queries for `digests` in turn, or a new one each if that is 0. */
  Schema.TaggedStruct("Load", {
    server: Schema.String,
    of: Schema.Literals(["query", "batch"]),
    digests: Schema.Int,
    concurrency: Schema.Int,
    millis: Schema.Int,
    /** Requests after which it ends, if they come first; 0 for none. */
    count: Schema.Int
  }),
  /** Lets those that were made come, each for one query: so many at once, or with 0 all of them spread over the time. */
  Schema.TaggedStruct("Connect", { server: Schema.String, concurrency: Schema.Int, millis: Schema.Int })
])
type Command = typeof Command.Type

const Event = Schema.Union([
  Schema.TaggedStruct("Ready", { peers: Schema.Array(PeerId) }),
  Schema.TaggedStruct("Made", {}),
  Schema.TaggedStruct("Loaded", {
    answered: Schema.Int,
    failed: Schema.Int,
    /** Why one of them failed. */
    error: Schema.optionalKey(Schema.String),
    seconds: Schema.Finite,
    /** Milliseconds from question to answer. */
    p50: Schema.Finite,
    p99: Schema.Finite,
    max: Schema.Finite
  })
])

/** Why there is no such benchmark here, if there is none. */
const build = Effect.gen(function* () {
  if (!(yield* Accounting.isKept)) return "the kernel keeps no records of processes in /proc"
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const exitCode = yield* spawner.exitCode(
    ChildProcess.make("go", ["build", "-o", program, "./rival"], { cwd: folder, stderr: "inherit" })
  )
  if (exitCode !== 0) return yield* Effect.die(new Error(`go build ended with exit code ${exitCode}`))
  return undefined
}).pipe(
  Effect.catchReason("PlatformError", "NotFound", () => Effect.succeed("go is not installed")),
  Effect.orDie
)

/** How long one run of a load takes. */
const millis = 1_000
/** Peers of a run in which each comes once. */
const newcomers = 200
/** Peers that come within one second, and how long the last of them may wait. */
const storm = 1_000
const stormMillis = 5_000
/** Queries after which a server is weighed, and what it may weigh then. */
const queries = 200_000
const maxMebibytes = 180
/** Digests of a cluster's images, asked about again and again. */
const hot = 60

type Side = "ours" | "theirs"
type Servers = Readonly<Record<Side, ServerProcess.ServerProcess>>

const spawnBoth = Effect.all({
  ours: ServerProcess.spawnOurs,
  theirs: ServerProcess.spawn(program, ["-serve"])
})

const both = <E, R>(use: (side: Side) => Effect.Effect<void, E, R>, round = 0) =>
  Effect.forEach(round % 2 === 0 ? (["ours", "theirs"] as const) : (["theirs", "ours"] as const), use, {
    discard: true
  })

const contest = Effect.fnUntraced(function* (figures: Figures, rounds: number) {
  const client = yield* Child.spawn(program, ["-load"], { command: Command, event: Event })
  const { peers } = yield* client.hear("Ready")
  const few = yield* spawnBoth
  const many = yield* spawnBoth
  yield* both((side) => few[side].join(peers))
  yield* both((side) => many[side].join(peers, { members: manyMembers }))

  const addressOf = ({ address }: ServerProcess.ServerProcess) => address.addresses[0] as string
  /** A server that refuses or is late is not to be compared with one that answers. */
  const run = Effect.fnUntraced(function* (command: Command) {
    const done = yield* client.tell(command, "Loaded")
    return done.failed > 0
      ? yield* Effect.die(new Error(`${done.failed} of ${done.failed + done.answered} failed: ${done.error}`))
      : done
  })
  const load = (
    server: ServerProcess.ServerProcess,
    options: Pick<Extract<Command, { readonly _tag: "Load" }>, "of" | "digests" | "concurrency"> & {
      readonly millis?: number
      readonly count?: number
    }
  ) => run({ _tag: "Load", server: addressOf(server), millis, count: 0, ...options })
  /** They are no members: the larger a membership, the more a query costs a server that ranks it each time. */
  const comers = (count: number) => client.tell({ _tag: "Make", hosts: count }, "Made")

  const results = Contest.make(figures, "Go")
  const sample = Effect.fnUntraced(function* (
    name: string,
    side: Side,
    server: ServerProcess.ServerProcess,
    work: ReturnType<typeof run>
  ) {
    const before = yield* Accounting.cpuMillis(server.pid)
    const { answered, p50, p99, seconds } = yield* work
    const spent = (yield* Accounting.cpuMillis(server.pid)) - before
    results.note(name, side, { rate: answered / seconds, p50, p99, cpu: (spent * 1_000) / answered })
  })

  const query = { of: "query", digests: hot } as const
  const batch = { of: "batch", digests: 256 } as const
  const loads: ReadonlyArray<readonly [string, Servers, Parameters<typeof load>[1]]> = [
    ["query, 5 members, x1", few, { ...query, concurrency: 1 }],
    ["query, 5 members, x64", few, { ...query, concurrency: 64 }],
    ["query, 5 members, x256", few, { ...query, concurrency: 256 }],
    ["query, 10,000 members, hot, x64", many, { ...query, concurrency: 64 }],
    ["query, 10,000 members, new, x64", many, { ...query, digests: 0, concurrency: 64 }],
    ["please_pull of 256, x1", few, { ...batch, concurrency: 1 }],
    ["please_pull of 256, x16", few, { ...batch, concurrency: 16 }]
  ]

  yield* Console.error("  warming up")
  yield* both(
    Effect.fnUntraced(function* (side) {
      yield* load(few[side], { ...query, concurrency: 64, millis: 60_000, count: 30_000 })
      yield* load(few[side], { ...batch, concurrency: 16, millis: 4_000 })
      yield* load(many[side], { ...query, concurrency: 64, millis: 3_000 })
      yield* comers(newcomers)
      yield* run({ _tag: "Connect", server: addressOf(few[side]), concurrency: 16, millis: 0 })
    })
  )
  for (let round = 0; round < rounds; round++) {
    yield* Console.error(`  round ${round + 1} of ${rounds}`)
    for (const [name, servers, options] of loads) {
      yield* both((side) => sample(name, side, servers[side], load(servers[side], options)), round)
    }
    for (const concurrency of [1, 16]) {
      yield* both(
        (side) =>
          Effect.andThen(
            comers(newcomers),
            sample(
              `connect and query, x${concurrency}`,
              side,
              few[side],
              run({ _tag: "Connect", server: addressOf(few[side]), concurrency, millis: 0 })
            )
          ),
        round
      )
    }
  }

  const weigh = (name: string, { pid }: ServerProcess.ServerProcess) =>
    Effect.map(Accounting.residentMebibytes(pid), (weight) => figures.note(name, "MiB", weight))
  yield* weigh("resident after all of this, ours, 5 members", few.ours)
  yield* weigh("resident after all of this, Go, 5 members", few.theirs)
  yield* Console.error("  memory")
  yield* load(many.ours, { ...query, concurrency: 64, millis: 120_000, count: queries })
  yield* weigh("resident after 200,000 queries, ours, 10,000 members", many.ours)
  yield* weigh("resident after all of this, Go, 10,000 members", many.theirs)

  yield* Console.error("  1,000 new peers in one second")
  yield* both(
    Effect.fnUntraced(function* (side) {
      yield* comers(storm)
      const { max, p50, p99 } = yield* run({
        _tag: "Connect",
        server: addressOf(few[side]),
        concurrency: 0,
        millis: 1_000
      })
      for (const [name, value] of Object.entries({ p50, p99, max }))
        figures.note(`1,000 new peers in one second, ${side === "ours" ? "ours" : "Go"}, ${name}`, "ms", value)
      yield* weigh(`resident after 1,000 new peers, ${side === "ours" ? "ours" : "Go"}`, few[side])
    })
  )

  results.hold("please_pull of 256, x16", "rate", { atLeast: 0.6 })
  results.hold("please_pull of 256, x16", "cpu", { atMost: 2 })
  results.hold("connect and query, x16", "rate", { atLeast: 0.7 })
  results.hold("connect and query, x16", "cpu", { atMost: 1.8 })
  results.hold("query, 5 members, x64", "rate", { atLeast: 0.75 })
  results.hold("query, 5 members, x64", "cpu", { atMost: 1.5 })
  results.hold("query, 10,000 members, hot, x64", "rate", { atLeast: 20 })
  results.hold("query, 10,000 members, new, x64", "rate", { atLeast: 0.9 })
  figures.hold("resident after 200,000 queries, MiB", "resident after 200,000 queries, ours, 10,000 members", {
    atMost: maxMebibytes
  })
  figures.hold("1,000 new peers in one second, all answered, ms", "1,000 new peers in one second, ours, max", {
    atMost: stormMillis
  })
  yield* Console.log(`${results.format()}\n`)
})

/** Compares with Go where there is Go. */
export const rival = Effect.fnUntraced(function* (figures: Figures, rounds: number) {
  const obstacle = yield* build
  if (obstacle !== undefined) return yield* Console.error(`${obstacle}: there is no comparison with Go`)
  yield* contest(figures, rounds)
})
