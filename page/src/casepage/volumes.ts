import type { Geometry, Runs } from "../contract";

/** Voxels of each value. */
export type Counts = ReadonlyMap<number, number>;

/** Voxels counted at once: a few milliseconds. */
const PIECE = 1 << 22;

/** Counts in pieces, between which the page stays awake. */
export async function countVoxels(data: Uint8Array | Uint16Array): Promise<Counts> {
  const histogram = new Float64Array(data instanceof Uint8Array ? 256 : 65536);
  for (let start = 0; start < data.length; start += PIECE) {
    const stop = Math.min(start + PIECE, data.length);
    for (let offset = start; offset < stop; offset++) histogram[data[offset]!]!++;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return new Map([...histogram.entries()].filter(([value, count]) => value > 0 && count > 0));
}

/** The counts after a change. */
export function countsAfter(counts: Counts, runs: Runs): Counts {
  const next = new Map(counts);
  const add = (value: number, voxels: number) => {
    if (value > 0) next.set(value, (next.get(value) ?? 0) + voxels);
  };
  for (let n = 0; n < runs.offsets.length; n++) {
    add(runs.before[n]!, -runs.lengths[n]!);
    add(runs.after[n]!, runs.lengths[n]!);
  }
  return next;
}

/** Of one voxel. The determinant also holds for axes that are not at right angles. */
export function voxelMl({ affine }: Geometry): number {
  const [[a, b, c], [d, e, f], [g, h, i]] = affine.map((row) => row.slice(0, 3)) as [number[], number[], number[]];
  const volume = a! * (e! * i! - f! * h!) - b! * (d! * i! - f! * g!) + c! * (d! * h! - e! * g!);
  return Math.abs(volume) / 1000;
}
