/**
 * What fuzzing begins with: good messages, in every situation.
 */
import {
  AlreadyPulling,
  encodeFrame,
  encodeMessage,
  type Message,
  PullIntent,
  RecentlyFailed,
  Started,
  Timestamp,
  Unspecified
} from "@gantry/protocol"
import * as Fixtures from "@gantry/testkit/Fixtures"
import * as Option from "effect/Option"
import { format, readers, situations } from "./Input.ts"
import { maxDigests } from "./World.ts"

const at = Option.some(Timestamp.make(1_750_000_000_123_456_789n))
const query = { _tag: "PullIntentRequest", digest: Fixtures.A } satisfies Message
const batch = {
  _tag: "PleasePullRequest",
  ...Fixtures.pleasePull([Fixtures.ONE, Fixtures.TWO], "manifest")
} satisfies Message

const intent = {
  hasCached: true,
  inFlight: true,
  startedAt: at,
  hrwRank: -1,
  recentlyFailed: true,
  cooldownUntil: at,
  failureClass: "transient" as const
}

const messages: ReadonlyArray<Message> = [
  query,
  batch,
  { _tag: "Empty" },
  { _tag: "PullIntentRequest", digest: "not a digest" },
  { _tag: "PleasePullRequest", ...Fixtures.pleasePull([]) },
  { ...batch, registry: "[::1]:65535", repository: "../../etc/passwd" },
  { _tag: "PleasePullRequest", ...Fixtures.pleasePull(new Array(maxDigests + 1).fill(Fixtures.A), "config") },
  { _tag: "PullIntentResponse", intent: new PullIntent(intent) },
  {
    _tag: "PleasePullResponse",
    results: [
      { digest: Fixtures.A, verdict: new Started({ startedAt: at }) },
      { digest: Fixtures.ONE, verdict: new AlreadyPulling({ startedAt: at }) },
      { digest: Fixtures.TWO, verdict: new RecentlyFailed({ cooldownUntil: at, failureClass: "auth" }) },
      { digest: "foreign", verdict: new Unspecified() }
    ]
  }
]

/** Envelopes of others, which Gantry never writes. */
const foreign = [
  // A running pull since Go's zero time; a rank of -1 in five bytes.
  "120f10011a0b088092b8c398feffffff01",
  "120620ffffffff0f",
  // Both members of the oneof; fields and members of later versions; numbers that mean nothing yet.
  "0a030a01781a061201721a0170",
  "2a02080132001a0d1201721a017020092a01783001",
  "22090a070a017810042863"
].map((hex) => new Uint8Array(Buffer.from(hex, "hex")))

const frames = [...messages.map(encodeMessage), ...foreign].map(encodeFrame)

/** Every frame for every reader, and a query and a batch in every situation. */
export const inputs: ReadonlyArray<Uint8Array> = [
  new Uint8Array(0),
  ...frames.flatMap((frame) => readers.map((reader) => format(frame, { reader }))),
  ...situations.flatMap((situation) =>
    [query, batch].map((message) => format(encodeFrame(encodeMessage(message)), situation, [1, 3, 7]))
  )
]
