import { Effect, FileSystem, Option } from "effect"
import * as Configuration from "../../src/config/Configuration.ts"
import type { Key } from "../../src/config/Settings.ts"

/** A configuration that is as short as can be. */
export const minimal = "upstream_registries: [{name: docker.io, endpoint: https://registry-1.docker.io}]\n"

/** Writes a file into a directory of the test's own. */
export const writeConfig = Effect.fnUntraced(function* (text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = `${yield* fs.makeTempDirectoryScoped()}/config.yaml`
  yield* fs.writeFileString(path, text)
  return path
})

/** Sources that consist of one file and, if need be, of more. */
export const sourcesOf = (
  path: string,
  more: { readonly environment?: Record<string, string>; readonly flags?: Partial<Record<Key, string>> } = {}
): Configuration.Sources => ({ file: Option.some(path), environment: {}, flags: {}, ...more })

/** Reads a configuration of this text. */
export const load = Effect.fnUntraced(function* (text: string, more?: Parameters<typeof sourcesOf>[1]) {
  return yield* Configuration.load(sourcesOf(yield* writeConfig(text), more))
})
