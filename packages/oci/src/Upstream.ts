/**
 * How a registry is contacted, where that is not a matter of course.
 */

/** What is said of one registry. */
export interface Upstream {
  /**
   * Where it is; `https://<registry>`, with `http` on loopback and as `plainHttp`
   * says. Its scheme is what is used. A path goes before `/v2/`.
   */
  readonly endpoint?: URL | undefined
  /** Whether a registry without an `endpoint` is asked over `http`; on loopback it is, elsewhere not. */
  readonly plainHttp?: boolean | undefined
  /** A file with the certificates, in PEM, of authorities that are trusted besides the usual ones; none. */
  readonly caPath?: string | undefined
  /** A file with the certificate that this node shows, in PEM, and its chain; none. */
  readonly clientCertPath?: string | undefined
  /** The key of that certificate, in PEM; where the certificate is, if not given. */
  readonly clientKeyPath?: string | undefined
  /** The proxy through which it, its token service and its storage are asked, or `direct` for none; that of the environment. */
  readonly proxy?: URL | "direct" | undefined
}

/** By the name of the registry, as `host` or `host:port`. */
export type Upstreams = Readonly<Record<string, Upstream>>
