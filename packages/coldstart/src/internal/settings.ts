/**
 * The settings of a requester, resolved.
 */
import type { SettingError } from "@gantry/coord/SettingError"
import { read } from "@gantry/coord/Settings"
import { type ContentKind, queriedRanks } from "@gantry/protocol"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Options } from "../Options.ts"

/** Every setting with its value. */
export type Settings = {
  readonly [Key in Exclude<keyof Options, "scope">]-?: Exclude<Options[Key], undefined> extends number
    ? number
    : Duration.Duration
} & { readonly scope: NonNullable<Options["scope"]> }

/** The defaults with the given settings over them. */
export const make = (options: Options = {}): Effect.Effect<Settings, SettingError> =>
  read(options, (settings) => ({
    scope: settings.choice("scope", ["zone", "cluster"]),
    ranks: settings.integer("ranks", queriedRanks),
    randomPeers: settings.integer("randomPeers", 4),
    roundTimeout: settings.duration("roundTimeout", "2 seconds"),
    roundGrace: settings.duration("roundGrace", "250 millis"),
    pleasePullTimeout: settings.duration("pleasePullTimeout", "2 seconds"),
    manifestPoll: settings.duration("manifestPoll", "200 millis"),
    layerPoll: settings.duration("layerPoll", "1 second"),
    fallbackDelay: settings.duration("fallbackDelay", "3 seconds"),
    cooldownCap: settings.duration("cooldownCap", "30 seconds"),
    patience: settings.duration("patience", "5 minutes"),
    deadline: settings.duration("deadline", "24 hours")
  }))

/** How long to wait before asking again about a pull that runs. */
export const pollOf = (settings: Settings, kind: ContentKind): Duration.Duration =>
  kind === "layer" ? settings.layerPoll : settings.manifestPoll
