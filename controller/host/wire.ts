/** The data types of SSH's wire format, RFC 4251, 5. */

/** `string`: its length in four bytes, then its bytes. */
export function wireBytes(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export function wireString(text: string): Buffer {
  return wireBytes(Buffer.from(text));
}

/** `mpint` of a positive number, most significant byte first: no needless zeros, but one where the highest bit is set. */
export function wireInteger(bytes: Buffer): Buffer {
  const start = bytes.findIndex((byte) => byte !== 0);
  if (start === -1) return wireBytes(Buffer.alloc(0));
  const digits = bytes.subarray(start);
  const isHigh = (digits[0] ?? 0) >= 0x80;
  return wireBytes(isHigh ? Buffer.concat([Buffer.from([0]), digits]) : digits);
}
