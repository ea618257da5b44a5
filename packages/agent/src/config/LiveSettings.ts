/**
 * The settings of a running agent: read at its start, and again on SIGHUP and
 * when the file changes (agent, sections 1 and 2).
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Signals from "../runtime/Signals.ts"
import * as WatchedFile from "../runtime/WatchedFile.ts"
import * as Configuration from "./Configuration.ts"
import { type ConfigurationError, formatProblem } from "./Problem.ts"
import { factsOf, type Key, keys, Settings } from "./Settings.ts"

/** What came of a reload. */
export type Reload = Data.TaggedEnum<{
  /** The configuration is valid: some settings have changed, and others would after a restart. */
  Valid: { readonly applied: ReadonlyArray<Key>; readonly waiting: ReadonlyArray<Key> }
  /** It is not: everything stays as it was. */
  Invalid: { readonly error: ConfigurationError }
}>
export const Reload = Data.taggedEnum<Reload>()

/** The settings now. */
export class LiveSettings extends Context.Service<
  LiveSettings,
  {
    readonly current: Effect.Effect<Settings>
    /** The settings now and after every change. */
    readonly changes: Stream.Stream<Settings>
    /** Reads the configuration again. Logs and counts what came of it. */
    readonly reload: Effect.Effect<Reload>
  }
>()("@gantry/agent/LiveSettings") {}

const reloads = Metric.counter("gantry_config_reload_total", {
  description: "Times the configuration was read again, by what came of it.",
  incremental: true
})

const outcomeOf: (reload: Reload) => string = Reload.$match({
  Valid: ({ applied, waiting }) => {
    if (waiting.length > 0) return "restart_needed"
    return applied.length > 0 ? "applied" : "unchanged"
  },
  Invalid: () => "invalid"
})

/** Settings as somebody would write them, to compare them by. */
const writtenOf = (settings: Settings): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(Schema.encodeSync(Settings)(settings)).map(([key, value]) => [key, JSON.stringify(value)])
  )

const log = (reload: Reload): Effect.Effect<void> =>
  Reload.$match(reload, {
    Invalid: ({ error }) => Effect.logError(`the configuration is invalid, and all settings stay:\n${error.message}`),
    Valid: Effect.fnUntraced(function* ({ applied, waiting }) {
      if (applied.length > 0) yield* Effect.logInfo(`settings changed: ${applied.join(", ")}`)
      if (waiting.length > 0) yield* Effect.logWarning(`restart needed to change ${waiting.join(", ")}`)
    })
  })

const make = Effect.fnUntraced(function* (sources: Configuration.Sources) {
  const initial = yield* Configuration.load(sources)
  for (const warning of initial.warnings) yield* Effect.logWarning(formatProblem(warning))
  const settings = yield* SubscriptionRef.make(initial.settings)
  const context = yield* Effect.context<FileSystem.FileSystem>()
  // A file that has been read must not be taken for one that nobody wants while it is being replaced.
  const load = Configuration.load({ ...sources, file: Option.orElse(sources.file, () => initial.file) })

  const adopt = Effect.fnUntraced(function* (next: Settings) {
    const current = yield* SubscriptionRef.get(settings)
    const [before, after] = [writtenOf(current), writtenOf(next)]
    const changed = keys.filter((key) => before[key] !== after[key])
    const applied = changed.filter((key) => factsOf(key).reloadable)
    const waiting = changed.filter((key) => !factsOf(key).reloadable)
    if (applied.length > 0) {
      const adopted = { ...current, ...Object.fromEntries(applied.map((key) => [key, next[key]])) }
      yield* SubscriptionRef.set(settings, adopted)
    }
    return Reload.Valid({ applied, waiting })
  })

  const count = (reload: Reload) => Metric.update(Metric.withAttributes(reloads, { outcome: outcomeOf(reload) }), 1)
  const oneByOne = yield* Semaphore.make(1)

  const read = Effect.matchEffect(load, {
    onFailure: (error) => Effect.succeed(Reload.Invalid({ error })),
    onSuccess: ({ settings }) => adopt(settings)
  }).pipe(Effect.tap(log), oneByOne.withPermit, Effect.provideContext(context))

  const reload = Effect.provideContext(Effect.tap(read, count), context)

  // The first look finds what has changed since the start; mostly nothing, of which nobody needs to know.
  const follow = Effect.flatMap(read, (reload) => (outcomeOf(reload) === "unchanged" ? Effect.void : count(reload)))
  const file = Option.orElse(sources.file, () => initial.file)
  yield* Effect.forkScoped(
    WatchedFile.follow(
      Option.getOrElse(file, () => Configuration.defaultFile),
      follow
    )
  )
  yield* Effect.forkScoped(Stream.runForEach(Signals.hangups, () => reload))

  return LiveSettings.of({
    current: SubscriptionRef.get(settings),
    changes: SubscriptionRef.changes(settings),
    reload
  })
})

/** The settings from these sources, for as long as the scope is open. Fails with all that is wrong with them. */
export const layer = (
  sources: Configuration.Sources
): Layer.Layer<LiveSettings, ConfigurationError, FileSystem.FileSystem | Path.Path> =>
  Layer.effect(LiveSettings, make(sources))

/** Settings that stay as they are. */
export const layerStatic = (settings: Settings): Layer.Layer<LiveSettings> =>
  Layer.succeed(LiveSettings, {
    current: Effect.succeed(settings),
    changes: Stream.concat(Stream.succeed(settings), Stream.never),
    reload: Effect.succeed(Reload.Valid({ applied: [], waiting: [] }))
  })
