/**
 * What an agent says of itself at `GET /gantry/v1/self` (agent, section 5).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { describeHttpError } from "../runtime/describeHttpError.ts"
import { maxAddresses, PeerIdText, ShortNodeId, Zone } from "./MemberEntry.ts"
import * as TcpAddress from "./TcpAddress.ts"

/** Where it is served. */
export const path = "/gantry/v1/self"

/** An agent about itself. What others add to it is passed over. */
export class SelfDocument extends Schema.Class<SelfDocument>("@gantry/agent/SelfDocument")({
  node_id: ShortNodeId,
  peer_id: PeerIdText,
  /** libp2p multiaddrs, each with or without a trailing `/p2p/<id>`. */
  p2p_addrs: Schema.Array(Schema.String).check(Schema.isMaxLength(64)),
  /** `host:port`; others reach it where their own source of members says. */
  transfer_addr: Schema.String.check(Schema.isMaxLength(300)),
  transfer_tls_addr: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(300))),
  zone: Schema.optionalKey(Zone)
}) {
  /** The multiaddrs that can be used: of a kind that we dial, and of no other peer. */
  get addresses(): ReadonlyArray<string> {
    return this.p2p_addrs
      .filter((text) =>
        Option.exists(TcpAddress.parse(text), ({ peerId }) => Option.isNone(peerId) || peerId.value === this.peer_id)
      )
      .slice(0, maxAddresses)
  }
}

const Json = Schema.fromJsonString(SelfDocument)

/** The body of the answer. */
export const encode: (self: SelfDocument) => string = Schema.encodeSync(Json)

/**
 * Why an agent did not say who it is. `Unreachable`: no connection, or no
 * answer in time. `Refused`: another status than 200. `Malformed`: an answer
 * that is too long or no such document.
 */
export class SelfError extends Schema.TaggedError<SelfError>("@gantry/agent/SelfError")("SelfError", {
  reason: Schema.Literals(["Unreachable", "Refused", "Malformed"]),
  address: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.address} does not say who it is: ${this.detail}`
  }
}

/** The longest document that is read. */
const maxBytes = 64 * 1024

/** How long an agent has for its answer, all of it. */
const patience = Duration.seconds(2)

/** Asks the agent at an address who it is. */
export const ask = Effect.fnUntraced(
  function* (address: string): Effect.fn.Return<SelfDocument, SelfError, HttpClient.HttpClient> {
    const client = yield* HttpClient.HttpClient
    const fail = (reason: SelfError["reason"], detail: string) => new SelfError({ reason, address, detail })
    const unreachable = (error: unknown) => fail("Unreachable", describeHttpError(error))
    const request = HttpClientRequest.get(`http://${address}${path}`, {
      headers: { accept: "application/json", "accept-encoding": "identity", "user-agent": "gantry" }
    })
    const response = yield* Effect.mapError(client.execute(request), unreachable)
    if (response.status !== 200) return yield* fail("Refused", `it answers ${response.status}`)
    const chunks: Array<Uint8Array> = []
    let length = 0
    yield* Stream.runForEach(Stream.mapError(response.stream, unreachable), (chunk) => {
      length += chunk.length
      if (length > maxBytes) return Effect.fail(fail("Malformed", `its document has over ${maxBytes} bytes`))
      return Effect.sync(() => void chunks.push(chunk))
    })
    return yield* Effect.mapError(Schema.decodeEffect(Json)(Buffer.concat(chunks).toString()), ({ message }) =>
      fail("Malformed", `its document is none: ${message.split("\n", 1)[0]}`)
    )
  },
  (effect, address) =>
    Effect.timeoutOrElse(effect, {
      duration: patience,
      orElse: () =>
        Effect.fail(
          new SelfError({ reason: "Unreachable", address, detail: `no answer within ${Duration.format(patience)}` })
        )
    })
)
