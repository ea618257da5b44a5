/**
 * Looks at the agent of this machine from outside: whether it answers
 * containerd, has room, and reaches its peers (agent, section 9).
 */
import { statfs } from "node:fs/promises"
import { describeCause } from "@gantry/protocol"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Host from "effect/net/Host"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import type { Settings } from "../config/Settings.ts"
import { formatShare, type Space } from "../config/Units.ts"
import * as Hosts from "../containerd/Hosts.ts"
import * as Readiness from "../containerd/Readiness.ts"
import type { Listed } from "../members/Listed.ts"
import { type Answer, type MemberSource, MemberSourceError } from "../members/MemberSource.ts"
import * as Roster from "../members/Roster.ts"
import * as SelfDocument from "../members/SelfDocument.ts"
import * as TcpAddress from "../members/TcpAddress.ts"
import { type Check, on } from "./Finding.ts"
import { connect } from "./TcpConnect.ts"

/** Whether the mirror answers, and the agent says that it is ready. */
export const mirror = (settings: Settings): Check<HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const { ok, problem } = on("mirror")
    const url = Hosts.urlOf(settings.mirror_listen)
    const health = Hosts.urlOf(settings.metrics_listen)
    const answer = yield* Effect.result(Readiness.expectOk(`${url}/v2/`))
    const ready = yield* Effect.result(Readiness.expectOk(`${health}/readyz`))
    return [
      Result.match(answer, {
        onFailure: ({ message }) =>
          problem(`the mirror is not there: ${message}`, "start gantry agent, and see its log for why it ended"),
        onSuccess: () => ok(`the mirror answers at ${url}`)
      }),
      Result.match(ready, {
        onFailure: ({ message }) =>
          problem(`the agent is not ready: ${message}`, "see its log, and whether another program has the port"),
        onSuccess: () => ok(`the agent is ready, at ${health}`)
      })
    ]
  })

/** The free and the whole size of the file system of a directory that may not exist yet, in bytes. */
const sizesOf = (directory: string): Effect.Effect<readonly [free: number, whole: number], string, Path.Path> =>
  Effect.tryPromise({ try: () => statfs(directory), catch: describeCause }).pipe(
    Effect.map(({ bavail, blocks, bsize }) => [bavail * bsize, blocks * bsize] as const),
    Effect.catch((why) =>
      Effect.flatMap(Path.Path, (path) => {
        const parent = path.dirname(directory)
        return parent === directory ? Effect.fail(why) : sizesOf(parent)
      })
    )
  )

const bytesOf = (space: Space, whole: number): number => {
  switch (space._tag) {
    case "Share":
      return space.fraction * whole
    case "Bytes":
      return space.bytes
    case "Unlimited":
      return 0
  }
}

/** Whether the disk has as much room as the store leaves free. */
export const disk = (settings: Settings): Check<Path.Path> => {
  const { ok, problem } = on("disk")
  const { data_dir, store_min_free } = settings
  return Effect.match(sizesOf(data_dir), {
    onFailure: (why) => [problem(`${data_dir} cannot be looked at: ${why}`, "set data_dir")],
    onSuccess: ([free, whole]) => {
      const least = bytesOf(store_min_free, whole)
      const share = formatShare(Math.round((free / whole) * 1000) / 1000)
      const detail = `${share} of the file system of ${data_dir} is free`
      if (free >= least) return [ok(detail)]
      const shown = `${formatShare(Math.round((least / whole) * 1000) / 1000)} (store_min_free)`
      return [
        problem(
          `${detail}, and the store leaves ${shown} free: it keeps nothing new`,
          "make room, or lower store_min_free; kubelet deletes images from 85% used"
        )
      ]
    }
  })
}

/** How many peers are tried at once, how many at all, and how many that fail are told of by name. */
const [concurrency, maxTried, maxNamed] = [32, 1000, 10]

/** The first answer of a source. */
const firstAnswer = <R>(source: MemberSource<R>, settings: Settings) =>
  Effect.gen(function* () {
    const answer = yield* Deferred.make<Answer>()
    yield* Effect.forkScoped(source.follow((given) => Effect.asVoid(Deferred.succeed(answer, given)), Effect.never))
    return yield* Effect.timeoutOption(Deferred.await(answer), settings.members_sync_timeout)
  }).pipe(
    Effect.scoped,
    Effect.map(
      Option.getOrElse(() =>
        Result.fail(new MemberSourceError({ reason: "Unavailable", source: source.name, detail: "no answer in time" }))
      )
    )
  )

const connectTo = (address: string): Effect.Effect<void, string> =>
  Result.match(Host.hostPortFromString(address), {
    onFailure: () => Effect.fail("no address"),
    onSuccess: ({ host, port }) => connect(Host.formatHost(host), port)
  })

const dial = (multiaddr: string): Effect.Effect<void, string> => {
  const [, , host = "", , port] = multiaddr.split("/")
  return Effect.mapError(connect(host, Number(port)), (why) => `${multiaddr}: ${why}`)
}

/** Reaches a peer as agents do: its blobs, itself, and its coordination. */
const reach = Effect.fnUntraced(function* (listed: Listed) {
  const { transferAddress } = listed
  yield* Effect.mapError(connectTo(transferAddress), (why) => `${transferAddress}: ${why}`)
  const self = yield* Effect.mapError(SelfDocument.ask(transferAddress), ({ message }) => message)
  const addresses = Roster.reachable(
    [...listed.addresses, ...self.addresses].filter((address) => Option.isSome(TcpAddress.parse(address))),
    transferAddress
  )
  const [first, ...others] = addresses
  if (first === undefined) return yield* Effect.fail(`${transferAddress}: it names no address for coordination`)
  yield* others.reduce((tried, address) => Effect.catch(tried, () => dial(address)), dial(first))
})

/** Whether the members that the source lists can be reached from here. */
export const peers = <R>(
  source: Option.Option<MemberSource<R>>,
  settings: Settings
): Check<R | HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const { note, ok, problem, skipped } = on("peers")
    if (Option.isNone(source)) {
      const remedy = "set members_dns, members_file or members_static"
      return [note("no source of members is set: this agent has no peers", remedy)]
    }
    const { name } = source.value
    const answer = yield* firstAnswer(source.value, settings)
    if (Result.isFailure(answer)) return [problem(answer.failure.message, "see whether the source names the agents")]
    const tried = answer.success.slice(0, maxTried)
    const results = yield* Effect.forEach(tried, (listed) => Effect.result(reach(listed)), { concurrency })
    const failures = results.flatMap((result) => (Result.isFailure(result) ? [result.failure] : []))
    const remedy = "see whether gantry agent runs there, and open its ports between the nodes"
    return [
      ok(`${tried.length - failures.length} of ${tried.length} members of ${name} can be reached`),
      ...failures.slice(0, maxNamed).map((failure) => problem(failure, remedy)),
      ...(failures.length > maxNamed ? [skipped(`and ${failures.length - maxNamed} more that cannot`)] : [])
    ]
  })
