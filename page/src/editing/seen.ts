/**
 * The digest of what is seen here, by the same rule as the server's (delineate/review/seen.py): a signature is only
 * given where both agree.
 */

import type { Geometry, VoxelStore } from "../contract";

const RULE = "delineate seen 1";

export interface Seen {
  /** Digest of the scan's files, as the server says it. */
  scan: string;
  geometry: Geometry;
  /** By number. */
  layers: ReadonlyMap<number, Pick<VoxelStore, "data">>;
}

/** 64 hex digits. All labels must have arrived. */
export async function seenDigest({ scan, geometry, layers }: Seen): Promise<string> {
  const { shape, affine } = geometry;
  const parts = [new TextEncoder().encode(RULE), fromHex(scan), words(shape), numbers(affine.flat())];
  for (const [layer, { data }] of [...layers].sort(([one], [other]) => one - other)) {
    parts.push(words([layer, data.BYTES_PER_ELEMENT, shape[2]]));
    const plane = shape[0] * shape[1];
    // Slice after slice: all at once would be copied all at once.
    for (let k = 0; k < shape[2]; k++) parts.push(await sha256(data.slice(k * plane, (k + 1) * plane)));
  }
  const whole = new Uint8Array(await new Blob(parts).arrayBuffer());
  return [...(await sha256(whole))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function sha256(bytes: BufferSource): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

function fromHex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** As u64, little-endian. */
function words(values: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, n) => bytes.setBigUint64(8 * n, BigInt(value), true));
  return new Uint8Array(bytes.buffer);
}

/** As float64, little-endian. */
function numbers(values: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, n) => bytes.setFloat64(8 * n, value, true));
  return new Uint8Array(bytes.buffer);
}
