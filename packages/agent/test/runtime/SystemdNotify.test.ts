import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, FileSystem, Layer, Logger, Queue } from "effect"
import { type ChildProcess, ChildProcessSpawner } from "effect/process"
import { TestClock } from "effect/testing"
import * as SystemdNotify from "../../src/runtime/SystemdNotify.ts"

/** A program in the place of `systemd-notify`, which keeps what it is told, and for whom. */
const messenger = Effect.fnUntraced(function* (exitCode = 0) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped()
  const command = `${directory}/systemd-notify`
  yield* fs.writeFileString(command, `#!/bin/sh\necho "$1 $NOTIFY_SOCKET" >> ${directory}/told\nexit ${exitCode}\n`, {
    mode: 0o755
  })
  const told = fs.readFileString(`${directory}/told`).pipe(
    Effect.map((text) => text.trimEnd().split("\n")),
    Effect.orElseSucceed((): ReadonlyArray<string> => [])
  )
  return { command, told }
})

const start = (command: string, env: Record<string, string>) =>
  Effect.map(
    Layer.build(
      SystemdNotify.layer({ command }).pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))))
    ),
    (context) => Context.get(context, SystemdNotify.SystemdNotify)
  )

describe("SystemdNotify", () => {
  it.effect("tells the systemd that started it", () =>
    Effect.gen(function* () {
      const { command, told } = yield* messenger()
      const systemd = yield* start(command, { NOTIFY_SOCKET: "/run/systemd/notify" })
      yield* systemd.ready
      yield* systemd.stopping
      assert.deepStrictEqual(yield* told, ["READY=1 /run/systemd/notify", "STOPPING=1 /run/systemd/notify"])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("tells nobody where nobody listens", () =>
    Effect.gen(function* () {
      const { command, told } = yield* messenger()
      const systemd = yield* start(command, { WATCHDOG_USEC: "1000" })
      yield* systemd.ready
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* told, [])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("feeds the watchdog twice in its time", () =>
    Effect.gen(function* () {
      const { command, told } = yield* messenger()
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const ended = yield* Queue.unbounded<void>()
      const observed = {
        ...spawner,
        exitCode: (command: ChildProcess.Command) =>
          Effect.tap(spawner.exitCode(command), () => Queue.offer(ended, undefined))
      }
      const env = { NOTIFY_SOCKET: "@x", WATCHDOG_USEC: "20000000", WATCHDOG_PID: `${process.pid}` }
      yield* Effect.provideService(start(command, env), ChildProcessSpawner.ChildProcessSpawner, observed)
      yield* Queue.take(ended)
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual(yield* told, ["WATCHDOG=1 @x"])
      yield* TestClock.adjust("1 millis")
      yield* Queue.take(ended)
      assert.lengthOf(yield* told, 2)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("leaves a watchdog alone that waits for another process", () =>
    Effect.gen(function* () {
      const { command, told } = yield* messenger()
      const systemd = yield* start(command, { NOTIFY_SOCKET: "@x", WATCHDOG_USEC: "1000", WATCHDOG_PID: "1" })
      yield* TestClock.adjust("1 second")
      yield* systemd.ready
      assert.deepStrictEqual(yield* told, ["READY=1 @x"])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect.each([
    ["that fails", 3],
    ["that is not there", undefined]
  ] as const)("goes on with a messenger %s, and logs it", ([, exitCode]) =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
      const command = exitCode === undefined ? "/nowhere/systemd-notify" : (yield* messenger(exitCode)).command
      const systemd = yield* start(command, { NOTIFY_SOCKET: "@x" })
      yield* Effect.provide(systemd.ready, logger)
      assert.include(logged.join(), "systemd was not told READY=1")
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
