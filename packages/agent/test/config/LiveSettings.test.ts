import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Duration,
  Effect,
  Fiber,
  FileSystem,
  Layer,
  Logger,
  Metric,
  Option,
  Queue,
  Stream
} from "effect"
import { TestClock } from "effect/testing"
import * as Configuration from "../../src/config/Configuration.ts"
import { LiveSettings, layer } from "../../src/config/LiveSettings.ts"
import { eventually } from "../members/support.ts"
import { minimal, sourcesOf, writeConfig } from "./support.ts"

/** A file system that tells what of a file has been read, and when an event of its directory has been handed on. */
const observed = Effect.fnUntraced(function* () {
  const real = yield* FileSystem.FileSystem
  const reads = yield* Queue.unbounded<string>()
  const events = yield* Queue.unbounded<string>()
  const fs: FileSystem.FileSystem = {
    ...real,
    readFileString: (path) => Effect.tap(real.readFileString(path), (text) => Queue.offer(reads, text)),
    watch: (path, options) => Stream.tap(real.watch(path, options), (event) => Queue.offer(events, event.path))
  }
  return { fs, reads, events }
})

/** Settings that live, what they log, and how often they were read with which outcome. */
const start = Effect.fnUntraced(function* (path: string) {
  const { events, fs, reads } = yield* observed()
  const logged: Array<string> = []
  const logger = Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
  const registry = new Map()
  const context = yield* Layer.build(layer(sourcesOf(path))).pipe(
    Effect.provideService(FileSystem.FileSystem, fs),
    Effect.provide(logger),
    Effect.provideService(Metric.MetricRegistry, registry)
  )
  const outcomes = Metric.snapshot.pipe(
    Effect.provideService(Metric.MetricRegistry, registry),
    Effect.map((metrics) =>
      metrics.map(({ attributes, state }) => [attributes?.outcome, (state as { readonly count: number }).count])
    )
  )
  const settings = Context.get(context, LiveSettings)
  const ttl = Effect.map(settings.current, ({ tags_ttl }) => Duration.toSeconds(tags_ttl))
  /** Waits until the settings fulfil what is said of them; their clock goes on with every event of the file. */
  const until = (seconds: number) =>
    Effect.gen(function* () {
      const changed = yield* Deferred.make<void>()
      yield* settings.changes.pipe(
        Stream.filter(({ tags_ttl }) => Duration.toSeconds(tags_ttl) === seconds),
        Stream.take(1),
        Stream.runDrain,
        Effect.andThen(Deferred.succeed(changed, undefined)),
        Effect.forkScoped
      )
      yield* Effect.raceFirst(
        Deferred.await(changed),
        Effect.forever(Effect.andThen(Queue.take(events), TestClock.adjust("200 millis")))
      )
    })
  // Once to start, and once when the file is being watched.
  yield* Queue.takeN(reads, 2)
  return { settings, ttl, until, logged, outcomes }
})

