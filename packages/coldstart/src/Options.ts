/**
 * What a requester, and each call of it, can be told.
 */
import type * as Duration from "effect/Duration"

/** Settings of the requester; a value that is not positive is ignored, one that cannot be read fails the layer. */
export interface Options {
  /** How many of the best-ranked candidates are asked; twice as many once none of them can be reached; 3. */
  readonly ranks?: number | undefined
  /**
   * Who counts as a candidate: the members of this node's own zone, where it has
   * one, or all members; `zone`. All nodes of a cluster must agree.
   */
  readonly scope?: "zone" | "cluster" | undefined
  /** How many random candidates are asked for a copy besides, while the holders among the ranks are busy; 4. */
  readonly randomPeers?: number | undefined
  /** How long a parallel round of queries waits for answers; 2 seconds. */
  readonly roundTimeout?: Duration.Input | undefined
  /** How long a round waits for the others once an answer has settled what comes next; 250 milliseconds. */
  readonly roundGrace?: Duration.Input | undefined
  /** How long one please_pull waits for its answer; 2 seconds. */
  readonly pleasePullTimeout?: Duration.Input | undefined
  /** How often to ask about a running pull of a manifest or a config; 200 milliseconds. */
  readonly manifestPoll?: Duration.Input | undefined
  /** How often to ask about a running pull of a layer; 1 second. */
  readonly layerPoll?: Duration.Input | undefined
  /** The longest delay before a direct pull, times the natural logarithm of the number of members; 3 seconds. */
  readonly fallbackDelay?: Duration.Input | undefined
  /** The longest time for which a passing failure fails further calls at once; 30 seconds. */
  readonly cooldownCap?: Duration.Input | undefined
  /**
   * The patience of calls that bring none of their own; 5 minutes, which is how
   * long containerd waits for the pull of an image that makes no progress.
   */
  readonly patience?: Duration.Input | undefined
  /**
   * How long one call may take, whatever it waits for; 24 hours. A pull that gets
   * on is waited for, however slow it is: this is for what nobody thought of.
   */
  readonly deadline?: Duration.Input | undefined
}

/** What one call can be told. */
export interface ObtainOptions {
  /**
   * How long after its beginning the call still waits for a failure to pass: for
   * the end of a cooldown, or for a node that declines no more. Zero: not at all.
   */
  readonly patience?: Duration.Input | undefined
}
