/**
 * What Gantry peers say to each other. Pure: no services, no I/O, no clock.
 */
export * from "./Codec.ts"
export * from "./Constants.ts"
export * from "./ContentKind.ts"
export * from "./Digest.ts"
export * from "./describeCause.ts"
export * from "./FailureClass.ts"
export * from "./Frame.ts"
export * from "./Member.ts"
export * from "./NodeId.ts"
export * from "./OriginRef.ts"
export * from "./PeerId.ts"
export * from "./PleasePull.ts"
export * from "./PullIntent.ts"
export * as Rendezvous from "./Rendezvous.ts"
export * from "./Timestamp.ts"
