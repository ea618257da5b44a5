/**
 * Names and members that tests agree on; the same in every run.
 */
import * as NodeCrypto from "node:crypto"
import { Digest, Member, NodeId, PeerId, PleasePullRequest, Registry, Repository } from "@gantry/protocol"
import * as Option from "effect/Option"
import { base58btc } from "multiformats/bases/base58"

/** The digest of a text, as if it were a blob. */
export const digestOf = (text: string): Digest => Digest.make(`sha256:${NodeCrypto.hash("sha256", text, "hex")}`)

/** `sha256:` and 64 times `a`, as in the protocol's vectors. */
export const A: Digest = Digest.make(`sha256:${"a".repeat(64)}`)

/** `sha256:` and 64 times `1`, as in the protocol's vectors. */
export const ONE: Digest = Digest.make(`sha256:${"1".repeat(64)}`)

/** `sha256:` and 64 times `2`, as in the protocol's vectors. */
export const TWO: Digest = Digest.make(`sha256:${"2".repeat(64)}`)

/** The Ed25519 seed of the `index`-th identity: 32 bytes, for a host that must prove it. */
export const seedOf = (index: number): Uint8Array => {
  const seed = Buffer.alloc(32)
  seed.writeUInt32BE(index, 28)
  return new Uint8Array(seed)
}

/** What comes before the seed in a PKCS #8 private key of Ed25519. */
const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex")

/** An identity multihash of 36 bytes: a libp2p public key of type Ed25519 with 32 bytes of data. */
const peerIdPrefix = Buffer.from("00240801" + "1220", "hex")

/** The peer id of the `index`-th identity, which has the key of {@link seedOf}. */
export const peerIdOf = (index: number): PeerId => {
  const key = Buffer.concat([pkcs8Prefix, seedOf(index)])
  const privateKey = NodeCrypto.createPrivateKey({ key, format: "der", type: "pkcs8" })
  const publicKey = NodeCrypto.createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(-32)
  return PeerId.make(base58btc.baseEncode(Buffer.concat([peerIdPrefix, publicKey])))
}

/** The node id of the `index`-th member, `node-0` and so on as in the protocol's vectors. */
export const nodeIdOf = (index: number): NodeId => NodeId.make(`node-${index}`)

/** The `index`-th member, with the peer id of the same index; further fields on request. */
export const memberOf = (index: number, fields: Partial<ConstructorParameters<typeof Member>[0]> = {}): Member =>
  new Member({
    nodeId: nodeIdOf(index),
    peerId: Option.some(peerIdOf(index)),
    addresses: [],
    contentAddress: Option.none(),
    zone: Option.none(),
    ...fields
  })

/** The first `count` members. */
export const members = (count: number): ReadonlyArray<Member> =>
  Array.from({ length: count }, (_, index) => memberOf(index))

/** The registry that requests of tests name. */
export const registry: Registry = Registry.make("registry.example.com")

/** The repository that requests of tests name. */
export const repository: Repository = Repository.make("library/nginx")

/** A request for digests of {@link repository}, as layers if nothing else is said. */
export const pleasePull = (
  digests: ReadonlyArray<Digest>,
  kind: PleasePullRequest["kind"] = "layer"
): PleasePullRequest => new PleasePullRequest({ registry, repository, kind, digests })
