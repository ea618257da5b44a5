/**
 * Gantry's node on the libp2p network: the only place that knows js-libp2p.
 */
export * as Host from "./Host.ts"
export * as Identity from "./Identity.ts"
export * as Libp2pTransport from "./Libp2pTransport.ts"
