/**
 * What one execution does with its bytes.
 */
import * as Option from "effect/Option"
import * as Calling from "./Calling.ts"
import * as Input from "./Input.ts"
import * as Protocol from "./Protocol.ts"
import * as Serving from "./Serving.ts"
import { Violation } from "./Violation.ts"

/** Returns if every invariant held, and throws otherwise: a `Violation`, or whatever went wrong. */
export type Target = (bytes: Uint8Array) => void

/** What is fuzzed; by default what Gantry runs. */
export interface Subject {
  readonly codec?: Protocol.Codec
  readonly server?: Serving.ServerLayer
  readonly client?: Calling.ClientLayer
}

/** Reads the stream for itself, and then hands it to the server or the client. */
export const make = ({ client, codec, server }: Subject = {}): Target => {
  const serve = Serving.make(server)
  const call = Calling.make(client)
  return (bytes) => {
    const input = Input.parse(bytes)
    const reading = Protocol.run(input, codec)
    const { reader } = input.situation
    if (reader === "server") serve(input, reading)
    else call(input, reading, reader)
  }
}

/** What an execution threw. */
export interface Failure {
  /** The invariant that did not hold, or what kind of error nobody expects; the same whatever the input. */
  readonly what: string
  readonly error: unknown
}

const whatOf = (error: unknown): string => {
  if (error instanceof Violation) return error.invariant
  return `an unexpected ${error instanceof Error ? error.name : typeof error}`
}

/** Executes an input; gives what was wrong. */
export const failureOf = (target: Target, bytes: Uint8Array): Option.Option<Failure> => {
  try {
    target(bytes)
    return Option.none()
  } catch (error) {
    return Option.some({ what: whatOf(error), error })
  }
}
