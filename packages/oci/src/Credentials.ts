/**
 * Who this node is to a registry.
 */
import type { SettingError } from "@gantry/coord/SettingError"
import * as Settings from "@gantry/coord/Settings"
import type { Registry, Repository } from "@gantry/protocol"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import type { ChildProcessSpawner } from "effect/process"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as CredentialHelper from "./internal/credentialHelper.ts"
import { canonicalName } from "./internal/names.ts"

/**
 * What a registry is shown. `Basic`: a name and a password. `IdentityToken`: a
 * refresh token, which the registry's token service trades for access tokens.
 */
export type Credential = Data.TaggedEnum<{
  Basic: { readonly username: string; readonly password: Redacted.Redacted }
  IdentityToken: { readonly token: Redacted.Redacted }
}>
export const Credential = Data.taggedEnum<Credential>()

/** The file cannot be read. */
export class Unreadable extends Schema.TaggedError<Unreadable>("@gantry/oci/CredentialsError/Unreadable")(
  "Unreadable",
  { path: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `${this.path}: ${this.detail}`
  }
}

/** The file, or its entry for the registry, cannot be understood. */
export class Malformed extends Schema.TaggedError<Malformed>("@gantry/oci/CredentialsError/Malformed")("Malformed", {
  path: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.path}: ${this.detail}`
  }
}

/** The program that keeps the credentials gives none, and does not say that there are none. */
export class HelperFailed extends Schema.TaggedError<HelperFailed>("@gantry/oci/CredentialsError/HelperFailed")(
  "HelperFailed",
  { helper: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `docker-credential-${this.helper}: ${this.detail}`
  }
}

/** Why credentials are not known. Says where, never what: they are secrets. */
export class CredentialsError extends Schema.TaggedError<CredentialsError>("@gantry/oci/CredentialsError")(
  "CredentialsError",
  { reason: Schema.Union([Unreadable, Malformed, HelperFailed]) }
) {
  override get message(): string {
    return `cannot take registry credentials from ${this.reason.message}`
  }
}

/** Credentials by registry and repository. */
export class Credentials extends Context.Service<
  Credentials,
  {
    /** The credential for a repository; none if it is to be asked for anonymously. */
    readonly get: (
      registry: Registry,
      repository: Repository
    ) => Effect.Effect<Option.Option<Credential>, CredentialsError>
  }
>()("@gantry/oci/Credentials") {}

/** Everyone is asked anonymously. */
export const layerNone: Layer.Layer<Credentials> = Layer.succeed(Credentials, { get: () => Effect.succeedNone })

/** The given credentials, keyed as in a docker config. */
export const layerMemory = (credentials: Readonly<Record<string, Credential>>): Layer.Layer<Credentials> =>
  Layer.sync(Credentials, () => {
    const known = keyed(Object.entries(credentials))
    return { get: (registry, repository) => Effect.sync(() => bestOf(known, registry, repository)) }
  })

/** Settings; a duration that is not positive is ignored. */
export interface Options {
  /**
   * The credential helpers and stores that may be run, by the names that a
   * docker config gives them: `ecr-login` for `docker-credential-ecr-login`.
   * `any` for a config that is trusted to name programs; none, if not given.
   */
  readonly helpers?: ReadonlyArray<string> | "any" | undefined
  /** How long one of them may take to answer; 10 seconds. */
  readonly helperTimeout?: Duration.Input | undefined
}

/** How long what was read is taken for current. A mounted secret may be renewed while the node runs. */
const timeToLive = "10 seconds"

// Keys

/** What is said of a key of a docker config. */
interface Keyed<A> {
  readonly host: string
  /** The first parts of the names of the repositories that it is for. */
  readonly path: ReadonlyArray<string>
  /** Whether it has no scheme and no path. */
  readonly isBare: boolean
  readonly value: A
}

/**
 * Keys come as `host`, `host/path` and `https://host/path`. Docker's own, such
 * as `https://index.docker.io/v1/`, have the version of the API before the path.
 */
const keyed = <A>(entries: Iterable<readonly [key: string, value: A]>): ReadonlyArray<Keyed<A>> =>
  Array.from(entries, ([key, value]) => {
    const [host = "", ...path] = key
      .trim()
      .replace(/^https?:\/\//i, "")
      .split("/")
      .filter((part) => part !== "")
    if (path[0] === "v1" || path[0] === "v2") path.shift()
    return { host: canonicalName(host), path, isBare: key === host, value }
  })

/** Whether a host fits; an asterisk, as Kubernetes has them, stands for any part of a name up to its next dot. */
const matches = (pattern: string, host: string) =>
  pattern === host ||
  (pattern.includes("*") &&
    new RegExp(`^${pattern.replace(/[^a-z0-9*]/g, "\\$&").replaceAll("*", "[^.]*")}$`).test(host))

/** The most specific value for a repository: by the host, the path, the form of the key, and the order. */
const bestOf = <A>(entries: ReadonlyArray<Keyed<A>>, registry: Registry, repository: Repository): Option.Option<A> => {
  const wanted = canonicalName(registry)
  const parts = repository.split("/")
  const fitting = entries.filter(
    ({ host, path }) => matches(host, wanted) && path.every((part, index) => part === parts[index])
  )
  const rankOf = ({ host, isBare, path }: Keyed<A>) => [host === wanted ? 1 : 0, path.length, isBare ? 1 : 0] as const
  const [best] = fitting.sort((a, b) => {
    const [ranks, others] = [rankOf(b), rankOf(a)]
    return ranks.map((rank, index) => rank - (others[index] ?? 0)).find((difference) => difference !== 0) ?? 0
  })
  return Option.map(Option.fromUndefinedOr(best), ({ value }) => value)
}

// The file

/** An object of JSON whose fields are yet to be looked at. */
const Fields = Schema.Record(Schema.String, Schema.Unknown)
const isFields = Schema.is(Fields)
const decodeFile = Schema.decodeOption(Schema.fromJsonString(Fields))

const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> => (isFields(value) ? value : {})
const textOf = (value: unknown): string => (typeof value === "string" ? value.trim() : "")

/** The part of docker's `config.json` that names credentials. A bad entry is bad for its own registry only. */
interface DockerConfig {
  readonly path: string
  readonly auths: ReadonlyArray<Keyed<Result.Result<Option.Option<Credential>, string>>>
  readonly helpers: ReadonlyArray<Keyed<string>>
  readonly store: Option.Option<string>
  /** What an operator must know of the file. */
  readonly warnings: ReadonlyArray<string>
}

/** A name and a password in base64, whose alphabet, padding and line breaks are a matter of taste. */
const decodeAuth = (auth: string): Option.Option<Credential> => {
  const compact = auth.replace(/\s/g, "").replace(/=+$/, "").replaceAll("-", "+").replaceAll("_", "/")
  if (!/^[A-Za-z0-9+/]*$/.test(compact)) return Option.none()
  // Who encodes by `echo` encodes the end of the line as well.
  const decoded = Buffer.from(compact, "base64")
    .toString()
    .replace(/[\0\r\n]+$/, "")
  const colon = decoded.indexOf(":")
  if (colon < 1) return Option.none()
  const password = Redacted.make(decoded.slice(colon + 1))
  return Option.some(Credential.Basic({ username: decoded.slice(0, colon), password }))
}

/** The credential of one entry; none if the entry only marks that a credential store has it. */
const credentialOf = (entry: unknown): Result.Result<Option.Option<Credential>, string> => {
  if (entry !== null && !isFields(entry)) return Result.fail("it is no object")
  const { auth = null, identitytoken, password, username } = fieldsOf(entry)
  const token = textOf(identitytoken)
  if (token !== "") return Result.succeedSome(Credential.IdentityToken({ token: Redacted.make(token) }))
  const decoded = decodeAuth(textOf(auth))
  if (Option.isSome(decoded)) return Result.succeed(decoded)
  const name = textOf(username)
  if (name !== "") {
    const secret = Redacted.make(typeof password === "string" ? password : "")
    return Result.succeedSome(Credential.Basic({ username: name, password: secret }))
  }
  return auth === null || auth === "" ? Result.succeedNone : Result.fail("`auth` is not the base64 of user:password")
}

const isNotFound = (error: PlatformError.PlatformError) => error.reason._tag === "NotFound"

const malformed = (path: string, detail: string) => new CredentialsError({ reason: new Malformed({ path, detail }) })

const readFile = Effect.fnUntraced(function* (
  path: string,
  ifAbsent: "fail" | "none"
): Effect.fn.Return<DockerConfig, CredentialsError, FileSystem.FileSystem> {
  const files = yield* FileSystem.FileSystem
  const read = yield* files.readFileString(path).pipe(
    Effect.catchIf(
      (error) => ifAbsent === "none" && isNotFound(error),
      () => Effect.succeed("")
    ),
    Effect.mapError(({ message }) => new CredentialsError({ reason: new Unreadable({ path, detail: message }) }))
  )
  // A mark of the byte order is blank too.
  const text = read.trim()
  const config = text === "" ? Option.some({}) : decodeFile(text)
  // A parser's own message quotes the text around the fault.
  if (Option.isNone(config)) return yield* malformed(path, "it is not a docker config.json")
  const { auths, credHelpers, credsStore }: Readonly<Record<string, unknown>> = config.value
  const entries = Object.entries(fieldsOf(auths)).map(([key, entry]) => [key, credentialOf(entry)] as const)
  const helpers = Object.entries(fieldsOf(credHelpers)).map(([key, helper]) => [key, textOf(helper)] as const)
  return {
    path,
    auths: keyed(entries),
    helpers: keyed(helpers.filter(([, helper]) => helper !== "")),
    store: Option.filter(Option.some(textOf(credsStore)), (name) => name !== ""),
    warnings: [
      ...(auths === undefined || auths === null || isFields(auths) ? [] : [`${path}: its \`auths\` is passed over`]),
      ...entries.flatMap(([key, credential]) =>
        Result.isFailure(credential) ? [`${path}: the entry of ${key} is passed over: ${credential.failure}`] : []
      )
    ]
  }
})

// The helpers

/** The name by which helpers know a registry. */
const serverOf = (registry: Registry) => {
  const name = canonicalName(registry)
  return name === "docker.io" ? "https://index.docker.io/v1/" : name
}

/** Helpers that are not run leave their registries to be asked anonymously, which an operator must know. */
const warningsOf = (
  { auths, helpers, path, store, warnings }: DockerConfig,
  isAllowed: (helper: string) => boolean
) => {
  const warn = (key: string, helper: string) =>
    `${path} leaves the credentials of ${key} to the helper ${helper}, which is not run: ${key} is asked anonymously`
  const isKnown = (host: string) =>
    auths.some((entry) => entry.host === host && Option.exists(Result.getSuccess(entry.value), Option.isSome))
  const left = helpers
    .filter(({ host, value }) => !isAllowed(value) && !isKnown(host))
    .map(({ host, value }) => warn(host, value))
  const stored = Option.match(store, {
    onNone: () => [],
    onSome: (helper) =>
      isAllowed(helper) ? [] : auths.filter(({ host }) => !isKnown(host)).map(({ host }) => warn(host, helper))
  })
  return [...warnings, ...stored, ...left]
}

// Both

const make = Effect.fnUntraced(function* (path: string, ifAbsent: "fail" | "none", options: Options = {}) {
  const files = yield* FileSystem.FileSystem
  const timeout = yield* Settings.read(options, (settings) => settings.duration("helperTimeout", "10 seconds"))
  const run = yield* CredentialHelper.make(timeout)
  const { helpers: allowed = [] } = options
  const isAllowed = (helper: string) => allowed === "any" || allowed.includes(helper)

  let told: ReadonlyArray<string> = []
  /** Says what was not said of the file as it was before. */
  const warn = (warnings: ReadonlyArray<string>) =>
    Effect.suspend(() => {
      const news = warnings.filter((warning) => !told.includes(warning))
      told = warnings
      return Effect.forEach(news, (warning) => Effect.logWarning(warning), { discard: true })
    })
  const read = readFile(path, ifAbsent).pipe(
    Effect.provideService(FileSystem.FileSystem, files),
    Effect.tap((config) => warn(warningsOf(config, isAllowed)))
  )
  yield* read
  const current = yield* Effect.cachedWithTTL(read, timeToLive)

  const ask = (helper: string, registry: Registry) =>
    Effect.mapBoth(run(helper, serverOf(registry)), {
      onFailure: (detail) => new CredentialsError({ reason: new HelperFailed({ helper, detail }) }),
      onSuccess: Option.map(({ secret, username }) =>
        username === "<token>"
          ? Credential.IdentityToken({ token: secret })
          : Credential.Basic({ username, password: secret })
      )
    })

  /** As docker looks: a helper that is named for the registry, what the file holds, the store for all the others. */
  const get = Effect.fnUntraced(function* (registry: Registry, repository: Repository) {
    const config = yield* current
    const helper = Option.filter(bestOf(config.helpers, registry, repository), isAllowed)
    if (Option.isSome(helper)) {
      const given = yield* ask(helper.value, registry)
      if (Option.isSome(given)) return given
    }
    const held = Option.getOrElse(bestOf(config.auths, registry, repository), () => Result.succeedNone)
    if (Result.isFailure(held)) return yield* malformed(path, `the entry of ${registry}: ${held.failure}`)
    const store = Option.filter(config.store, isAllowed)
    return Option.isNone(held.success) && Option.isSome(store) ? yield* ask(store.value, registry) : held.success
  })

  return Credentials.of({ get })
})

/**
 * The `auths` of a docker `config.json`, read again when they are needed and
 * more than 10 seconds old, and the helpers that it names, as far as they may be
 * run. Fails at once if the file cannot be used. A registry that is left to a
 * helper that may not be run is warned of.
 */
export const layerFile = (
  path: string,
  options?: Options
): Layer.Layer<
  Credentials,
  CredentialsError | SettingError,
  FileSystem.FileSystem | ChildProcessSpawner.ChildProcessSpawner
> => Layer.effect(Credentials, make(path, "fail", options))

const defaultDirectory = Config.all({
  docker: Config.option(Config.NonEmptyString("DOCKER_CONFIG")),
  home: Config.option(Config.NonEmptyString("HOME").pipe(Config.orElse(() => Config.NonEmptyString("USERPROFILE"))))
})

/**
 * Like `layerFile`, with docker's own file: `config.json` in `$DOCKER_CONFIG`, or
 * in `.docker` of the home directory. No such file means no credentials.
 */
export const layer = (
  options?: Options
): Layer.Layer<
  Credentials,
  CredentialsError | SettingError | Config.ConfigError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const path = yield* Path.Path
      const { docker, home } = yield* defaultDirectory
      const directory = Option.orElse(docker, () => Option.map(home, (home) => path.join(home, ".docker")))
      return Option.match(directory, {
        onNone: () => layerNone,
        onSome: (directory) => Layer.effect(Credentials, make(path.join(directory, "config.json"), "none", options))
      })
    })
  )
