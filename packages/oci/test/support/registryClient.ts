import type { ContentKind, Digest, OriginRef } from "@gantry/protocol"
import { Effect, Layer, Redacted, Stream } from "effect"
import * as Credentials from "../../src/Credentials.ts"
import * as RegistryClient from "../../src/RegistryClient.ts"
import { type Origin, refAt } from "./origin.ts"
import { layerHttp } from "./registryHttp.ts"

export const basic = (username: string, password: string) =>
  Credentials.Credential.Basic({ username, password: Redacted.make(password) })
export const identity = (token: string) => Credentials.Credential.IdentityToken({ token: Redacted.make(token) })

/** A client over real sockets. */
export const client = (
  credential?: readonly [Origin, Credentials.Credential],
  options?: RegistryClient.Options,
  env?: Record<string, string>
) =>
  RegistryClient.layer(options).pipe(
    Layer.provide([
      layerHttp(env, options),
      credential === undefined
        ? Credentials.layerNone
        : Credentials.layerMemory({ [credential[0].registry]: credential[1] })
    ])
  )

/** Fetches all of a digest, from a byte on. */
export const download = Effect.fnUntraced(function* (
  ref: OriginRef,
  kind: ContentKind = "layer",
  offset = 0,
  size?: number
) {
  const registry = yield* RegistryClient.RegistryClient
  const delivery = yield* registry.fetch({ ref, kind, offset, size })
  const bytes = Buffer.concat(yield* Stream.runCollect(delivery.stream))
  return { ...delivery, text: bytes.toString() }
}, Effect.scoped)

/** The same of a digest at an origin. */
export const downloadAt = (origin: Origin, digest: Digest, kind?: ContentKind, offset?: number, size?: number) =>
  download(refAt(origin, digest), kind, offset, size)

/** Every request that an origin has seen: the method and the path. */
export const requestsOf = ({ received }: Origin) => received.map(({ method, url }) => `${method} ${url}`)
/** The ranges that it was asked for. */
export const rangesOf = ({ received }: Origin) => received.map(({ headers }) => headers.range)
/** The authorizations that it was shown. */
export const authorizationsOf = ({ received }: Origin) => received.map(({ headers }) => headers.authorization)
