/** Small images from files that the test writes. */
import { Repository } from "@gantry/protocol"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as ImagePacker from "../src/demo/ImagePacker.ts"

export const repository = Repository.make("demo/app")

/** Bytes that gzip cannot shrink much, the same at every run. */
export const noise = (size: number, seed: number): Uint8Array => {
  let state = seed
  return Uint8Array.from({ length: size }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state >>> 24
  })
}

/** A directory with some files, of which each becomes a layer: `sizes` in bytes. */
export const layerSources = Effect.fnUntraced(function* (sizes: ReadonlyArray<number>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "gantry-test-" })
  return yield* Effect.forEach(
    sizes,
    Effect.fnUntraced(function* (size, index): Effect.fn.Return<ImagePacker.LayerSource, unknown, never> {
      const from = path.join(directory, `layer-${index}`)
      yield* fs.makeDirectory(path.join(from, "nested"), { recursive: true })
      yield* fs.writeFile(path.join(from, "nested", "noise"), noise(size, index + 1))
      yield* fs.writeFileString(path.join(from, "run.sh"), "#!/bin/sh\n", { mode: 0o755 })
      yield* fs.symlink("run.sh", path.join(from, "link"))
      return { title: `layer ${index}`, sources: [{ from, to: `opt/layer-${index}` }] }
    })
  )
})

/** An image layout with an image of layers of these sizes. */
export const packedImage = Effect.fnUntraced(function* (sizes: ReadonlyArray<number>) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "gantry-test-" })
  const layers = yield* layerSources(sizes)
  const image = yield* ImagePacker.pack({ directory, tag: "v1", layers, architecture: "amd64" })
  return { directory, image }
})
