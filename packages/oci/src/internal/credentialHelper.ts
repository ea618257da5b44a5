/**
 * Asks docker's credential helpers: programs that keep credentials elsewhere
 * than in a file (docker-credential-helpers, its protocol).
 */
import * as Cache from "effect/Cache"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** What a helper keeps for a server. */
export interface Kept {
  readonly username: string
  readonly secret: Redacted.Redacted
}

class Question extends Data.Class<{ readonly helper: string; readonly server: string }> {}

/** How long an answer is taken for current: registries that want no token are asked with it again and again. */
const timeToLive = Duration.minutes(1)
const capacity = 256

/** An answer has a few hundred bytes, a token in it up to some thousand. */
const maxBytes = 64 * 1024

/** What a helper says when it keeps nothing for a server. */
const nothingKept = /credentials not found|no credentials server URL/i

const Answer = Schema.fromJsonString(Schema.Struct({ Username: Schema.String, Secret: Schema.String }))

const isName = (helper: string) => /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(helper)

/** Asks a helper for what it keeps for a server; fails with what went wrong. */
export const make = Effect.fnUntraced(function* (timeout: Duration.Duration) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner

  const read = (output: Stream.Stream<Uint8Array, { readonly message: string }>) =>
    Stream.mapError(output, ({ message }) => message).pipe(
      Stream.runFoldEffect(
        () => Buffer.alloc(0),
        (read, chunk) =>
          read.length + chunk.length > maxBytes
            ? Effect.fail(`it says more than ${maxBytes} bytes`)
            : Effect.succeed(Buffer.concat([read, chunk]))
      ),
      Effect.map((bytes) => bytes.toString())
    )

  const ask = Effect.fnUntraced(
    function* ({ helper, server }: Question): Effect.fn.Return<Option.Option<Kept>, string, Scope.Scope> {
      if (!isName(helper)) return yield* Effect.fail("it has a name that no program has")
      const child = yield* spawner
        .spawn(
          ChildProcess.make(`docker-credential-${helper}`, ["get"], {
            stdin: Stream.make(new TextEncoder().encode(server)),
            stderr: "ignore",
            forceKillAfter: "1 second"
          })
        )
        .pipe(Effect.mapError(({ message }) => `it does not start: ${message}`))
      const said = yield* read(child.stdout)
      const code = yield* Effect.mapError(child.exitCode, ({ message }) => message)
      if (code !== 0) {
        if (nothingKept.test(said)) return Option.none()
        return yield* Effect.fail(`it ended with ${code} for ${server}`)
      }
      const answer = Schema.decodeOption(Answer)(said)
      if (Option.isNone(answer)) return yield* Effect.fail(`it answered nothing that is readable for ${server}`)
      const { Secret, Username } = answer.value
      return Secret === "" ? Option.none() : Option.some({ username: Username, secret: Redacted.make(Secret) })
    },
    Effect.scoped,
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () => Effect.fail(`it did not answer within ${Duration.format(timeout)}`)
    })
  )

  const answers = yield* Cache.makeWith(ask, {
    capacity,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? timeToLive : Duration.zero)
  })
  return (helper: string, server: string) => Cache.get(answers, new Question({ helper, server }))
})
