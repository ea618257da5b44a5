/**
 * Answers that a test lays down beforehand.
 */
import * as Effect from "effect/Effect"

/** Answers by key, and a record of what was asked. */
export interface Script<Key, Request, A, E> {
  /** Gives these answers for the key, one per request; the last one also to all that follow. */
  readonly answer: (key: Key, ...answers: ReadonlyArray<Effect.Effect<A, E>>) => Effect.Effect<void>
  /** All requests so far, in order. */
  readonly requests: Effect.Effect<ReadonlyArray<Request>>
  readonly respond: (request: Request) => Effect.Effect<A, E>
}

/** A script without answers; the fallback answers what it has none for. */
export const makeScript = <Key, Request, A, E>(
  keyOf: (request: Request) => Key,
  fallback: (request: Request) => Effect.Effect<A, E>
): Script<Key, Request, A, E> => {
  const answers = new Map<Key, Array<Effect.Effect<A, E>>>()
  const requests: Array<Request> = []
  return {
    answer: (key, ...given) => Effect.sync(() => answers.set(key, [...given])),
    requests: Effect.sync(() => [...requests]),
    respond: (request) =>
      Effect.suspend(() => {
        requests.push(request)
        const left = answers.get(keyOf(request)) ?? []
        return (left.length > 1 ? left.shift() : left[0]) ?? fallback(request)
      })
  }
}
