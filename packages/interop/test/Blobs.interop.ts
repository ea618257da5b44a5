/**
 * Blobs between our nodes and clients and servers in Go, over h2c as the Go
 * agents have it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Members, Transfer } from "@gantry/coord"
import { BlobEndpoint, BlobStore, PeerTransfer } from "@gantry/oci"
import { type Digest, Member, NodeId } from "@gantry/protocol"
import { Context, Effect, Layer, Option, type Scope } from "effect"
import { isBuilt } from "./ForeignPeer.ts"
import * as GoBlobs from "./GoBlobs.ts"

/** Bytes that repeat only after 64 KiB, so that a part in the wrong place shows. */
const bytesOf = (length: number) => Uint8Array.from({ length }, (_, index) => index ^ (index >> 8))

const blob = bytesOf(300_000)
const digest = BlobStore.digestOf(blob)
const absent = BlobStore.digestOf(bytesOf(10))
const manifestType = "application/vnd.oci.image.manifest.v1+json"
const manifest = new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType: manifestType, layers: [] }))
const manifestDigest = BlobStore.digestOf(manifest)

const pathOf = (of: Digest, folder: "blobs" | "manifests" = "blobs", name = "_") => `/v2/${name}/${folder}/${of}`

/** Our endpoint, and how Go asks it. */
const endpoint = Effect.fnUntraced(function* (client: GoBlobs.Fetch["client"], options?: BlobEndpoint.Options) {
  const go = yield* GoBlobs.spawn
  const blobs = BlobStore.layerMemory([blob, manifest])
  const context = yield* Layer.build(Layer.fresh(BlobEndpoint.layer(options)).pipe(Layer.provide(blobs)))
  const { address } = Context.get(context, BlobEndpoint.BlobEndpoint)
  return (path: string, headers: Record<string, string> = {}, method: GoBlobs.Fetch["method"] = "GET") =>
    go.fetch({ client, method, url: `http://${address}${path}`, headers: { "Gantry-Mirrored": "1", ...headers } })
})

describe.runIf(isBuilt("go-blobs"))("a client in Go", () => {
  for (const client of ["x/net", "net/http"] as const) {
    describe(client, () => {
      it.live("gets a blob and a manifest from our endpoint, whatever the repository", () =>
        Effect.gen(function* () {
          const ask = yield* endpoint(client)
          for (const name of ["_", "library/nginx", "Odd", ""]) {
            const got = yield* ask(pathOf(digest, "blobs", name))
            assert.deepStrictEqual([got.status, got.proto, got.length, got.digest], [200, "HTTP/2.0", 300_000, digest])
            assert.strictEqual(got.headers["docker-content-digest"], digest)
          }
          const got = yield* ask(pathOf(manifestDigest, "manifests"))
          assert.deepStrictEqual([got.digest, got.headers["content-type"]], [manifestDigest, manifestType])
        })
      )

      it.live("learns from HEAD what a blob is, without its bytes", () =>
        Effect.gen(function* () {
          const ask = yield* endpoint(client)
          const got = yield* ask(pathOf(digest), {}, "HEAD")
          assert.deepStrictEqual([got.status, got.headers["content-length"], got.length], [200, "300000", 0])
          assert.strictEqual((yield* ask(pathOf(absent), {}, "HEAD")).status, 404)
        })
      )

      it.live("gets a part of a blob, and is told where there is none", () =>
        Effect.gen(function* () {
          const ask = yield* endpoint(client)
          const got = yield* ask(pathOf(digest), { Range: "bytes=100000-199999" })
          assert.deepStrictEqual([got.status, got.headers["content-range"]], [206, "bytes 100000-199999/300000"])
          assert.strictEqual(got.digest, BlobStore.digestOf(blob.subarray(100_000, 200_000)))
          const rest = yield* ask(pathOf(digest), { Range: "bytes=200000-" })
          assert.strictEqual(rest.digest, BlobStore.digestOf(blob.subarray(200_000)))
          const beyond = yield* ask(pathOf(digest), { Range: "bytes=300000-" })
          assert.deepStrictEqual([beyond.status, beyond.headers["content-range"]], [416, "bytes */300000"])
        })
      )

      it.live("is told that a blob is absent, and that it has to say it is a peer", () =>
        Effect.gen(function* () {
          const ask = yield* endpoint(client)
          assert.strictEqual((yield* ask(pathOf(absent))).status, 404)
          assert.strictEqual((yield* ask(pathOf(digest), { "Gantry-Mirrored": "0" })).status, 400)
        })
      )

      it.live("is told that we are busy by 429, never by 503, and gets the blob once we are not", () =>
        Effect.gen(function* () {
          const ask = yield* endpoint(client, { maxConcurrent: 1 })
          const answers = yield* Effect.replicateEffect(ask(pathOf(digest)), 30, { concurrency: 30 })
          const refused = answers.filter(({ status }) => status !== 200)
          for (const { headers, status } of refused)
            assert.deepStrictEqual([status, headers["retry-after"]], [429, "1"])
          for (const { digest: got, status } of answers) if (status === 200) assert.strictEqual(got, digest)
          assert.isNotEmpty(refused)
          assert.strictEqual((yield* ask(pathOf(digest))).status, 200)
        })
      )
    })
  }
})

