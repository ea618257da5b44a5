/**
 * Settings of coordination.
 */
import { maxDigestsPerPleasePull } from "@gantry/protocol"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { positiveDuration, positiveInteger } from "./Settings.ts"

/** Every setting of server and client (protocol, sections 4 and 7). */
export class CoordConfig extends Context.Service<
  CoordConfig,
  {
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
>()("@gantry/coord/CoordConfig") {}

/** The defaults of every setting. */
export const defaults: CoordConfig["Service"] = {
  streamHandshakeTimeout: Duration.seconds(5),
  dispatchTimeout: Duration.seconds(2),
  maxConcurrentStreams: 512,
  maxConcurrentStreamsPerPeer: 128,
  maxDigestsPerPleasePull,
  peerAuthorization: "observe",
  unauthorizedWarningInterval: Duration.seconds(30),
  shutdownGrace: Duration.seconds(5),
  dialTimeout: Duration.seconds(2),
  rpcTimeout: Duration.seconds(2),
  clientMaxDigestsPerPleasePull: maxDigestsPerPleasePull
}

/** Settings to change; a number or duration that is not positive is ignored. */
export type Options = {
  readonly [Key in keyof CoordConfig["Service"]]?:
    | (CoordConfig["Service"][Key] extends Duration.Duration ? Duration.Input : CoordConfig["Service"][Key])
    | undefined
}

/** The defaults with the given settings over them. */
export const make = (options: Options = {}): CoordConfig["Service"] => ({
  streamHandshakeTimeout: positiveDuration(options.streamHandshakeTimeout, defaults.streamHandshakeTimeout),
  dispatchTimeout: positiveDuration(options.dispatchTimeout, defaults.dispatchTimeout),
  maxConcurrentStreams: positiveInteger(options.maxConcurrentStreams, defaults.maxConcurrentStreams),
  maxConcurrentStreamsPerPeer: positiveInteger(
    options.maxConcurrentStreamsPerPeer,
    defaults.maxConcurrentStreamsPerPeer
  ),
  maxDigestsPerPleasePull: positiveInteger(options.maxDigestsPerPleasePull, defaults.maxDigestsPerPleasePull),
  peerAuthorization: options.peerAuthorization ?? defaults.peerAuthorization,
  unauthorizedWarningInterval: positiveDuration(
    options.unauthorizedWarningInterval,
    defaults.unauthorizedWarningInterval
  ),
  shutdownGrace: positiveDuration(options.shutdownGrace, defaults.shutdownGrace),
  dialTimeout: positiveDuration(options.dialTimeout, defaults.dialTimeout),
  rpcTimeout: positiveDuration(options.rpcTimeout, defaults.rpcTimeout),
  clientMaxDigestsPerPleasePull: positiveInteger(
    options.clientMaxDigestsPerPleasePull,
    defaults.clientMaxDigestsPerPleasePull
  )
})

/** The defaults with the given settings over them. */
export const layer = (options?: Options): Layer.Layer<CoordConfig> => Layer.succeed(CoordConfig, make(options))

const optional = <A>(config: Config.Config<A>) => Config.withDefault(config, undefined)

/** Settings from the environment: `GANTRY_COORD_` and the setting's name, for example `GANTRY_COORD_RPC_TIMEOUT="3 seconds"`. */
export const config: Config.Config<CoordConfig["Service"]> = Config.all({
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
}).pipe(Config.nested("GANTRY_COORD"), Config.map(make))

/** Settings from the environment; fails on one that cannot be read. */
export const layerFromEnv: Layer.Layer<CoordConfig, Config.ConfigError> = Layer.effect(CoordConfig, config)
