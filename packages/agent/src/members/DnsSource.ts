/**
 * Members that the DNS lists under one name: by A and AAAA records, with the
 * usual port, or, under a name with a leading underscore, by SRV records. The
 * name must be complete: the resolver's search domains do not apply.
 */
import { Resolver } from "node:dns/promises"
import { describeCause } from "@gantry/protocol"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Listed from "./Listed.ts"
import { type MemberSource, MemberSourceError, maxMembers } from "./MemberSource.ts"

/** Settings. */
export interface Options {
  /** `address:port` of the servers to ask; those of the system. */
  readonly servers?: ReadonlyArray<string> | undefined
}

/** Where agents listen that are listed by address alone. */
export const defaultPort = 5001

/** However short a record lives it is not asked for more often, and however long not less. */
const [minInterval, maxInterval] = [Duration.seconds(5), Duration.seconds(60)]

/** How long one question may take, with everything that it leads to. */
const patience = Duration.seconds(10)

/** How many targets of SRV records are looked up at once. */
const concurrency = 16

/** Addresses, and for how many seconds they are good. */
interface Addresses {
  readonly hosts: ReadonlyArray<string>
  readonly ttl: number
}

/** A question that got no answer. */
class QueryError extends Data.TaggedError("QueryError")<{ readonly code: unknown; readonly message: string }> {}

/** There is no such record; everything else may be otherwise the next time. */
const absent: ReadonlySet<unknown> = new Set(["ENODATA", "ENOTFOUND"])

const query = <A>(ask: () => Promise<ReadonlyArray<A>>): Effect.Effect<ReadonlyArray<A>, QueryError> =>
  Effect.tryPromise({
    try: ask,
    catch: (cause) => new QueryError({ code: (cause as NodeJS.ErrnoException).code, message: describeCause(cause) })
  }).pipe(
    Effect.catchIf(
      ({ code }) => absent.has(code),
      () => Effect.succeed([])
    )
  )

/** The A and AAAA records of a name. Half an answer is none: it would remove the members of the other half. */
const addressesOf = (resolver: Resolver, name: string): Effect.Effect<Addresses, QueryError> =>
  Effect.map(
    Effect.all(
      [query(() => resolver.resolve4(name, { ttl: true })), query(() => resolver.resolve6(name, { ttl: true }))],
      {
        concurrency: 2
      }
    ),
    (families) => {
      const records = families.flat()
      return { hosts: records.map(({ address }) => address), ttl: Math.min(...records.map(({ ttl }) => ttl)) }
    }
  )

/** The members behind a name, and how soon to ask again. */
interface Found {
  readonly members: ReadonlyArray<Listed.Listed>
  readonly ttl: number
}

const listAt =
  (port: number) =>
  (host: string): Listed.Listed => {
    const address = Result.getOrThrow(NetAddress.inetAddressFromIpString(host, port))
    return Listed.at(NetAddress.formatInet(address))
  }

/** Follows a name. */
export const make = (name: string, options: Options = {}): MemberSource => {
  const source = `dns ${name}`
  const isService = name.startsWith("_")
  /** Where the targets of SRV records were last: one that cannot be looked up now is taken to be there still. */
  let known: ReadonlyMap<string, Addresses> = new Map()

  const lookUpTarget = (resolver: Resolver) =>
    Effect.fnUntraced(function* (target: string) {
      const found = yield* Effect.result(addressesOf(resolver, target))
      const former = known.get(target)
      return [target, Result.orElse(found, (error) => Result.fromNullishOr(former, () => error))] as const
    })

  const lookUpService = Effect.fnUntraced(function* (resolver: Resolver) {
    const records = yield* query(() => resolver.resolveSrv(name))
    const services = records.filter(({ name: target, port }) => target !== "" && port > 0)
    const targets = [...new Set(services.map(({ name: target }) => target))].slice(0, maxMembers)
    const lookedUp = yield* Effect.forEach(targets, lookUpTarget(resolver), { concurrency })
    const failures = lookedUp.flatMap(([, found]) => (Result.isFailure(found) ? [found.failure] : []))
    const [failure] = failures
    if (failure !== undefined && failures.length === targets.length) return yield* failure
    known = new Map(lookedUp.flatMap(([target, found]) => (Result.isSuccess(found) ? [[target, found.success]] : [])))
    return {
      members: services.flatMap(({ name: target, port }) => (known.get(target)?.hosts ?? []).map(listAt(port))),
      // The resolver does not tell how long SRV records live; those of their targets change with them.
      ttl: failures.length > 0 ? 0 : Math.min(...[...known.values()].map(({ ttl }) => ttl))
    }
  })

  const lookUpHost = (resolver: Resolver): Effect.Effect<Found, QueryError> =>
    Effect.map(addressesOf(resolver, name), ({ hosts, ttl }) => ({ members: hosts.map(listAt(defaultPort)), ttl }))

  const fail = (reason: MemberSourceError["reason"], detail: string) =>
    Effect.fail(new MemberSourceError({ reason, source, detail }))

  const lookUp = Effect.acquireUseRelease(
    Effect.sync(() => {
      const resolver = new Resolver({ timeout: 2000, tries: 2 })
      if (options.servers !== undefined) resolver.setServers(options.servers)
      return resolver
    }),
    isService ? lookUpService : lookUpHost,
    (resolver) => Effect.sync(() => resolver.cancel())
  ).pipe(
    Effect.catch(({ message }) => fail("Unavailable", message)),
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => fail("Unavailable", `no answer within ${Duration.format(patience)}`)
    }),
    Effect.filterOrElse(
      ({ members }) => members.length > 0,
      () => fail("Empty", "it lists nobody")
    ),
    Effect.filterOrElse(
      ({ members }) => members.length <= maxMembers,
      ({ members }) => fail("TooMany", `it lists ${members.length}, of at most ${maxMembers}`)
    )
  )

  return {
    name: source,
    follow: (accept, nudge) =>
      Effect.gen(function* () {
        const found = yield* Effect.result(lookUp)
        yield* accept(Result.map(found, ({ members }) => members))
        const ttl = Result.match(found, {
          onFailure: () => Duration.zero,
          onSuccess: ({ ttl }) => Duration.seconds(ttl)
        })
        // Somewhat later than it may be, so that a cluster does not ask in step.
        const spread = 1 + 0.1 * (yield* Random.next)
        const interval = Duration.times(Duration.clamp(ttl, { minimum: minInterval, maximum: maxInterval }), spread)
        yield* Effect.timeoutOption(nudge, interval)
      }).pipe(Effect.forever)
  }
}
