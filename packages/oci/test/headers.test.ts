import { assert, describe, it } from "@effect/vitest"
import { Duration, Option } from "effect"
import { parseChallenges, parseContentLength, parseContentRange, parseRetryAfter } from "../src/internal/headers.ts"

const challenges = (header: string) =>
  parseChallenges(header).map(({ parameters, scheme }) => [scheme, Object.fromEntries(parameters)])

describe("WWW-Authenticate", () => {
  const token = { realm: "https://auth.example.com/token", service: "registry.example.com" }
  it.each([
    ["", []],
    ["Basic", [["basic", {}]]],
    ['Basic realm="Registry Realm"', [["basic", { realm: "Registry Realm" }]]],
    [
      'Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:a/b:pull,push"',
      [["bearer", { ...token, scope: "repository:a/b:pull,push" }]]
    ],
    ['BEARER Realm = "https://auth.example.com/token" , SERVICE=registry.example.com', [["bearer", token]]],
    [
      'Basic realm="a, Bearer realm=b", Bearer realm="https://auth.example.com/token", service="registry.example.com"',
      [
        ["basic", { realm: "a, Bearer realm=b" }],
        ["bearer", token]
      ]
    ],
    [
      'Negotiate YWJj==, Bearer realm="https://auth.example.com/token",service="registry.example.com", Digest',
      [
        ["negotiate", {}],
        ["bearer", token],
        ["digest", {}]
      ]
    ],
    ['Bearer realm="say \\"hi\\" \\\\ there"', [["bearer", { realm: 'say "hi" \\ there' }]]],
    ['Bearer realm=""', [["bearer", { realm: "" }]]],
    ["Bearer realm=https://auth.example.com/token,service=registry.example.com", [["bearer", token]]],
    [
      ", ,Bearer , , Basic",
      [
        ["bearer", {}],
        ["basic", {}]
      ]
    ],
    ['realm="of no scheme"', []],
    [
      'Bearer realm="never ends',
      [
        ["bearer", {}],
        ["realm", {}]
      ]
    ]
  ] as const)("%s", (header, expected) => {
    assert.deepStrictEqual(challenges(header), expected as never)
  })

  it("is read in linear time, whatever it is", () => {
    // Quadratic time would keep this going for minutes.
    for (const part of ['a="', "a=b ", 'a="\\', "a ", ",", "a=", "a b=="]) parseChallenges(part.repeat(100_000))
  })
})

describe("Content-Range", () => {
  const part = (first: number, total?: number) => Option.some({ first, total: Option.fromUndefinedOr(total) })
  it.each([
    ["bytes 5-9/10", part(5, 10)],
    ["bytes 0-0/1", part(0, 1)],
    [" BYTES 5-9/10 ", part(5, 10)],
    ["bytes 5-9/*", part(5)],
    ["bytes 9-5/10", Option.none()],
    ["bytes 5-10/10", Option.none()],
    ["bytes */10", Option.none()],
    ["bytes 5-9", Option.none()],
    ["items 5-9/10", Option.none()],
    ["bytes -5-9/10", Option.none()],
    ["bytes 5-9999999999999999/99999999999999999", Option.none()],
    ["", Option.none()]
  ] as const)("%s", (header, expected) => {
    assert.deepStrictEqual(parseContentRange(header), expected)
  })
})

describe("Content-Length", () => {
  it.each([
    ["0", Option.some(0)],
    ["123456789012", Option.some(123456789012)],
    [undefined, Option.none()],
    ["", Option.none()],
    ["-1", Option.none()],
    ["1e3", Option.none()],
    ["1, 1", Option.none()]
  ] as const)("%s", (header, expected) => {
    assert.deepStrictEqual(parseContentLength(header), expected)
  })
})

describe("Retry-After", () => {
  const now = Date.parse("2026-01-01T00:00:00Z")
  const seconds = (count: number) => Option.some(Duration.seconds(count))
  it.each([
    ["7", seconds(7)],
    ["0", seconds(0)],
    ["Thu, 01 Jan 2026 00:01:30 GMT", seconds(90)],
    ["Wed, 31 Dec 2025 23:59:00 GMT", seconds(0)],
    ["3601", seconds(3600)],
    ["99999999999999999999999999", seconds(3600)],
    ["Fri, 01 Jan 2100 00:00:00 GMT", seconds(3600)],
    [undefined, Option.none()],
    ["", Option.none()],
    ["-5", Option.none()],
    ["1.5", Option.none()],
    ["soon", Option.none()]
  ] as const)("%s", (header, expected) => {
    assert.deepStrictEqual(parseRetryAfter(header, now, Duration.hours(1)), expected)
  })
})
