import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as NetAddress from "effect/net/NetAddress"
import * as ContentAddress from "../src/internal/contentAddress.ts"

const v4 = (address: string, internal = false) => ({ address, internal })

const loopback = { lo: [v4("127.0.0.1", true), v4("::1", true)] }
const both = { ...loopback, eth0: [v4("fe80::1"), v4("2001:db8::7"), v4("169.254.3.4"), v4("10.0.0.7")] }
const ipv6 = { ...loopback, eth0: [v4("fe80::1"), v4("2001:db8::7")] }

const published = (host: string, interfaces: ContentAddress.Interfaces) =>
  Result.getOrElse(
    ContentAddress.published(NetAddress.inetAddressFromIpStringUnsafe(host, 5001), interfaces),
    (detail) => `none: ${detail}`
  )

describe("the address of blobs", () => {
  it("is what is bound, unless that is all interfaces", () => {
    assert.strictEqual(published("127.0.0.1", both), "127.0.0.1:5001")
    assert.strictEqual(published("10.0.0.7", loopback), "10.0.0.7:5001")
    assert.strictEqual(published("2001:db8::7", loopback), "[2001:db8::7]:5001")
  })

  it("is that of an interface which others can reach, IPv4 before IPv6", () => {
    assert.strictEqual(published("0.0.0.0", both), "10.0.0.7:5001")
    assert.strictEqual(published("::", both), "10.0.0.7:5001")
    assert.strictEqual(published("::", ipv6), "[2001:db8::7]:5001")
  })

  it("is none where no interface is reached over what is bound", () => {
    assert.match(published("0.0.0.0", ipv6), /^none: /)
    assert.match(published("::", loopback), /^none: /)
  })

  it("is believed of a member if it names one machine and a port", () => {
    for (const address of [
      "10.0.0.7:5001",
      "127.0.0.1:80",
      "[2001:db8::7]:5001",
      "node-1:5001",
      "node_1.example.com:1"
    ]) {
      assert.deepStrictEqual(ContentAddress.parse(address), Result.succeed(address))
    }
    for (const address of [
      "0.0.0.0:5001",
      "[::]:5001",
      "[0:0::0]:5001",
      "[::ffff:0.0.0.0]:5001",
      "0:5001",
      "10.0.0.7:0",
      "10.0.0.7",
      "10.0.0.7:65536",
      "10.0.0.7:5001/path",
      "node-1:5001?",
      "user@node-1:5001",
      "[fe80::1%eth0]:5001",
      "224.0.0.1:5001",
      ""
    ]) {
      assert.isTrue(Result.isFailure(ContentAddress.parse(address)), address)
    }
  })
})
