/**
 * What the demo's image holds: this program itself, as it is installed here.
 */
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import * as Path from "effect/Path"
import type { LayerSource } from "./ImagePacker.ts"

/** Node, the libraries and Gantry's own packages, each a layer. Every file is there after `npm ci`. */
export const layers: Effect.Effect<ReadonlyArray<LayerSource>, never, Path.Path> = Effect.gen(function* () {
  const path = yield* Path.Path
  const modules = path.dirname(path.dirname(fileURLToPath(import.meta.resolve("effect/package.json"))))
  const packages = path.resolve(fileURLToPath(import.meta.url), "../../../..")

  const libraries = (title: string, ...names: ReadonlyArray<string>): LayerSource => ({
    title,
    sources: names.map((name) => ({ from: path.join(modules, name), to: `app/node_modules/${name}` }))
  })

  return [
    { title: "node", sources: [{ from: process.execPath, to: "usr/local/bin/node" }] },
    libraries("effect", "effect"),
    libraries("platform", "@effect/platform-node", "@effect/platform-node-shared", "undici"),
    libraries("libp2p", "libp2p", "@libp2p", "@chainsafe"),
    libraries("formats", "@multiformats", "multiformats", "@bufbuild/protobuf", "@noble", "uint8arrays"),
    {
      title: "gantry",
      sources: ["agent", "coldstart", "coord", "libp2p", "oci", "protocol"].flatMap((name) =>
        ["package.json", "src"].map((file) => ({
          from: path.join(packages, name, file),
          to: `app/node_modules/@gantry/${name}/${file}`
        }))
      )
    }
  ]
})
