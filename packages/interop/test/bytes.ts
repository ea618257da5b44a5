/**
 * Protobuf by hand, for what no program of this version would send.
 */

/** A number as an unsigned varint. */
export const varint = (value: number): Uint8Array => {
  const bytes: Array<number> = []
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) + 0x80)
  return Uint8Array.of(...bytes, rest)
}

export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => Uint8Array.from(Buffer.concat(parts))

/** A field that holds a number. */
export const numberField = (field: number, value: number): Uint8Array => concat(varint(field * 8), varint(value))

/** A field that holds bytes, text or a message. */
export const bytesField = (field: number, value: Uint8Array | string): Uint8Array => {
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value
  return concat(varint(field * 8 + 2), varint(bytes.length), bytes)
}

/** A frame around a body. */
export const frame = (body: Uint8Array): Uint8Array => concat(varint(body.length), body)