const memberAt = (name: string, address: string) =>
  new Member({
    nodeId: NodeId.make(name),
    peerId: Option.none(),
    addresses: [],
    contentAddress: Option.some(address),
    zone: Option.none()
  })

/** Has our node fetch the blob from holders. */
const fetch = (...holders: ReadonlyArray<Member>) =>
  Transfer.Transfer.use((transfer) =>
    transfer.fetch({ digest, kind: "layer", size: Option.some(blob.length), holders })
  )

const isStored = BlobStore.BlobStore.use((store) => store.verify(digest))

const receiving = <A, E>(test: Effect.Effect<A, E, BlobStore.BlobStore | Transfer.Transfer | Scope.Scope>) =>
  Effect.provide(
    test,
    PeerTransfer.layer({ pause: "1 millis" }).pipe(
      Layer.provide(Members.layerNone),
      Layer.provideMerge(Layer.fresh(BlobStore.layerMemory()))
    )
  )

describe.runIf(isBuilt("go-blobs"))("a server in Go", () => {
  for (const protocols of ["h2c", "both"] as const) {
    describe(protocols === "h2c" ? "that speaks h2c only" : "that speaks HTTP/1.1 too", () => {
      const proto = protocols === "h2c" ? "HTTP/2.0" : "HTTP/1.1"

      it.live("delivers a blob to our node", () =>
        Effect.gen(function* () {
          const go = yield* GoBlobs.spawn
          const server = yield* go.serve({ protocols, blob, does: "deliver" })
          yield* fetch(memberAt("go", server.address))
          assert.isTrue(yield* isStored)
          assert.deepStrictEqual(yield* server.asked, [
            { proto, path: pathOf(digest, "blobs", "gantry"), mirrored: "1" }
          ])
        }).pipe(receiving)
      )

      it.live("is busy, or lacks the blob, and our node gets it elsewhere", () =>
        Effect.gen(function* () {
          const go = yield* GoBlobs.spawn
          const busy = yield* go.serve({ protocols, blob, does: "busy" })
          const lacking = yield* go.serve({ protocols, blob, does: "absent" })
          const holders = [memberAt("busy", busy.address), memberAt("lacking", lacking.address)]
          const attempts = yield* fetch(...holders).pipe(
            Effect.as([]),
            Effect.catchReason("TransferError", "NoHolder", ({ attempts }) => Effect.succeed(attempts))
          )
          assert.deepStrictEqual(
            attempts.map(({ _tag }) => _tag),
            ["Busy", "Absent"]
          )
          const server = yield* go.serve({ protocols, blob, does: "deliver" })
          yield* fetch(...holders, memberAt("go", server.address))
          assert.isTrue(yield* isStored)
        }).pipe(receiving)
      )

      it.live("breaks off, and our node gets the rest from another", () =>
        Effect.gen(function* () {
          const go = yield* GoBlobs.spawn
          const cut = yield* go.serve({ protocols, blob, does: "cut", cutAfter: 100_000 })
          const server = yield* go.serve({ protocols, blob, does: "deliver" })
          const { holder } = yield* fetch(memberAt("cut", cut.address), memberAt("go", server.address))
          assert.strictEqual(holder, "go")
          assert.isTrue(yield* isStored)
          const [{ range } = {}, ...more] = yield* server.asked
          assert.isEmpty(more)
          // What was on its way when a stream was reset is lost.
          assert.match(`${range}`, protocols === "both" ? /^bytes=100000-$/ : /^(bytes=\d{1,6}-|undefined)$/)
        }).pipe(receiving)
      )
    })
  }
})
