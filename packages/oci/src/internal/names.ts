/**
 * Under which names a registry is known, and whose servers are this machine's.
 */

/** Docker Hub serves its API under another name than its images carry, and is in docker's config under a third. */
const dockerHub: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"])

/** One name for each registry, whatever it is called. */
export const canonicalName = (registry: string): string => {
  const name = registry.toLowerCase()
  return dockerHub.has(name) ? "docker.io" : name
}

/** The host that serves a registry. */
export const hostOf = (registry: string): string =>
  canonicalName(registry) === "docker.io" ? "registry-1.docker.io" : registry

/** Whether a server is this machine. */
export const isLoopback = ({ hostname }: URL): boolean =>
  hostname === "localhost" ||
  hostname.endsWith(".localhost") ||
  /^127(\.\d+){3}$/.test(hostname) ||
  hostname === "[::1]"
