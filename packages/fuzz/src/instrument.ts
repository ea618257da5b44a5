/**
 * Loaded before everything else: makes the code under fuzzing count how often
 * each of its branches, statements and functions runs.
 */
import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"
import { createInstrumenter } from "istanbul-lib-instrument"

/** What is on the way from bytes to a reply: server, client, frames and envelopes, and of protobuf what reads and writes. */
const watched = new RegExp(
  [
    "/packages/coord/src/(?:CoordServer|CoordClient|Timers|internal/\\w+)\\.ts$",
    "/packages/protocol/src/(?:Frame|Codec|Timestamp|Digest|OriginRef)\\.ts$",
    "/@bufbuild/protobuf/dist/esm/(?:from-binary|to-binary|proto-int64|wire/(?:binary-encoding|varint)|reflect/(?:reflect|unsafe))\\.js$"
  ].join("|")
)

const instrumenter = createInstrumenter({ esModules: true, parserPlugins: ["typescript"] })

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context)
    if (!watched.test(url) || loaded.source === undefined) return loaded
    const code = typeof loaded.source === "string" ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString()
    return { ...loaded, source: instrumenter.instrumentSync(code, fileURLToPath(url)) }
  }
})
