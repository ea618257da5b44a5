/**
 * Whether the agent of this machine would answer containerd.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Settings } from "../config/Settings.ts"
import { describeHttpError } from "../runtime/describeHttpError.ts"
import { urlOf } from "./Hosts.ts"

/** What does not answer as it should. */
export class NotReady extends Schema.TaggedError<NotReady>("@gantry/agent/NotReady")("NotReady", {
  url: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.url} ${this.detail}`
  }
}

/** How long one answer may take. */
const patience = Duration.seconds(2)

/** Asks for a 200 at a URL. */
export const expectOk = Effect.fnUntraced(
  function* (url: string): Effect.fn.Return<void, NotReady, HttpClient.HttpClient> {
    const client = yield* HttpClient.HttpClient
    const { status } = yield* Effect.mapError(
      client.get(url),
      (error) => new NotReady({ url, detail: `cannot be reached: ${describeHttpError(error)}` })
    )
    if (status !== 200) return yield* new NotReady({ url, detail: `answers ${status}` })
  },
  (effect, url) =>
    Effect.timeoutOrElse(effect, {
      duration: patience,
      orElse: () => Effect.fail(new NotReady({ url, detail: `does not answer within ${Duration.format(patience)}` }))
    }),
  Effect.scoped
)

/** Fails unless the agent is ready and its mirror answers. */
export const check = (settings: Settings): Effect.Effect<void, NotReady, HttpClient.HttpClient> =>
  Effect.andThen(expectOk(`${urlOf(settings.metrics_listen)}/readyz`), expectOk(`${urlOf(settings.mirror_listen)}/v2/`))

/** Waits until the agent is ready; fails with what it lacks in the end. */
export const wait = (
  settings: Settings,
  atMost: Duration.Duration
): Effect.Effect<void, NotReady, HttpClient.HttpClient> =>
  Effect.retry(check(settings), {
    schedule: Schedule.max([Schedule.spaced("500 millis"), Schedule.during(atMost)]),
    while: () => Duration.isPositive(atMost)
  })
