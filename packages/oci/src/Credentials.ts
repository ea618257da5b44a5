/**
 * Who this node is to a registry.
 */
import type { Registry } from "@gantry/protocol"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * What a registry is shown. `Basic`: a name and a password. `IdentityToken`: a
 * refresh token, which the registry's token service trades for access tokens.
 */
export type Credential = Data.TaggedEnum<{
  Basic: { readonly username: string; readonly password: Redacted.Redacted }
  IdentityToken: { readonly token: Redacted.Redacted }
}>
export const Credential = Data.taggedEnum<Credential>()

/** Why credentials are not known. Says where, never what: the file holds secrets. */
export class CredentialsError extends Schema.TaggedError<CredentialsError>("@gantry/oci/CredentialsError")(
  "CredentialsError",
  {
    reason: Schema.Literals(["Unreadable", "Malformed"]),
    path: Schema.String,
    detail: Schema.String
  }
) {
  override get message(): string {
    return `cannot take registry credentials from ${this.path}: ${this.detail}`
  }
}

/** Credentials by registry. */
export class Credentials extends Context.Service<
  Credentials,
  {
    /** The credential for a registry; none if it is to be asked anonymously. */
    readonly get: (registry: Registry) => Effect.Effect<Option.Option<Credential>, CredentialsError>
  }
>()("@gantry/oci/Credentials") {}

/** Everyone is asked anonymously. */
export const layerNone: Layer.Layer<Credentials> = Layer.succeed(Credentials, { get: () => Effect.succeedNone })

/** The given credentials, keyed as in a docker config. */
export const layerMemory = (credentials: Readonly<Record<string, Credential>>): Layer.Layer<Credentials> =>
  Layer.sync(Credentials, () => {
    const known = byHost(Object.entries(credentials))
    return { get: (registry) => Effect.sync(() => Option.fromUndefinedOr(known.get(hostOf(registry)))) }
  })

/** How long what was read is taken for current. A mounted secret may be renewed while the node runs. */
const timeToLive = "10 seconds"

/** The names of Docker Hub; its key in a docker config is `https://index.docker.io/v1/` for historical reasons. */
const dockerHub: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"])

