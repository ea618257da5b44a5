import { Coord, CoordClient, Members, Pump, Store } from "@gantry/coord"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { type Digest, type OriginRef, PleasePullRequest, Registry, Repository } from "@gantry/protocol"
import { Context, Effect, Layer } from "effect"

/** Your blobs: a directory, a database, containerd. */
class Blobs extends Context.Service<Blobs, Set<Digest>>()("app/Blobs") {
  static readonly layer = Layer.sync(Blobs, () => new Set())
}

/** Your way to the origin. */
export class Origin extends Context.Service<Origin, (ref: OriginRef) => Effect.Effect<Digest>>()("app/Origin") {}

const store = Layer.effect(
  Store.Store,
  Effect.map(Blobs, (blobs) => ({ has: (digest) => Effect.sync(() => blobs.has(digest)) }))
)

/** Answers at once, and fetches in the background. A fetch of more than 30 seconds reports the bytes as they come. */
const pump = Pump.layerBackground({
  fetch: Effect.fnUntraced(function* ({ ref }) {
    const [blobs, origin] = yield* Effect.all([Blobs, Origin])
    blobs.add(yield* origin(ref))
  })
})

/** A node, but for its transport, its members and its origin. */
export const node = Coord.layer({ pump }).pipe(Layer.provide(store), Layer.provide(Blobs.layer))

/** The transport of a real node: TCP, Noise and Yamux, with an identity kept in a file. */
export const tcp = (options: { readonly listen: string; readonly identity: string }) =>
  Libp2pTransport.layer.pipe(
    Layer.provideMerge(Host.layer({ listen: [options.listen] })),
    Layer.provide(Identity.layer(options.identity))
  )

/** Asks the member that ranks best for a digest to pull it. */
export const askBest = Effect.fn("askBest")(function* (digest: Digest) {
  const members = yield* Members.Members
  const [best = members.self] = (yield* members.view).best(digest, 1)
  const origin = { registry: Registry.make("registry.example.com"), repository: Repository.make("library/app") }
  const request = new PleasePullRequest({ ...origin, kind: "layer", digests: [digest] })
  return yield* CoordClient.CoordClient.use((client) => client.pleasePull(best, request))
})
