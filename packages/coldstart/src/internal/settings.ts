/**
 * The settings of a requester, resolved.
 */
import { positiveDuration, positiveInteger } from "@gantry/coord/Settings"
import { type ContentKind, queriedRanks } from "@gantry/protocol"
import type * as Duration from "effect/Duration"
import type { Options } from "../Options.ts"

/** Every setting with its value. */
export type Settings = {
  readonly [Key in keyof Options]-?: Exclude<Options[Key], undefined> extends number ? number : Duration.Duration
}

/** The defaults with the given settings over them; what is not positive is ignored. */
export const make = (options: Options = {}): Settings => ({
  ranks: positiveInteger(options.ranks, queriedRanks),
  randomPeers: positiveInteger(options.randomPeers, 4),
  roundTimeout: positiveDuration(options.roundTimeout, "2 seconds"),
  roundGrace: positiveDuration(options.roundGrace, "250 millis"),
  pleasePullTimeout: positiveDuration(options.pleasePullTimeout, "2 seconds"),
  manifestPoll: positiveDuration(options.manifestPoll, "200 millis"),
  layerPoll: positiveDuration(options.layerPoll, "1 second"),
  fallbackDelay: positiveDuration(options.fallbackDelay, "3 seconds"),
  cooldownCap: positiveDuration(options.cooldownCap, "30 seconds"),
  patience: positiveDuration(options.patience, "5 minutes"),
  deadline: positiveDuration(options.deadline, "30 minutes")
})

/** How long to wait before asking again about a pull that runs. */
export const pollOf = (settings: Settings, kind: ContentKind): Duration.Duration =>
  kind === "layer" ? settings.layerPoll : settings.manifestPoll
