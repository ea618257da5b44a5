/**
 * The coordination services of Gantry and the ports they need.
 */
export * as CoordClient from "./CoordClient.ts"
export * as CoordConfig from "./CoordConfig.ts"
export * as CoordServer from "./CoordServer.ts"
export * as Inflight from "./Inflight.ts"
export * as Members from "./Members.ts"
export * as MembersView from "./MembersView.ts"
export * as Metrics from "./Metrics.ts"
export * as NegativeCache from "./NegativeCache.ts"
export * as PeerResolver from "./PeerResolver.ts"
export * as Pump from "./Pump.ts"
export * as Store from "./Store.ts"
export * as StreamTransport from "./StreamTransport.ts"
export * as Transfer from "./Transfer.ts"
