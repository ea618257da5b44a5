/**
 * What the nodes of a demo run have told.
 */
import type { Digest, NodeId } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import type { Event } from "./NodeMessage.ts"
import * as Progress from "./Progress.ts"
import type { Pull } from "./Report.ts"

/** Sees how far the nodes are, whenever that changes, and which of them changed. */
export type OnProgress = (
  nodes: ReadonlyArray<Progress.NodeProgress>,
  changed: Progress.NodeProgress
) => Effect.Effect<void>

/** Keeps the books. */
export interface Ledger {
  /** Takes in what a node tells. */
  readonly take: (nodeId: NodeId, event: Event) => Effect.Effect<void>
  /** Takes in what is known of a node otherwise. */
  readonly enter: (nodeId: NodeId, phase: Progress.NodeProgress["phase"]) => Effect.Effect<void>
  /** How many events there have been. */
  readonly events: Effect.Effect<number>
  /** The pulls from the origin, as far as they have ended. */
  readonly pulls: Effect.Effect<ReadonlyArray<Pull>>
  /** How often each digest went from one node to another. */
  readonly peerTransfers: Effect.Effect<ReadonlyMap<Digest, number>>
}

export const make = (nodeIds: ReadonlyArray<NodeId>, onProgress: OnProgress): Ledger => {
  const progress = new Map(nodeIds.map((nodeId) => [nodeId, Progress.starting(nodeId)]))
  const pulls: Array<Pull> = []
  const transfers = new Map<Digest, number>()
  let events = 0

  const change = (nodeId: NodeId, changes: (now: Progress.NodeProgress) => Partial<Progress.NodeProgress>) =>
    Effect.suspend(() => {
      const now = progress.get(nodeId) ?? Progress.starting(nodeId)
      const changed = { ...now, ...changes(now) }
      progress.set(nodeId, changed)
      return onProgress([...progress.values()], changed)
    })

  const enter = (nodeId: NodeId, phase: Progress.NodeProgress["phase"]) => change(nodeId, () => ({ phase }))

  const record = (nodeId: NodeId, event: Event): Effect.Effect<void> => {
    switch (event._tag) {
      case "Ready":
        return enter(nodeId, "ready")
      case "Joined":
      case "Greeted":
        return Effect.void
      case "Progress": {
        const { _tag, ...figures } = event
        return change(nodeId, () => figures)
      }
      case "Obtained": {
        if (event.from === "Peer") transfers.set(event.digest, (transfers.get(event.digest) ?? 0) + 1)
        return Effect.void
      }
      case "Pulled": {
        const { bytes, digest, stored } = event
        if (bytes > 0) pulls.push({ account: nodeId, digest, bytes })
        return stored ? change(nodeId, ({ fromOrigin }) => ({ fromOrigin: fromOrigin + 1 })) : Effect.void
      }
      case "Finished":
        return enter(nodeId, "done")
      case "Failed":
        return enter(nodeId, "failed")
    }
  }

  return {
    take: (nodeId, event) =>
      Effect.suspend(() => {
        events++
        return record(nodeId, event)
      }),
    enter,
    events: Effect.sync(() => events),
    pulls: Effect.sync(() => [...pulls]),
    peerTransfers: Effect.sync(() => new Map(transfers))
  }
}