describe("LiveSettings", () => {
  it.effect("applies what may change and says what needs a restart", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* writeConfig(`${minimal}tags_ttl: 1s\nhrw_k: 3\n`)
      const { logged, outcomes, settings } = yield* start(path)
      yield* fs.writeFileString(path, `${minimal}tags_ttl: 2s\nhrw_k: 4\nlimit_up: 5MB/s\n`)
      const reload = yield* settings.reload
      assert.deepInclude(reload, { _tag: "Valid", applied: ["tags_ttl", "limit_up"], waiting: ["hrw_k"] })
      const now = yield* settings.current
      assert.strictEqual(Duration.toSeconds(now.tags_ttl), 2)
      assert.deepStrictEqual(now.limit_up, Option.some(5_000_000))
      assert.strictEqual(now.hrw_k, 3)
      assert.deepStrictEqual(logged, ["settings changed: tags_ttl, limit_up", "restart needed to change hrw_k"])
      assert.deepStrictEqual(yield* outcomes, [["restart_needed", 1]])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("keeps everything when the new configuration is invalid, and counts it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* writeConfig(`${minimal}tags_ttl: 1s\n`)
      const { logged, outcomes, settings, ttl } = yield* start(path)
      yield* fs.writeFileString(path, `${minimal}tags_ttl: 2s\nhrw_k: none\n`)
      assert.strictEqual((yield* settings.reload)._tag, "Invalid")
      assert.strictEqual(yield* ttl, 1)
      assert.include(logged.join(), `${path}:3 hrw_k: none, must be a whole number from 1 to 32`)
      yield* fs.remove(path)
      assert.strictEqual((yield* settings.reload)._tag, "Invalid")
      assert.strictEqual(yield* ttl, 1)
      assert.deepStrictEqual(yield* outcomes, [["invalid", 2]])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("reads the file again when it is written to", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* writeConfig(`${minimal}tags_ttl: 1s\n`)
      const { until } = yield* start(path)
      yield* fs.writeFileString(path, `${minimal}tags_ttl: 2s\n`)
      yield* until(2)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("reads the file again when Kubernetes turns the link that leads to it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped()
      const put = Effect.fnUntraced(function* (version: string, ttl: string) {
        yield* fs.makeDirectory(`${directory}/..${version}`)
        yield* fs.writeFileString(`${directory}/..${version}/config.yaml`, `${minimal}tags_ttl: ${ttl}\n`)
        yield* fs.symlink(`..${version}`, `${directory}/..data_tmp`)
        yield* fs.rename(`${directory}/..data_tmp`, `${directory}/..data`)
      })
      yield* put("2024", "1s")
      yield* fs.symlink("..data/config.yaml", `${directory}/config.yaml`)
      const { ttl, until } = yield* start(`${directory}/config.yaml`)
      assert.strictEqual(yield* ttl, 1)
      yield* put("2025", "2s")
      yield* until(2)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("finds a change that the system does not report within ten seconds", () =>
    Effect.gen(function* () {
      const real = yield* FileSystem.FileSystem
      const path = yield* writeConfig(`${minimal}tags_ttl: 1s\n`)
      const reads = yield* Queue.unbounded<void>()
      const fs: FileSystem.FileSystem = {
        ...real,
        watch: (_path, options) =>
          Stream.suspend(() => {
            options?.onReady?.()
            return Stream.never
          }),
        readFileString: (path) => Effect.tap(real.readFileString(path), () => Queue.offer(reads, undefined))
      }
      const context = yield* Effect.provideService(Layer.build(layer(sourcesOf(path))), FileSystem.FileSystem, fs)
      const settings = Context.get(context, LiveSettings)
      yield* Queue.takeN(reads, 2)
      yield* real.writeFileString(path, `${minimal}tags_ttl: 2s\n`)
      const changed = yield* settings.changes.pipe(
        Stream.filter(({ tags_ttl }) => Duration.toSeconds(tags_ttl) === 2),
        Stream.take(1),
        Stream.runDrain,
        Effect.forkScoped
      )
      const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      const minutesGoBy = Effect.forever(Effect.andThen(TestClock.adjust("10 seconds"), turnOfTheEventLoop))
      yield* Effect.raceFirst(Fiber.join(changed), minutesGoBy)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("does not read a file again that nobody has touched", () =>
    Effect.gen(function* () {
      const real = yield* FileSystem.FileSystem
      let reads = 0
      const fs = {
        ...real,
        readFileString: (path: string) => Effect.tap(real.readFileString(path), () => Effect.sync(() => reads++))
      }
      const path = yield* writeConfig(minimal)
      yield* Effect.provideService(Layer.build(layer(sourcesOf(path))), FileSystem.FileSystem, fs)
      let minutes = 0
      yield* eventually(Effect.sync(() => minutes++ === 60))
      assert.strictEqual(reads, 2)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("keeps everything while the file that nobody asked for by name is being replaced", () =>
    Effect.gen(function* () {
      const real = yield* FileSystem.FileSystem
      const path = yield* writeConfig(`${minimal}tags_ttl: 1s\n`)
      const at = (asked: string) => (asked === Configuration.defaultFile ? path : asked)
      const fs: FileSystem.FileSystem = {
        ...real,
        exists: (asked) => real.exists(at(asked)),
        stat: (asked) => real.stat(at(asked)),
        readFileString: (asked) => real.readFileString(at(asked))
      }
      const sources = { file: Option.none(), environment: { GANTRY_WILDCARD_REGISTRIES: "true" }, flags: {} }
      const context = yield* Effect.provideService(Layer.build(layer(sources)), FileSystem.FileSystem, fs)
      const settings = Context.get(context, LiveSettings)
      yield* real.remove(path)
      assert.strictEqual((yield* settings.reload)._tag, "Invalid")
      assert.strictEqual(Duration.toSeconds((yield* settings.current).tags_ttl), 1)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("reads the file again on SIGHUP, as often as it is told", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* writeConfig(`${minimal}tags_ttl: 1s\n`)
      const { settings, ttl } = yield* start(path)
      for (const seconds of [2, 3]) {
        const changed = yield* settings.changes.pipe(
          Stream.filter(({ tags_ttl }) => Duration.toSeconds(tags_ttl) === seconds),
          Stream.take(1),
          Stream.runDrain,
          Effect.forkScoped({ startImmediately: true })
        )
        yield* fs.writeFileString(path, `${minimal}tags_ttl: ${seconds}s\n`)
        process.kill(process.pid, "SIGHUP")
        yield* Fiber.join(changed)
        assert.strictEqual(yield* ttl, seconds)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("does not start with a configuration that is invalid", () =>
    Effect.gen(function* () {
      const path = yield* writeConfig("hrw_k: 0\n")
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer(sourcesOf(path)))))
      assert.lengthOf(error.problems, 2)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
