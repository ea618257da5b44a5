/**
 * The coordination of a node, put together.
 */
import * as Layer from "effect/Layer"
import * as CoordClient from "./CoordClient.ts"
import * as CoordConfig from "./CoordConfig.ts"
import * as CoordServer from "./CoordServer.ts"
import * as Inflight from "./Inflight.ts"
import type { Members } from "./Members.ts"
import * as Metrics from "./Metrics.ts"
import * as NegativeCache from "./NegativeCache.ts"
import * as PeerResolver from "./PeerResolver.ts"
import type { Pump } from "./Pump.ts"
import type { SettingError } from "./SettingError.ts"
import type { Store } from "./Store.ts"
import type { StreamTransport } from "./StreamTransport.ts"

/** Made here once, for all that needs it. */
type Shared = Inflight.Inflight | Metrics.Metrics | NegativeCache.NegativeCache

/** What a node's coordination is made of. Only the pump has to be said. */
export interface Options<Pumps, E, R, E2> {
  /**
   * How this node pulls: `Pump.layerBackground` with a way to the origin,
   * `Pump.layerNone`, or another. What it needs of `Inflight`, `NegativeCache`
   * and `Metrics` it is given here, the very ones that peers are answered from.
   */
  readonly pump: Layer.Layer<Pump | Pumps, E, R>
  /** Settings to change; those of the context, or the defaults, if not given. */
  readonly config?: CoordConfig.Options | undefined
  /** In place of `NegativeCache.layer()`. */
  readonly negativeCache?: Layer.Layer<NegativeCache.NegativeCache, E2, Metrics.Metrics> | undefined
  /** In place of `Metrics.layer`. */
  readonly metrics?: Layer.Layer<Metrics.Metrics, E2> | undefined
  /** In place of `PeerResolver.layerMembers`. */
  readonly resolver?: Layer.Layer<PeerResolver.PeerResolver, E2, Members> | undefined
}

/**
 * Answers peers and asks them, and pulls.
 *
 * Claims, failures and counters have to be the same for all of it: a server
 * that looks at another `NegativeCache` than the pump writes to tells peers of
 * no failure. That cannot happen here: the pump is an option, not a
 * requirement, and these three are built beneath it and the server. The layer
 * gives them away as well, for whatever is composed on top of it.
 */
export const layer = <Pumps = never, E = never, R = never, E2 = never>(
  options: Options<Pumps, E, R, E2>
): Layer.Layer<
  CoordClient.CoordClient | CoordServer.CoordServer | Pump | Pumps | Shared,
  E | E2 | SettingError,
  Members | Store | StreamTransport | Exclude<R, Shared>
> => {
  const { config, metrics, negativeCache, pump, resolver } = options
  const resolving: Layer.Layer<PeerResolver.PeerResolver, E2, Members> = resolver ?? PeerResolver.layerMembers
  const calls = Layer.mergeAll(CoordServer.layer, CoordClient.layer).pipe(Layer.provide(resolving))
  const shared = Layer.mergeAll(Inflight.layer, negativeCache ?? NegativeCache.layer()).pipe(
    Layer.provideMerge(metrics ?? Metrics.layer)
  )
  return (config === undefined ? calls : Layer.provide(calls, CoordConfig.layer(config))).pipe(
    Layer.provideMerge(pump),
    Layer.provideMerge(shared)
  )
}
