/**
 * Looks at the registries: whether they can be reached, take the credentials,
 * and agree about the time (agent, section 9).
 */
import { Credentials, RegistryHttp } from "@gantry/oci"
import { Repository } from "@gantry/protocol"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import type { Settings } from "../config/Settings.ts"
import type { Upstream } from "../config/Upstream.ts"
import { contactOf } from "../daemon/Upstreams.ts"
import { type Check, type Finding, on } from "./Finding.ts"
import { type Probe, probe, type RegistryProbeError } from "./RegistryProbe.ts"

/** Stands for repositories without credentials of their own: a login is to the registry. */
const anyRepository = Repository.make("gantry")

const credentialOf = ({ credential_helpers, credentials_path, name }: Upstream) =>
  Option.match(credentials_path, {
    onNone: () => Effect.succeedNone,
    onSome: (path) =>
      Credentials.Credentials.use(({ get }) => get(name, anyRepository)).pipe(
        Effect.provide(Credentials.layerFile(path, { helpers: credential_helpers })),
        Effect.mapError(({ message }) => message)
      )
  })

/** The way to a registry that the agent takes, too. */
const clientOf = (upstream: Upstream) =>
  Layer.effect(
    HttpClient.HttpClient,
    RegistryHttp.RegistryHttp.use(({ clientFor }) => Effect.succeed(clientFor(upstream.name).fresh))
  ).pipe(Layer.provide(RegistryHttp.layer({ upstreams: { [upstream.name]: contactOf(upstream) } })))

/** A registry as it was found, with its time and ours. */
interface Visit {
  readonly upstream: Upstream
  readonly finding: Finding
  /** By how much its clock is ahead of ours, in milliseconds. */
  readonly ahead: Option.Option<number>
}

const adviceOf: Record<RegistryProbeError["reason"], string> = {
  Unreachable: "see whether the endpoint is right, and the network, the proxy and ca_path",
  Refused: "log in again, and put the docker config.json where credentials_path says",
  Unwell: "see whether the endpoint is a registry, and how it is"
}

const said = ({ name }: Upstream, { access }: Probe, hasCredential: boolean): string => {
  switch (access) {
    case "accepted":
      return `${name} takes the credentials`
    case "anonymous":
      return `${name} lets anybody in; it has no credentials`
    case "open":
      return hasCredential ? `${name} asks for no credentials; there are some` : `${name} asks for no credentials`
  }
}

const { ok, problem } = on("registries")

const visit = Effect.fnUntraced(
  function* (upstream: Upstream) {
    const credential = yield* credentialOf(upstream)
    const result = yield* Effect.result(
      Effect.provide(probe(upstream.endpoint, credential), clientOf(upstream), { local: true })
    )
    const now = yield* Clock.currentTimeMillis
    if (Result.isFailure(result)) {
      const { failure } = result
      if (failure._tag !== "RegistryProbeError") return yield* Effect.fail(failure.message)
      return { upstream, finding: problem(failure.message, adviceOf[failure.reason]), ahead: Option.none() }
    }
    const found = result.success
    return {
      upstream,
      finding: ok(said(upstream, found, Option.isSome(credential))),
      ahead: Option.map(found.date, (date) => date - now)
    }
  },
  (effect, upstream) =>
    Effect.catch(effect, (detail) =>
      Effect.succeed<Visit>({
        upstream,
        finding: problem(detail, "mend the file that the configuration names"),
        ahead: Option.none()
      })
    )
)

/** How far clocks may be apart. Cooldowns that agents tell each other are as short. */
const maxSkewMillis = 10_000

const clockFindings = (visits: ReadonlyArray<Visit>): ReadonlyArray<Finding> => {
  const { ok, problem, skipped } = on("clock")
  const told = visits.flatMap(({ ahead, upstream }) =>
    Option.isSome(ahead) ? [[upstream.name, ahead.value] as const] : []
  )
  if (told.length === 0) return [skipped("no registry told its time")]
  const wrong = told.filter(([, ahead]) => Math.abs(ahead) > maxSkewMillis)
  if (wrong.length === 0) return [ok("the clock agrees with the registries")]
  return wrong.map(([name, ahead]) =>
    problem(
      `the clock is ${Math.round(Math.abs(ahead) / 1000)}s ${ahead > 0 ? "behind" : "ahead of"} that of ${name}`,
      "synchronize the clocks of all nodes: agents tell each other until when a registry is to be left alone"
    )
  )
}

/** How many registries are asked at once. */
const concurrency = 8

/** The registries that the configuration names, and the clock beside theirs. */
export const registries = ({ upstream_registries }: Settings): Check<FileSystem.FileSystem | ChildProcessSpawner> =>
  Effect.map(Effect.forEach(upstream_registries, visit, { concurrency }), (visits) => [
    ...visits.map(({ finding }) => finding),
    ...clockFindings(visits)
  ])
