import type { Geometry, Runs, Triple } from "../../src/contract";

/** Anisotropic and asymmetric, so that axes taken for each other show. */
export const SHAPE: Triple = [7, 5, 4];
export const GEOMETRY: Geometry = {
  shape: SHAPE,
  affine: [
    [0.5, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 3, 0],
    [0, 0, 0, 1],
  ],
  spacingMm: [0.5, 1, 3],
};

export const VOXELS = SHAPE[0] * SHAPE[1] * SHAPE[2];

export function offsetOf(i: number, j: number, k: number, shape: Triple = SHAPE): number {
  return i + shape[0] * (j + shape[1] * k);
}

export function indexOf(offset: number, shape: Triple = SHAPE): Triple {
  const row = Math.floor(offset / shape[0]);
  return [offset % shape[0], row % shape[1], Math.floor(row / shape[1])];
}

export function put(data: Uint8Array | Uint16Array, runs: Runs): void {
  for (let n = 0; n < runs.offsets.length; n++) {
    const stop = runs.offsets[n]! + runs.lengths[n]!;
    for (let offset = runs.offsets[n]!; offset < stop; offset++) {
      if (data[offset] !== runs.before[n]) throw new Error(`voxel ${offset}: ${data[offset]}, not ${runs.before[n]}`);
      data[offset] = runs.after[n]!;
    }
  }
}

/** Numbers from 0 to 1 that are the same in every run of the test (Mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function someLabels(seed: number): Uint8Array {
  const draw = random(seed);
  return Uint8Array.from({ length: VOXELS }, () => Math.floor(draw() * 3));
}
