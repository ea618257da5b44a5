/**
 * Patch of libp2p 3.3.11 and its parts: src/upgrader.ts:262,
 * @chainsafe/libp2p-yamux 8.0.1 src/muxer.ts:301, @libp2p/multistream-select
 * 7.0.28 src/handle.ts:59.
 *
 * Upstream makes a logger, with formatters and a trace channel, for each
 * connection, each stream and each step of their lives, whether or not anyone
 * reads them.
 *
 * Delete it once a stream makes no logger where logging is off.
 */
import type { ComponentLogger, Logger } from "@libp2p/interface"

const ignore = () => {}
const silent: Logger = Object.assign(ignore, { enabled: false, error: ignore, trace: ignore, newScope: () => silent })

/** One silent logger for everything; `DEBUG=libp2p:*` brings the usual ones back. */
export const silenceLoggers: { readonly logger?: ComponentLogger } =
  process.env.DEBUG === undefined ? { logger: { forComponent: () => silent } } : {}
