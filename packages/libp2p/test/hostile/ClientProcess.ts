/**
 * A measured client, seen from the test that starts it.
 */
import type { PeerAddress } from "@gantry/coord/PeerResolver"
import { type Memory, startMeasured } from "./MeasuredProcess.ts"

/** How often to ask, and whether to wait for the answers before the report. */
export interface Order {
  readonly asks: number
  readonly atOnce: number
  readonly waits: boolean
}

/** Memory, open streams, and how calls failed. */
export interface Report extends Memory {
  readonly streams: number
  readonly reasons: Readonly<Record<string, number>>
}

/** Starts a client of the peer, which runs until the scope closes. */
export const startClientProcess = (address: PeerAddress) =>
  startMeasured<Report, Order, Report>("MeasuredClient.ts", address)
