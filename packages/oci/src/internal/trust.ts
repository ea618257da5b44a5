/**
 * Which servers are believed to be who they say, and how this node shows who
 * it is.
 */
import * as Tls from "node:tls"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import { RegistryHttpError, Unreadable, Unusable } from "../RegistryHttpError.ts"
import type { Upstream } from "../Upstream.ts"

/** Certificates in PEM; none for those that Node trusts by itself, which `NODE_EXTRA_CA_CERTS` is among. */
export type Roots = Option.Option<ReadonlyArray<string>>

const certificate = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g
const certificatesIn = (text: string): ReadonlyArray<string> => text.match(certificate) ?? []

/** How many files of a directory are read at once. */
const concurrentReads = 16

const fileIn = (setting: string, path: string) =>
  FileSystem.FileSystem.use((files) => files.readFileString(path)).pipe(Effect.mapError(unreadable(setting, path)))

const unreadable =
  (setting: string, path: string) =>
  ({ message }: PlatformError) =>
    new RegistryHttpError({ reason: new Unreadable({ setting, path, detail: message }) })

const unusable = (setting: string, path: string, detail: string) =>
  new RegistryHttpError({ reason: new Unusable({ setting, path, detail }) })

const certificatesOf = Effect.fnUntraced(function* (setting: string, path: string) {
  const found = certificatesIn(yield* fileIn(setting, path))
  return found.length > 0 ? found : yield* unusable(setting, path, "there is no certificate in it")
})

/** The certificates in the files of a directory, where there are other files too. */
const certificatesBelow = Effect.fnUntraced(function* (setting: string, directory: string) {
  const files = yield* FileSystem.FileSystem
  const names = yield* Effect.mapError(files.readDirectory(directory), unreadable(setting, directory))
  const texts = yield* Effect.forEach(
    names,
    (name) => Effect.orElseSucceed(files.readFileString(`${directory}/${name}`), () => ""),
    { concurrency: concurrentReads }
  )
  return texts.flatMap(certificatesIn)
})

const variables = Config.all({
  file: Config.option(Config.NonEmptyString("SSL_CERT_FILE")),
  directories: Config.option(Config.NonEmptyString("SSL_CERT_DIR"))
})

/**
 * The certificates that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, if one of them
 * is set: in place of the usual ones, as OpenSSL and Go have it.
 */
export const fromEnvironment: Effect.Effect<Roots, RegistryHttpError | Config.ConfigError, FileSystem.FileSystem> =
  Effect.gen(function* () {
    const { directories, file } = yield* variables
    if (Option.isNone(file) && Option.isNone(directories)) return Option.none()
    const ofFile = Option.isSome(file) ? yield* certificatesOf("SSL_CERT_FILE", file.value) : []
    const below = yield* Effect.forEach(
      Option.match(directories, { onNone: () => [], onSome: (text) => text.split(":").filter(Boolean) }),
      (directory) => certificatesBelow("SSL_CERT_DIR", directory)
    )
    return Option.some([...new Set([...ofFile, ...below.flat(), ...Tls.getCACertificates("extra")])])
  })

/** How connections on behalf of a registry are secured; none for Node's own way. */
export const contextOf = Effect.fnUntraced(function* (
  registry: string,
  { caPath, clientCertPath, clientKeyPath = clientCertPath }: Upstream,
  roots: Roots
): Effect.fn.Return<Option.Option<Tls.SecureContext>, RegistryHttpError, FileSystem.FileSystem> {
  if (caPath === undefined && clientCertPath === undefined && Option.isNone(roots)) return Option.none()
  const own = caPath === undefined ? [] : yield* certificatesOf(`caPath of ${registry}`, caPath)
  const usual = Option.getOrElse(roots, () => Tls.getCACertificates("default"))
  const setting = `clientCertPath of ${registry}`
  const shown =
    clientCertPath === undefined || clientKeyPath === undefined
      ? {}
      : {
          cert: yield* fileIn(setting, clientCertPath),
          key: yield* fileIn(`clientKeyPath of ${registry}`, clientKeyPath)
        }
  return yield* Effect.try({
    try: () => Option.some(Tls.createSecureContext({ ca: [...usual, ...own], ...shown })),
    catch: (cause) => {
      const detail = cause instanceof Error ? cause.message : String(cause)
      return clientCertPath === undefined
        ? unusable(`caPath of ${registry}`, caPath ?? "", detail)
        : unusable(setting, clientCertPath, detail)
    }
  })
})
