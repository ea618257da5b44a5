import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { ColdStart } from "@gantry/coldstart"
import { Members } from "@gantry/coord"
import * as Node from "@gantry/node/Node"
import { BlobStore } from "@gantry/oci"
import { Member, NodeId, OriginRef, Registry, Repository } from "@gantry/protocol"
import { ConfigProvider, Context, Effect, FileSystem, Layer, Option } from "effect"

const blob = new TextEncoder().encode("the bytes of a layer")
const ref = new OriginRef({
  registry: Registry.make("registry.example.com"),
  repository: Repository.make("app"),
  digest: BlobStore.digestOf(blob)
})

/** A proxy that answers everything itself, and what it was asked for. */
const serveProxy = Effect.gen(function* () {
  const asked: Array<string> = []
  const server = Http.createServer(({ url = "" }, response) => {
    asked.push(url)
    response.end(blob)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
})

it.live("asks registries through the proxy of the environment, and peers never", () =>
  Effect.gen(function* () {
    const proxy = yield* serveProxy
    const files = yield* FileSystem.FileSystem
    const directory = yield* files.makeTempDirectoryScoped()
    const environment = ConfigProvider.layer(
      ConfigProvider.fromEnv({ env: { HTTP_PROXY: proxy.url, DOCKER_CONFIG: directory } })
    )
    const start = (name: string) =>
      Layer.build(
        Layer.fresh(
          Node.layer({
            identityFile: `${directory}/${name}.key`,
            listen: ["/ip4/127.0.0.1/tcp/0"],
            registries: { upstreams: { [ref.registry]: { plainHttp: true } } },
            coldStart: { fallbackDelay: "1 millis", deadline: "2 seconds" }
          }).pipe(
            Layer.provideMerge([BlobStore.layerMemory(), Members.layerDynamic(NodeId.make(name))]),
            Layer.provide(environment)
          )
        )
      )
    const [first, second] = [yield* start("first"), yield* start("second")]
    const members = yield* Effect.forEach([first, second], (node) => Effect.provide(Node.self, node))
    const join = (listed: ReadonlyArray<Member>) =>
      Effect.forEach([first, second], (node) => Context.get(node, Members.Membership).set(listed))
    const obtain = (node: typeof first) =>
      Context.get(node, ColdStart.ColdStart).obtain({ ref, kind: "layer", size: Option.none() })

    yield* join(members.slice(0, 1))
    assert.strictEqual((yield* obtain(first))._tag, "Origin")
    const viaProxy = [`http://${ref.registry}/v2/${ref.repository}/blobs/${ref.digest}`]
    assert.deepStrictEqual(proxy.asked, viaProxy)

    // A proxy would be asked for a name that nobody knows, and answer.
    const elsewhere = (member: Member) => new Member({ ...member, contentAddress: Option.some("peer.invalid:5001") })
    yield* join(members.map(elsewhere))
    yield* Effect.exit(obtain(second))
    assert.deepStrictEqual([...new Set(proxy.asked)], viaProxy)
  }).pipe(Effect.provide(NodeServices.layer))
)
