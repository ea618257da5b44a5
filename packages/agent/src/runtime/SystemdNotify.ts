/**
 * Tells systemd how the agent is doing (agent, section 1: `Type=notify`,
 * watchdog). Node has no datagram sockets of the local kind, so `systemd-notify`
 * sends the messages; the unit needs `NotifyAccess=all`, because they come from
 * another process than the agent.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as ChildProcess from "effect/process/ChildProcess"
import { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Schedule from "effect/Schedule"

/** What systemd is told. What does not get through is logged and holds nobody up. */
export class SystemdNotify extends Context.Service<
  SystemdNotify,
  {
    /** The agent is ready: units that wait for it may start. */
    readonly ready: Effect.Effect<void>
    /** The agent is about to end. */
    readonly stopping: Effect.Effect<void>
  }
>()("@gantry/agent/SystemdNotify") {}

/** Nobody is told anything. */
export const layerNone: Layer.Layer<SystemdNotify> = Layer.succeed(SystemdNotify, {
  ready: Effect.void,
  stopping: Effect.void
})

/** Settings. */
export interface Options {
  /** The program that sends the messages; `systemd-notify`. */
  readonly command?: string | undefined
}

/** What systemd sets for a service of its own. */
const environment = Config.all({
  socket: Config.option(Config.NonEmptyString("NOTIFY_SOCKET")),
  watchdog: Config.option(Config.Int("WATCHDOG_USEC")),
  watchdogPid: Config.option(Config.Int("WATCHDOG_PID"))
})

/** How long a message may take. */
const patience = Duration.seconds(5)

const make = Effect.fnUntraced(function* ({ command = "systemd-notify" }: Options = {}) {
  const { socket, watchdog, watchdogPid } = yield* environment
  if (Option.isNone(socket)) return SystemdNotify.of({ ready: Effect.void, stopping: Effect.void })
  const spawner = yield* ChildProcessSpawner

  const notify = (message: string) =>
    spawner
      .exitCode(ChildProcess.make(command, [message], { env: { NOTIFY_SOCKET: socket.value }, extendEnv: true }))
      .pipe(
        Effect.timeout(patience),
        Effect.filterOrFail(
          (code) => code === 0,
          (code) => new Error(`${command} ended with ${code}`)
        ),
        Effect.ignore({ log: "Warn", message: `systemd was not told ${message}` }),
        Effect.asVoid
      )

  const isForUs = Option.match(watchdogPid, { onNone: () => true, onSome: (pid) => pid === process.pid })
  if (Option.isSome(watchdog) && watchdog.value > 0 && isForUs) {
    // Twice as often as systemd looks, as it advises.
    const interval = Duration.micros(BigInt(Math.floor(watchdog.value / 2)))
    yield* Effect.forkScoped(Effect.repeat(notify("WATCHDOG=1"), Schedule.spaced(interval)))
  }
  return SystemdNotify.of({ ready: notify("READY=1"), stopping: notify("STOPPING=1") })
})

/** Tells the systemd that started this process, if one did, and feeds its watchdog for as long as the scope is open. */
export const layer = (options?: Options): Layer.Layer<SystemdNotify, Config.ConfigError, ChildProcessSpawner> =>
  Layer.effect(SystemdNotify, make(options))
