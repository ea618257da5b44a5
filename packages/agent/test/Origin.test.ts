import * as Net from "node:net"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import { RegistryClient } from "@gantry/oci"
import { Registry } from "@gantry/protocol"
import { ConfigProvider, Effect, FileSystem, Layer } from "effect"
import * as Origin from "../src/demo/Origin.ts"
import * as Screen from "../src/demo/Screen.ts"
import { repository } from "./fixtures.ts"

/** A server that hangs up on everybody, and the first byte of all that it was sent. */
const serveNothing = Effect.gen(function* () {
  const first: Array<number | undefined> = []
  const server = Net.createServer((socket) => {
    socket.on("error", () => {})
    socket.once("data", (data) => {
      first.push(data[0])
      socket.destroy()
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )
  return { first, port: (server.address() as Net.AddressInfo).port }
})

/** The first byte of a handshake of TLS. */
const handshake = 0x16

describe("Origin.external", () => {
  layer(NodeServices.layer)((it) => {
    it.effect.each([
      ["https", false, handshake],
      ["http", true, "H".charCodeAt(0)],
      ["http", undefined, "H".charCodeAt(0)]
    ] as const)("asks a registry on this machine over %s if told %s", ([, plainHttp, byte]) =>
      Effect.gen(function* () {
        const { first, port } = yield* serveNothing
        const files = yield* FileSystem.FileSystem
        const home = yield* files.makeTempDirectoryScoped()
        const tag = RegistryClient.Tag.make("v1")
        yield* Effect.flip(
          Origin.external({ registry: Registry.make(`localhost:${port}`), repository, tag, plainHttp })
        ).pipe(
          Effect.provide(
            Layer.mergeAll(
              Screen.layer("stderr"),
              ConfigProvider.layer(ConfigProvider.fromEnv({ env: { DOCKER_CONFIG: home } }))
            )
          )
        )
        assert.strictEqual(first[0], byte)
      })
    )
  })
})
