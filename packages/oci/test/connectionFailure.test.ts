import { assert, describe, it } from "@effect/vitest"
import { describe as describeFailure, isBroken, isOwnFailure, ProxyFailure } from "../src/internal/connectionFailure.ts"

const failed = (code: string, message = code) => Object.assign(new Error(message), { code })
const wrapped = (cause: unknown) => new Error("GET https://storage.example.com/?signature", { cause })
const tried = (...codes: ReadonlyArray<string>) => new AggregateError(codes.map((code) => failed(code)))

describe("a failed connection", () => {
  it.each([
    ["ENETUNREACH", true],
    ["EHOSTUNREACH", true],
    ["ENETDOWN", true],
    ["EAI_AGAIN", true],
    ["EADDRNOTAVAIL", true],
    ["EMFILE", true],
    ["EPERM", true],
    ["ENOTFOUND", false],
    ["ECONNREFUSED", false],
    ["ECONNRESET", false],
    ["ETIMEDOUT", false],
    ["UND_ERR_CONNECT_TIMEOUT", false],
    ["CERT_HAS_EXPIRED", false]
  ])("with %s is this node's own fault: %s", (code, expected) => {
    assert.strictEqual(isOwnFailure(failed(code)), expected)
    assert.strictEqual(isOwnFailure(wrapped(wrapped(failed(code)))), expected)
  })

  it("to several addresses is this node's own fault if all of them are out of its reach", () => {
    assert.isTrue(isOwnFailure(wrapped(tried("ENETUNREACH", "EHOSTUNREACH"))))
    assert.isFalse(isOwnFailure(tried("ENETUNREACH", "ECONNREFUSED")))
    assert.isFalse(isOwnFailure(new AggregateError([])))
    assert.isFalse(isOwnFailure(undefined))
  })

  it("is described by its innermost cause, and by that of the address that could be reached", () => {
    assert.strictEqual(describeFailure(wrapped(tried("ENETUNREACH", "ECONNREFUSED"))), "ECONNREFUSED")
    assert.strictEqual(describeFailure(failed("ECONNREFUSED", "")), "ECONNREFUSED")
    assert.strictEqual(describeFailure("a word"), "a word")
  })

  it("to a proxy names the proxy, and none of its secrets", () => {
    const proxy = new URL("http://me:secret@proxy.example.com:3128")
    const error = wrapped(new ProxyFailure(proxy, wrapped(failed("ECONNREFUSED", "connect ECONNREFUSED"))))
    assert.isTrue(isOwnFailure(error))
    assert.strictEqual(describeFailure(error), "the proxy proxy.example.com:3128: connect ECONNREFUSED")
  })

  it("was a connection if it broke", () => {
    for (const code of ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"]) assert.isTrue(isBroken(wrapped(failed(code))))
    for (const code of ["ECONNREFUSED", "ENETUNREACH", "ENOTFOUND"]) assert.isFalse(isBroken(wrapped(failed(code))))
  })

  it("that is its own cause comes to an end", () => {
    const error = new Error("round")
    error.cause = error
    assert.strictEqual(describeFailure(error), "round")
  })
})
