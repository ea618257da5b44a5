/**
 * Why a registry did not deliver.
 */
import { type FailureClass, isDigest, Registry, Repository } from "@gantry/protocol"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/** What happened, in a sentence that names the server. */
const detail = Schema.String

/** How long the server asks to be left alone; at most an hour. */
const retryAfter = Schema.optionalKey(Schema.Duration)

/** 401 or 403, from the registry or its token service. */
export class Unauthorized extends Schema.TaggedError<Unauthorized>("@gantry/oci/RegistryError/Unauthorized")(
  "Unauthorized",
  { detail, status: Schema.Int }
) {
  override get message(): string {
    return `${this.detail}; log in to the registry, or check that the account may pull from the repository`
  }
}

/** 404, from the registry. */
export class NotFound extends Schema.TaggedError<NotFound>("@gantry/oci/RegistryError/NotFound")("NotFound", {
  detail,
  status: Schema.Int
}) {
  override get message(): string {
    return `${this.detail}; check that the repository exists and still holds it`
  }
}

/** 429, or 503 with a time after which to come back. */
export class RateLimited extends Schema.TaggedError<RateLimited>("@gantry/oci/RegistryError/RateLimited")(
  "RateLimited",
  { detail, status: Schema.Int, retryAfter }
) {
  override get message(): string {
    return `${this.detail}; wait, or log in for a higher limit`
  }
}

/** Any other status that is not success. */
export class Refused extends Schema.TaggedError<Refused>("@gantry/oci/RegistryError/Refused")("Refused", {
  detail,
  status: Schema.Int
}) {
  override get message(): string {
    return `${this.detail}; see what the registry reports about itself`
  }
}

/**
 * A status that is not success, from a server that the registry redirects to:
 * that of expired URLs, mostly. It says nothing about the image, nor about who asks.
 */
export class StorageRefused extends Schema.TaggedError<StorageRefused>("@gantry/oci/RegistryError/StorageRefused")(
  "StorageRefused",
  { detail, status: Schema.Int, retryAfter }
) {
  override get message(): string {
    return `${this.detail}; see what the storage of the registry reports about itself`
  }
}

/** No such name, no connection, no TLS, or a connection that broke before the response. */
export class Unreachable extends Schema.TaggedError<Unreachable>("@gantry/oci/RegistryError/Unreachable")(
  "Unreachable",
  { detail }
) {
  override get message(): string {
    return `${this.detail}; check its name, the network and the certificate`
  }
}

/** This node cannot get out: no route, no name server, no usable proxy, no socket left. */
export class NoNetwork extends Schema.TaggedError<NoNetwork>("@gantry/oci/RegistryError/NoNetwork")("NoNetwork", {
  detail
}) {
  override get message(): string {
    return `${this.detail}; check the network, the name server and the proxy of this node`
  }
}

/** No response, or no further byte, in time. */
export class TimedOut extends Schema.TaggedError<TimedOut>("@gantry/oci/RegistryError/TimedOut")("TimedOut", {
  detail
}) {
  override get message(): string {
    return `${this.detail}; check the network and the load of the registry`
  }
}

/** The body ended before its end. */
export class Truncated extends Schema.TaggedError<Truncated>("@gantry/oci/RegistryError/Truncated")("Truncated", {
  detail
}) {
  override get message(): string {
    return `${this.detail}; check the network`
  }
}

/** A response that the specification does not allow, or that would not be safe to follow. */
export class Malformed extends Schema.TaggedError<Malformed>("@gantry/oci/RegistryError/Malformed")("Malformed", {
  detail
}) {
  override get message(): string {
    return `${this.detail}; check that it is a registry, and whether it is to be asked over plain http`
  }
}

/** This node's own credentials could not be had. */
export class CredentialsUnknown extends Schema.TaggedError<CredentialsUnknown>(
  "@gantry/oci/RegistryError/CredentialsUnknown"
)("CredentialsUnknown", { detail }) {
  override get message(): string {
    return `${this.detail}; mend the docker config of this node`
  }
}

export const RegistryErrorReason = Schema.Union([
  Unauthorized,
  NotFound,
  RateLimited,
  Refused,
  StorageRefused,
  Unreachable,
  NoNetwork,
  TimedOut,
  Truncated,
  Malformed,
  CredentialsUnknown
])
export type RegistryErrorReason = typeof RegistryErrorReason.Type

/** A failed question to a registry (parts, Pump and NegativeCache). */
export class RegistryError extends Schema.TaggedError<RegistryError>("@gantry/oci/RegistryError")("RegistryError", {
  reason: RegistryErrorReason,
  registry: Registry,
  repository: Repository,
  /** The digest or the tag that was asked for. */
  reference: Schema.String
}) {
  override get message(): string {
    const { reason, reference, registry, repository, retryAfter } = this
    const name = `${registry}/${repository}${isDigest(reference) ? "@" : ":"}${reference}`
    const pause = retryAfter === undefined ? "" : ` (it asks to wait ${Duration.format(retryAfter)})`
    return `cannot get ${name}: ${reason.message}${pause}`
  }

  /** What peers are told. */
  get failureClass(): FailureClass {
    switch (this.reason._tag) {
      case "Unauthorized":
        return "auth"
      case "NotFound":
        return "not_found"
      case "RateLimited":
        return "rate_limited"
      default:
        return "transient"
    }
  }

  /** Of the response, if there was one. */
  get status(): number | undefined {
    return "status" in this.reason ? this.reason.status : undefined
  }

  /** How long the server asks to be left alone. */
  get retryAfter(): Duration.Duration | undefined {
    return "retryAfter" in this.reason ? this.reason.retryAfter : undefined
  }

  /** True of what another node may well be able to do: it says nothing about the image. */
  get isOwnFault(): boolean {
    return this.reason._tag === "NoNetwork" || this.reason._tag === "CredentialsUnknown"
  }
}
