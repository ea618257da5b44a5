import { assert, describe, it } from "@effect/vitest"
import { Digest, isRegistry, isRepository, OriginRef, Registry, Repository } from "@gantry/protocol"
import { Schema } from "effect"

const label = "a".repeat(63)

describe("Registry", () => {
  it.each([
    "localhost",
    "r",
    "registry.example.com",
    "registry.example.com:5000",
    "REGISTRY.Example.COM",
    "127.0.0.1",
    "127.0.0.1:5000",
    "[::1]",
    "[::1]:5000",
    "[2001:db8:0:0:0:0:0:1]:443",
    "xn--bcher-kva.example",
    "a-b.c--d",
    `${label}.example`,
    `${`${label}.`.repeat(3)}${"a".repeat(61)}:65535`
  ])("may be %s", (text) => {
    assert.isTrue(isRegistry(text))
    assert.isTrue(Schema.is(Registry)(text))
  })

  it.each([
    ["nothing", ""],
    ["a path upwards", "../../etc/passwd"],
    ["dots alone", ".."],
    ["a path", "registry.example.com/library"],
    ["a scheme", "https://registry.example.com"],
    ["credentials", "user:secret@registry.example.com"],
    ["a user", "user@registry.example.com"],
    ["a query", "registry.example.com?x"],
    ["a fragment", "registry.example.com#x"],
    ["a backslash", "registry\\example"],
    ["an escape", "registry%2eexample"],
    ["space", "registry example"],
    ["space behind it", "registry.example.com "],
    ["a line feed behind it", "registry.example.com\n"],
    ["a header behind it", "registry.example.com\r\nHost: evil"],
    ["a NUL", "registry\0.example"],
    ["an empty label", "registry..example"],
    ["a dot before it", ".example.com"],
    ["a dot behind it", "example.com."],
    ["a hyphen before it", "-example.com"],
    ["a hyphen behind it", "example-.com"],
    ["an underscore", "my_registry"],
    ["a label of 64 characters", `${label}a.example`],
    ["a port that is empty", "registry:"],
    ["a port that is no number", "registry:http"],
    ["a port of six digits", "registry:123456"],
    ["a port that does not exist", "registry:65536"],
    ["brackets around what is no IPv6 address", "[::::::]"],
    ["a negative port", "registry:-1"],
    ["two ports", "registry:1:2"],
    ["a port alone", ":5000"],
    ["an IPv6 address without brackets", "2001:db8::1"],
    ["an IPv6 address with a zone", "[fe80::1%eth0]"],
    ["open brackets", "[::1"],
    ["empty brackets", "[]"],
    ["text outside ASCII", "bücher.example"],
    ["more than a DNS name", `${"a.".repeat(130)}a`],
    ["a megabyte", "a".repeat(1_048_576)]
  ])("is not %s", (_, text) => {
    assert.isFalse(isRegistry(text))
    assert.isFalse(Schema.is(Registry)(text))
  })
})

describe("Repository", () => {
  it.each([
    "p",
    "nginx",
    "library/nginx",
    "a/b/c/d/e/f",
    "my_repo",
    "my__repo",
    "my-repo",
    "my---repo",
    "my.repo",
    "0/1",
    "a".repeat(255)
  ])("may be %s", (text) => {
    assert.isTrue(isRepository(text))
    assert.isTrue(Schema.is(Repository)(text))
  })

  it.each([
    ["nothing", ""],
    ["a path upwards", "../../etc/passwd"],
    ["a path upwards inside", "library/../nginx"],
    ["a dot alone", "."],
    ["an absolute path", "/library/nginx"],
    ["a path that ends in a slash", "library/nginx/"],
    ["an empty component", "library//nginx"],
    ["upper case", "library/Nginx"],
    ["a tag", "library/nginx:latest"],
    ["a digest", "library/nginx@sha256"],
    ["a query", "library/nginx?x=1"],
    ["a fragment", "library/nginx#x"],
    ["an escape", "library%2fnginx"],
    ["a backslash", "library\\nginx"],
    ["space", "library/ng inx"],
    ["a line feed behind it", "library/nginx\n"],
    ["a NUL", "library\0"],
    ["a separator before it", "-nginx"],
    ["a separator behind it", "nginx."],
    ["two dots", "my..repo"],
    ["three underscores", "my___repo"],
    ["mixed separators", "my-_repo"],
    ["text outside ASCII", "bücher"],
    ["256 characters", "a".repeat(256)],
    ["a megabyte that a naive pattern would chew on", `${"a-".repeat(524_288)}!`]
  ])("is not %s", (_, text) => {
    assert.isFalse(isRepository(text))
    assert.isFalse(Schema.is(Repository)(text))
  })
})

describe("OriginRef", () => {
  it("reads as one reference", () => {
    const ref = new OriginRef({
      registry: Registry.make("registry.example.com:5000"),
      repository: Repository.make("library/nginx"),
      digest: Digest.make(`sha256:${"a".repeat(64)}`)
    })
    assert.strictEqual(`${ref}`, `registry.example.com:5000/library/nginx@sha256:${"a".repeat(64)}`)
  })
})
