/**
 * What a request to the mirror is for: the paths of the OCI distribution
 * specification, and the registry that a client means.
 */
import { type Digest, isDigest, isRepository, type Repository } from "@gantry/protocol"
import * as Data from "effect/Data"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** A path of the distribution specification. `registry` is a name that an upstream has. */
export type Route = Data.TaggedEnum<{
  /** `/v2/`: whether the API is there. */
  Base: {}
  Manifest: Place & { readonly digest: Digest }
  Tag: Place & { readonly tag: string }
  Blob: Place & { readonly digest: Digest }
  Referrers: Place & { readonly digest: Digest; readonly artifactType: Option.Option<string> }
  /** The query, `n` and `last` of a page, goes to the registry as it is. */
  TagsList: Place & { readonly query: string }
}>
export const Route = Data.taggedEnum<Route>()

/** A repository of a registry. */
export interface Place {
  readonly registry: string
  readonly repository: Repository
}

/** Why a path is refused, by the error codes of the distribution specification. */
export type Refusal = Data.TaggedEnum<{
  /** No path of the API. */
  Unsupported: {}
  /** Not the name of a repository. */
  NameInvalid: { readonly name: string }
  /** Not a digest that is ever handed out. */
  DigestInvalid: { readonly digest: string }
  /** Not a tag. */
  TagInvalid: { readonly tag: string }
  /** No upstream has the registry that is meant. */
  UnknownRegistry: { readonly registry: string }
}>
export const Refusal = Data.taggedEnum<Refusal>()

/** The registries that the mirror stands for. */
export interface Registries {
  /** The upstream that a client means by this name, as references name it. */
  readonly find: (name: string) => Option.Option<string>
  /** What clients mean that name none. */
  readonly default: Option.Option<string>
}

const api = /^\/v2\/(.+)\/(manifests|blobs|referrers)\/([^/]+)$/
const tagsList = /^\/v2\/(.+)\/tags\/list$/
const tagGrammar = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

/** Other algorithms than sha256 have digests that are well-formed and not ours. */
const isForeignDigest = (reference: string) => reference.includes(":")

/** A path beyond this names nothing: repository and reference have 255 and 128 characters at most. */
const maxPathLength = 1_024

/**
 * Reads the target of a request. The registry is the query's `ns`, as
 * containerd sends it; else the first component of the name if that is an
 * upstream's, as podman and CRI-O have it; else the default.
 */
export const parse = (target: string, registries: Registries): Result.Result<Route, Refusal> => {
  const url = URL.parse(target, "http://mirror")
  if (url === null || url.pathname.length > maxPathLength) return Result.fail(Refusal.Unsupported())
  const path = decoded(url.pathname)
  if (path === "/v2" || path === "/v2/") return Result.succeed(Route.Base())

  const list = tagsList.exec(path)
  if (list !== null) {
    return Result.map(placeOf(list[1] as string, url, registries), (place) =>
      Route.TagsList({ ...place, query: queryOf(url, ["n", "last"]) })
    )
  }
  const [, name, folder, reference] = api.exec(path) ?? []
  if (name === undefined || folder === undefined || reference === undefined) return Result.fail(Refusal.Unsupported())
  return Result.flatMap(placeOf(name, url, registries), (place) => routeOf(place, folder, reference, url))
}

const routeOf = (place: Place, folder: string, reference: string, url: URL): Result.Result<Route, Refusal> => {
  if (isDigest(reference)) {
    if (folder === "blobs") return Result.succeed(Route.Blob({ ...place, digest: reference }))
    if (folder === "manifests") return Result.succeed(Route.Manifest({ ...place, digest: reference }))
    const artifactType = Option.fromNullishOr(url.searchParams.get("artifactType"))
    return Result.succeed(Route.Referrers({ ...place, digest: reference, artifactType }))
  }
  if (folder !== "manifests" || isForeignDigest(reference)) {
    return Result.fail(Refusal.DigestInvalid({ digest: reference }))
  }
  return tagGrammar.test(reference)
    ? Result.succeed(Route.Tag({ ...place, tag: reference }))
    : Result.fail(Refusal.TagInvalid({ tag: reference }))
}

const placeOf = (name: string, url: URL, registries: Registries): Result.Result<Place, Refusal> => {
  const ns = url.searchParams.get("ns")
  if (ns !== null && ns !== "") {
    return Option.match(registries.find(ns), {
      onNone: () => Result.fail(Refusal.UnknownRegistry({ registry: ns })),
      onSome: (registry) => inRegistry(registry, name)
    })
  }
  const slash = name.indexOf("/")
  const first = slash > 0 ? registries.find(name.slice(0, slash)) : Option.none()
  if (Option.isSome(first)) return inRegistry(first.value, name.slice(slash + 1))
  return Option.match(registries.default, {
    onNone: () => Result.fail(Refusal.UnknownRegistry({ registry: slash > 0 ? name.slice(0, slash) : name })),
    onSome: (registry) => inRegistry(registry, name)
  })
}

const inRegistry = (registry: string, name: string): Result.Result<Place, Refusal> =>
  isRepository(name) ? Result.succeed({ registry, repository: name }) : Result.fail(Refusal.NameInvalid({ name }))

/** A client may escape what need not be escaped; what cannot be decoded names nothing. */
const decoded = (path: string): string =>
  Result.getOrElse(Result.try({ try: () => decodeURIComponent(path), catch: () => "malformed" }), () => "")

const queryOf = (url: URL, names: ReadonlyArray<string>): string => {
  const query = new URLSearchParams()
  for (const name of names) {
    const value = url.searchParams.get(name)
    if (value !== null) query.set(name, value)
  }
  return query.toString()
}
