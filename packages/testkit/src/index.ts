/**
 * What tests of Gantry are made of.
 */

export * as Fixtures from "./Fixtures.ts"
export * as MemoryNetwork from "./MemoryNetwork.ts"
