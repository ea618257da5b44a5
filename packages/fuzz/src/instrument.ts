/**
 * Loaded before everything else: makes the code under fuzzing count how often
 * each of its branches, statements and functions runs.
 */
import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"
import { createInstrumenter } from "istanbul-lib-instrument"

/** Frames, envelopes, server and client, and of protobuf what reads and writes. */
const watched =
  /\/packages\/(?:protocol|coord)\/src\/|\/@bufbuild\/protobuf\/dist\/esm\/(?:from-binary|to-binary|reflect\/|wire\/)/

const instrumenter = createInstrumenter({ esModules: true, parserPlugins: ["typescript"] })

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context)
    if (!watched.test(url) || loaded.source === undefined) return loaded
    const code = typeof loaded.source === "string" ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString()
    return { ...loaded, source: instrumenter.instrumentSync(code, fileURLToPath(url)) }
  }
})
