/**
 * How the two ends of a stream select its protocol, by multistream-select:
 * the dialer proposes one, and the peer agrees by saying the same. Where only
 * one is proposed its name may travel together with the first bytes, which
 * saves a round trip.
 */
import { setImmediate } from "node:timers"
import type { Stream, StreamMessageEvent } from "@libp2p/interface"

/**
 * What a peer makes of a proposal. `Agreed`: it speaks the protocol, and has
 * sent these bytes since. `Refused`: it does not. `Ended`: it ended the stream.
 * `Lost`: the connection ended.
 */
export type Selection =
  | { readonly _tag: "Agreed"; readonly received: Uint8Array }
  | { readonly _tag: "Refused" | "Ended" | "Lost"; readonly cause: Error }

const line = (text: string) => [text.length + 1, ...Buffer.from(`${text}\n`)]

/** What each side says if both speak the protocol. Its id is ASCII, and shorter than 127 bytes. */
export const proposalOf = (protocol: string): Uint8Array =>
  Uint8Array.from([...line("/multistream/1.0.0"), ...line(protocol)])

/**
 * Calls back once the peer has made up its mind about a proposal that was sent
 * in the stream, which is left as it is; unless what it gives is called before.
 */
export const awaitSelection = (
  stream: Stream,
  proposal: Uint8Array,
  onSelection: (selection: Selection) => void
): (() => void) => {
  let agreed = 0
  let isDone = false
  const stop = () => {
    isDone = true
    stream.removeEventListener("message", hear)
    stream.removeEventListener("remoteCloseWrite", end)
    stream.removeEventListener("close", close)
  }
  const select = (selection: Selection) => {
    if (isDone) return
    stop()
    onSelection(selection)
  }
  const hear = ({ data }: StreamMessageEvent) => {
    const bytes = data.subarray()
    let offset = 0
    for (; offset < bytes.length && agreed < proposal.length; offset++, agreed++) {
      if (bytes[offset] !== proposal[agreed]) {
        return select({ _tag: "Refused", cause: new Error(`the peer does not agree to ${stream.protocol}`) })
      }
    }
    if (agreed === proposal.length) select({ _tag: "Agreed", received: bytes.subarray(offset) })
  }
  const close = ({ error }: Event & { readonly error?: Error }) =>
    error?.name === "StreamResetError"
      ? select({ _tag: "Ended", cause: error })
      : select({ _tag: "Lost", cause: error ?? new Error("the connection ended") })
  const end = () => {
    // A peer that closes a connection ends its streams first.
    setImmediate(() => {
      if (stream.status === "open") {
        select({ _tag: "Ended", cause: new Error("the peer ended the stream before it agreed to the protocol") })
      }
    })
  }
  stream.addEventListener("message", hear)
  stream.addEventListener("remoteCloseWrite", end)
  stream.addEventListener("close", close)
  return stop
}
