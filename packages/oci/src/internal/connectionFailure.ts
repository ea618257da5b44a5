/**
 * What a connection failed of.
 */

/** The proxy of this node cannot be used: it is not there, or does not let this node through. */
export class ProxyFailure extends Error {
  override readonly name = "ProxyFailure"
  constructor(proxy: URL, cause: unknown) {
    super(`the proxy ${proxy.host}: ${describe(cause)}`)
  }
}

/** Codes of the operating system that say what this node lacks: a route, a name server, the right, a socket. */
const ownCodes: ReadonlySet<unknown> = new Set([
  "EACCES",
  "EADDRNOTAVAIL",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "EMFILE",
  "ENETDOWN",
  "ENETUNREACH",
  "ENFILE",
  "ENOBUFS",
  "EPERM"
])

/** Codes of a certificate that nobody signed whom we trust. */
const untrustedCodes: ReadonlySet<unknown> = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
])

/** Codes that a connection breaks with. */
const brokenCodes: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"])

/** What a proxy answers to those whom it lets nowhere, by undici's words: there is nothing else to tell it by. */
const refusedByProxy = /^Proxy (?:response|Authentication Required) \((?:401|403|407)\)/

/** No chain of causes is longer. */
const maxDepth = 10

/** The innermost errors: those around them repeat the URL, whose query may be signed. One for each address that was tried. */
const rootsOf = (cause: unknown, depth = 0): ReadonlyArray<unknown> => {
  if (depth < maxDepth) {
    if (cause instanceof AggregateError && cause.errors.length > 0) {
      return cause.errors.flatMap((error) => rootsOf(error, depth + 1))
    }
    if (cause instanceof Error && cause.cause instanceof Error) return rootsOf(cause.cause, depth + 1)
  }
  return [cause]
}

const codeOf = (error: unknown) => (error instanceof Error && "code" in error ? error.code : undefined)

const isOwn = (error: unknown) =>
  error instanceof ProxyFailure ||
  ownCodes.has(codeOf(error)) ||
  (error instanceof Error && refusedByProxy.test(error.message))

/** Whether it is for this node that there is no connection. One address that can be reached suffices to say no. */
export const isOwnFailure = (cause: unknown): boolean => rootsOf(cause).every(isOwn)

/** Whether there was a connection, and it broke before the response: what happens to one that was kept too long. */
export const isBroken = (cause: unknown): boolean => rootsOf(cause).every((error) => brokenCodes.has(codeOf(error)))

/** What it says, of several failures the one that tells most. */
export const describe = (cause: unknown): string => {
  const roots = rootsOf(cause)
  const root = roots.find((error) => !isOwn(error)) ?? roots[0]
  if (!(root instanceof Error)) return String(root)
  if (untrustedCodes.has(codeOf(root))) {
    return "no authority that is trusted here has signed its certificate; SSL_CERT_FILE and caPath name others"
  }
  return root.message || String(codeOf(root) ?? root.name)
}
