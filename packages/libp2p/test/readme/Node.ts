import * as Coord from "@gantry/coord"
import { Host, Identity, Libp2pTransport } from "@gantry/libp2p"
import { type Digest, type OriginRef, PleasePullRequest, Registry, Repository } from "@gantry/protocol"
import { Context, Effect, Layer, Option, Scope } from "effect"

/** Your blobs: a directory, a database, containerd. */
class Blobs extends Context.Service<Blobs, Set<Digest>>()("app/Blobs") {
  static readonly layer = Layer.sync(Blobs, () => new Set())
}

/** Your way to the origin. */
export class Origin extends Context.Service<Origin, (ref: OriginRef) => Effect.Effect<Digest>>()("app/Origin") {}

const store = Layer.effect(
  Coord.Store.Store,
  Effect.map(Blobs, (blobs) => ({ has: (digest) => Effect.sync(() => blobs.has(digest)) }))
)

/** Answers at once; the pull goes on in the background, in the pump's own scope. */
const pump = Layer.effect(
  Coord.Pump.Pump,
  Effect.gen(function* () {
    const [blobs, inflight, fetch, scope] = yield* Effect.all([Blobs, Coord.Inflight.Inflight, Origin, Effect.scope])
    const pull = Effect.fnUntraced(function* ({ kind, ref }: Coord.Pump.PullRequest) {
      const running = yield* Scope.fork(scope)
      const { entry, owned } = yield* Scope.provide(inflight.start(ref.digest, kind, Option.none()), running)
      const work = owned ? Effect.map(fetch(ref), (digest) => blobs.add(digest)) : Effect.void
      const claimed = Effect.onExit(work, (exit) => Scope.close(running, exit))
      yield* Effect.forkIn(claimed, scope)
      return owned ? Coord.Pump.PumpResult.Started(entry) : Coord.Pump.PumpResult.AlreadyPulling(entry)
    }, Effect.uninterruptible)
    return { pull }
  })
)

/** A node, but for its transport, its members and its origin. */
export const node = Layer.mergeAll(Coord.CoordServer.layer, Coord.CoordClient.layer).pipe(
  Layer.provide([store, pump, Coord.PeerResolver.layerMembers, Coord.NegativeCache.layer(), Coord.CoordConfig.layer()]),
  Layer.provide([Coord.Inflight.layer, Blobs.layer]),
  Layer.provide(Coord.Metrics.layer)
)

/** The transport of a real node: TCP, Noise and Yamux, with an identity kept in a file. */
export const tcp = (options: { readonly listen: string; readonly identity: string }) =>
  Libp2pTransport.layer.pipe(
    Layer.provideMerge(Host.layer({ listen: [options.listen] })),
    Layer.provide(Identity.layer(options.identity))
  )

/** Asks the member that ranks best for a digest to pull it. */
export const askBest = Effect.fn("askBest")(function* (digest: Digest) {
  const members = yield* Coord.Members.Members
  const [best = members.self] = (yield* members.view).best(digest, 1)
  const origin = { registry: Registry.make("registry.example.com"), repository: Repository.make("library/app") }
  const request = new PleasePullRequest({ ...origin, kind: "layer", digests: [digest] })
  return yield* Coord.CoordClient.CoordClient.use((client) => client.pleasePull(best, request))
})
