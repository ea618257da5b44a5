/**
 * What happened in a simulation, in order.
 */

/** What an event is about; reports show each kind differently. */
export type EventKind =
  | "fault"
  | "request"
  | "outcome"
  | "message"
  | "reply"
  | "pull"
  | "pulled"
  | "origin"
  | "transfer"
  | "stored"
  | "log"
  | "violation"

/** Something that happened at one node, or to the cluster. */
export interface Event {
  /** Milliseconds since the simulation began, true time. */
  readonly at: number
  /** The index of the node; none where the cluster is meant. */
  readonly node: number | undefined
  readonly kind: EventKind
  readonly text: string
  /** The other node, of a message or a transfer. */
  readonly peer?: number | undefined
}

/** Events as text: time, node, event; the same events give the same text. */
export const format = (events: ReadonlyArray<Event>): string =>
  events
    .map(({ at, kind, node, text }) => {
      const who = node === undefined ? "-" : `node-${node}`
      return `${(at / 1000).toFixed(3).padStart(9)} ${who.padEnd(10)} ${kind.padEnd(9)} ${text}`
    })
    .join("\n")
