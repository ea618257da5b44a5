/**
 * What tests of Gantry are made of.
 */
export * as Fixtures from "./Fixtures.ts"
export * as MemoryNetwork from "./MemoryNetwork.ts"
export * as RecordingMetrics from "./RecordingMetrics.ts"
export * as TestNegativeCache from "./TestNegativeCache.ts"
export * as TestPeerResolver from "./TestPeerResolver.ts"
export * as TestPump from "./TestPump.ts"
export * as TestStore from "./TestStore.ts"
export * as TestTransfer from "./TestTransfer.ts"
export * as VirtualTime from "./VirtualTime.ts"
