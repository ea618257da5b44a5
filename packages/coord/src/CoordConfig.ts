/**
 * Settings of coordination.
 */
import { maxDigestsPerPleasePull } from "@gantry/protocol"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { SettingError } from "./SettingError.ts"
import * as Settings from "./Settings.ts"

/** Every setting of server and client (protocol, sections 4 and 7). */
export interface CoordConfig {
  /** One absolute deadline for reading, dispatching and answering an inbound stream; 5 seconds. */
  readonly streamHandshakeTimeout: Duration.Duration
  /** How long a decoded request may take until its reply; 2 seconds. */
  readonly dispatchTimeout: Duration.Duration
  /** Inbound streams at once, of all peers; one more is reset; 512. */
  readonly maxConcurrentStreams: number
  /** Inbound streams at once, of one peer; 128. */
  readonly maxConcurrentStreamsPerPeer: number
  /** Digests in one inbound please_pull; a larger one is dropped; 256. */
  readonly maxDigestsPerPleasePull: number
  /** What becomes of a peer that is no member: `observe` serves and counts it, `enforce` drops it; `observe`. */
  readonly peerAuthorization: "observe" | "enforce"
  /** At most one warning about strangers in this time; 30 seconds. */
  readonly unauthorizedWarningInterval: Duration.Duration
  /** How long running streams may go on when the server's scope closes; 5 seconds. */
  readonly shutdownGrace: Duration.Duration
  /** How long the client waits for a connection and a stream; 2 seconds. */
  readonly dialTimeout: Duration.Duration
  /** How long one call may take, dialing included; 2 seconds. */
  readonly rpcTimeout: Duration.Duration
  /** Digests that the client puts into one please_pull; 256. */
  readonly clientMaxDigestsPerPleasePull: number
}

/** Settings to change; a number or duration that is not positive is ignored. */
export type Options = {
  readonly [Key in keyof CoordConfig]?:
    | (CoordConfig[Key] extends Duration.Duration ? Duration.Input : CoordConfig[Key])
    | undefined
}

const assemble = (settings: Settings.Reader<Options>): CoordConfig => ({
  streamHandshakeTimeout: settings.duration("streamHandshakeTimeout", "5 seconds"),
  dispatchTimeout: settings.duration("dispatchTimeout", "2 seconds"),
  maxConcurrentStreams: settings.integer("maxConcurrentStreams", 512),
  maxConcurrentStreamsPerPeer: settings.integer("maxConcurrentStreamsPerPeer", 128),
  maxDigestsPerPleasePull: settings.integer("maxDigestsPerPleasePull", maxDigestsPerPleasePull),
  peerAuthorization: settings.choice("peerAuthorization", ["observe", "enforce"]),
  unauthorizedWarningInterval: settings.duration("unauthorizedWarningInterval", "30 seconds"),
  shutdownGrace: settings.duration("shutdownGrace", "5 seconds"),
  dialTimeout: settings.duration("dialTimeout", "2 seconds"),
  rpcTimeout: settings.duration("rpcTimeout", "2 seconds"),
  clientMaxDigestsPerPleasePull: settings.integer("clientMaxDigestsPerPleasePull", maxDigestsPerPleasePull)
})

/** The defaults with the given settings over them. */
export const make = (options: Options = {}): Effect.Effect<CoordConfig, SettingError> =>
  Settings.read(options, assemble)

/** The default of every setting. */
export const defaults: CoordConfig = assemble(Settings.reader({}))

/** The settings that server and client follow: the defaults, unless a layer says otherwise. */
export const CoordConfig: Context.Reference<CoordConfig> = Context.Reference("@gantry/coord/CoordConfig", {
  defaultValue: () => defaults
})

/** The defaults with the given settings over them. */
export const layer = (options?: Options): Layer.Layer<never, SettingError> => Layer.effect(CoordConfig, make(options))

const optional = <A>(config: Config.Config<A>) => Config.withDefault(config, undefined)

/** Settings from the environment: `GANTRY_COORD_` and the setting's name, for example `GANTRY_COORD_RPC_TIMEOUT="3 seconds"`. */
export const config: Config.Config<CoordConfig> = Config.all({
  streamHandshakeTimeout: optional(Config.Duration("STREAM_HANDSHAKE_TIMEOUT")),
  dispatchTimeout: optional(Config.Duration("DISPATCH_TIMEOUT")),
  maxConcurrentStreams: optional(Config.Int("MAX_CONCURRENT_STREAMS")),
  maxConcurrentStreamsPerPeer: optional(Config.Int("MAX_CONCURRENT_STREAMS_PER_PEER")),
  maxDigestsPerPleasePull: optional(Config.Int("MAX_DIGESTS_PER_PLEASE_PULL")),
  peerAuthorization: optional(Config.schema(Schema.Literals(["observe", "enforce"]), "PEER_AUTHORIZATION")),
  unauthorizedWarningInterval: optional(Config.Duration("UNAUTHORIZED_WARNING_INTERVAL")),
  shutdownGrace: optional(Config.Duration("SHUTDOWN_GRACE")),
  dialTimeout: optional(Config.Duration("DIAL_TIMEOUT")),
  rpcTimeout: optional(Config.Duration("RPC_TIMEOUT")),
  clientMaxDigestsPerPleasePull: optional(Config.Int("CLIENT_MAX_DIGESTS_PER_PLEASE_PULL"))
}).pipe(
  Config.nested("GANTRY_COORD"),
  // What the environment says has been read by now.
  Config.map((options) => assemble(Settings.reader<Options>(options)))
)

/** Settings from the environment; fails on one that cannot be read. */
export const layerFromEnv: Layer.Layer<never, Config.ConfigError> = Layer.effect(CoordConfig, config)
