/**
 * Where a digest comes from: registry and repository, checked against the
 * grammar of OCI references before anything is asked of them (protocol,
 * section 9).
 */
import { isIPv6 } from "node:net"
import * as Schema from "effect/Schema"
import { Digest } from "./Digest.ts"

const domainComponent = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
const registryPattern = new RegExp(
  `^(?:${domainComponent}(?:\\.${domainComponent})*|\\[(?<ipv6>[0-9a-fA-F:]+)\\])(?::(?<port>[0-9]{1,5}))?$`
)
const pathComponent = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*"
const repositoryPattern = new RegExp(`^${pathComponent}(?:/${pathComponent})*$`)

/** A DNS name has at most 253 characters; a port adds six. */
const maxRegistryLength = 259

/** The limit that the OCI distribution specification recommends for registry and repository together. */
const maxRepositoryLength = 255

const maxPort = 65_535

const namesRegistry = (text: string): boolean => {
  if (text.length > maxRegistryLength) return false
  const groups = registryPattern.exec(text)?.groups
  if (groups === undefined) return false
  const { ipv6, port } = groups
  return (ipv6 === undefined || isIPv6(ipv6)) && (port === undefined || Number(port) <= maxPort)
}

const namesRepository = (text: string): boolean => text.length <= maxRepositoryLength && repositoryPattern.test(text)

/** A registry: a host name or address with an optional port, for example `registry.example.com:5000`. */
export const Registry = Schema.String.check(
  Schema.makeFilter(namesRegistry, { expected: "<host> or <host>:<port>" })
).pipe(Schema.brand("Registry"))
export type Registry = typeof Registry.Type

/** A repository within a registry, for example `library/nginx`. */
export const Repository = Schema.String.check(
  Schema.makeFilter(namesRepository, { expected: "the name of an OCI repository" })
).pipe(Schema.brand("Repository"))
export type Repository = typeof Repository.Type

/** Whether text that a peer sent names a registry. */
export const isRegistry = (text: string): text is Registry => namesRegistry(text)

/** Whether text that a peer sent names a repository. */
export const isRepository = (text: string): text is Repository => namesRepository(text)

/** One digest of one repository of one registry. */
export class OriginRef extends Schema.Class<OriginRef>("@gantry/protocol/OriginRef")({
  registry: Registry,
  repository: Repository,
  digest: Digest
}) {
  /**
   * The same without the constructor, which takes its parts for unknown: a batch
   * makes hundreds of references of parts that were checked when it arrived.
   */
  static readonly ofChecked = (registry: Registry, repository: Repository, digest: Digest): OriginRef => {
    const ref: { -readonly [Field in "registry" | "repository" | "digest"]: OriginRef[Field] } = Object.create(
      OriginRef.prototype
    )
    ref.registry = registry
    ref.repository = repository
    ref.digest = digest
    return ref as OriginRef
  }

  override toString(): string {
    return `${this.registry}/${this.repository}@${this.digest}`
  }
}
