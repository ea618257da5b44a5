/**
 * The requester of Gantry.
 */
export * as ColdStart from "./ColdStart.ts"