/** Keys come as `host`, `host/path` and `https://host/path`, of which docker compares the host. */
const hostOf = (key: string): string => {
  const host = key
    .toLowerCase()
    .replace(/^https?:\/\//, "")
    .replace(/\/.*$/s, "")
  return dockerHub.has(host) ? "docker.io" : host
}

/** By host. Of several keys for a host the bare one wins, else the first. */
const byHost = <A>(entries: Iterable<readonly [key: string, value: A]>): ReadonlyMap<string, A> => {
  const known = new Map<string, A>()
  for (const [key, value] of entries) {
    const host = hostOf(key)
    if (key === host || !known.has(host)) known.set(host, value)
  }
  return known
}

const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const Entry = Schema.Struct({
  auth: optional(Schema.String),
  username: optional(Schema.String),
  password: optional(Schema.String),
  identitytoken: optional(Schema.String)
})

/** The part of docker's `config.json` that names credentials. */
const DockerConfig = Schema.fromJsonString(
  Schema.Struct({
    auths: optional(Schema.Record(Schema.String, Entry)),
    credHelpers: optional(Schema.Record(Schema.String, Schema.String)),
    credsStore: optional(Schema.String)
  })
)
type DockerConfig = typeof DockerConfig.Type

const isNotFound = (error: PlatformError.PlatformError) => error.reason._tag === "NotFound"

const readConfig = Effect.fnUntraced(function* (
  path: string,
  ifAbsent: "fail" | "none"
): Effect.fn.Return<DockerConfig, CredentialsError, FileSystem.FileSystem> {
  const files = yield* FileSystem.FileSystem
  const text = yield* files.readFileString(path).pipe(
    Effect.catchIf(
      (error) => ifAbsent === "none" && isNotFound(error),
      () => Effect.succeed("{}")
    ),
    Effect.mapError((error) => new CredentialsError({ reason: "Unreadable", path, detail: error.message }))
  )
  // A parser's own message quotes the text around the fault.
  return yield* Effect.mapError(
    Schema.decodeEffect(DockerConfig)(text),
    () => new CredentialsError({ reason: "Malformed", path, detail: "it is not a docker config.json" })
  )
})

/** The credential of one entry; none if the entry only marks that a credential store has it. */
const credentialOf = (entry: typeof Entry.Type): Result.Result<Option.Option<Credential>, string> => {
  if (entry.identitytoken) {
    return Result.succeedSome(Credential.IdentityToken({ token: Redacted.make(entry.identitytoken) }))
  }
  if (entry.auth) {
    const decoded = Result.getOrElse(Base64.decodeString(entry.auth), () => "")
    const colon = decoded.indexOf(":")
    if (colon < 1) return Result.fail("`auth` is not the base64 of user:password")
    return Result.succeedSome(
      Credential.Basic({ username: decoded.slice(0, colon), password: Redacted.make(decoded.slice(colon + 1)) })
    )
  }
  if (entry.username) {
    return Result.succeedSome(
      Credential.Basic({ username: entry.username, password: Redacted.make(entry.password ?? "") })
    )
  }
  return Result.succeedNone
}

const credentialsOf = Effect.fnUntraced(function* (path: string, config: DockerConfig) {
  const found: Array<readonly [key: string, credential: Credential]> = []
  for (const [key, entry] of Object.entries(config.auths ?? {})) {
    const credential = yield* Effect.mapError(
      Effect.fromResult(credentialOf(entry)),
      (detail) => new CredentialsError({ reason: "Malformed", path, detail: `the entry of ${key}: ${detail}` })
    )
    if (Option.isSome(credential)) found.push([key, credential.value])
  }
  return byHost(found)
})

/** Programs that keep credentials are not run: their registries are asked anonymously, which an operator must know. */
const warnOfHelpers = Effect.fnUntraced(function* (
  path: string,
  config: DockerConfig,
  known: ReadonlyMap<string, Credential>
) {
  const stored = config.credsStore
    ? Object.keys(config.auths ?? {}).map((key) => [key, config.credsStore] as const)
    : []
  for (const [key, helper] of [...stored, ...Object.entries(config.credHelpers ?? {})]) {
    if (known.has(hostOf(key))) continue
    yield* Effect.logWarning(
      `${path} leaves the credentials of ${key} to the helper ${helper}, which is not run: ${key} is asked anonymously`
    )
  }
})

const make = Effect.fnUntraced(function* (path: string, ifAbsent: "fail" | "none") {
  const files = yield* FileSystem.FileSystem
  const read = Effect.provideService(readConfig(path, ifAbsent), FileSystem.FileSystem, files)
  const config = yield* read
  yield* warnOfHelpers(path, config, yield* credentialsOf(path, config))
  const current = yield* Effect.cachedWithTTL(
    Effect.flatMap(read, (config) => credentialsOf(path, config)),
    timeToLive
  )
  return Credentials.of({
    get: (registry) => Effect.map(current, (known) => Option.fromUndefinedOr(known.get(hostOf(registry))))
  })
})

/**
 * The `auths` of a docker `config.json`, read again when they are needed and
 * more than 10 seconds old. Fails at once if the file cannot be used. Credential
 * helpers and stores are not run; a registry that is left to one is warned of.
 */
export const layerFile = (path: string): Layer.Layer<Credentials, CredentialsError, FileSystem.FileSystem> =>
  Layer.effect(Credentials, make(path, "fail"))

const defaultDirectory = Config.all({
  docker: Config.option(Config.NonEmptyString("DOCKER_CONFIG")),
  home: Config.option(Config.NonEmptyString("HOME").pipe(Config.orElse(() => Config.NonEmptyString("USERPROFILE"))))
})

/**
 * Like `layerFile`, with docker's own file: `config.json` in `$DOCKER_CONFIG`, or
 * in `.docker` of the home directory. No such file means no credentials.
 */
export const layer: Layer.Layer<Credentials, CredentialsError | Config.ConfigError, FileSystem.FileSystem | Path.Path> =
  Layer.unwrap(
    Effect.gen(function* () {
      const path = yield* Path.Path
      const { docker, home } = yield* defaultDirectory
      const directory = Option.orElse(docker, () => Option.map(home, (home) => path.join(home, ".docker")))
      return Option.match(directory, {
        onNone: () => layerNone,
        onSome: (directory) => Layer.effect(Credentials, make(path.join(directory, "config.json"), "none"))
      })
    })
  )
