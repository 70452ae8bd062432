import type { Triple } from "../contract";

export type Point = [number, number];

/** Where a polygon is drawn: a slice of an array. `axes` are the array's axes of a point's two numbers. */
export interface DrawnSlice {
  shape: Triple;
  axes: [number, number];
  /** The axis across, and the slice's number along it. */
  normal: number;
  slice: number;
}

/** Where a row of voxel centres crosses the polygon, sorted. A corner on the row counts for one of its two edges. */
function crossings(polygon: readonly Point[], row: number): number[] {
  const found: number[] = [];
  polygon.forEach(([x1, y1], n) => {
    const [x2, y2] = polygon[(n + 1) % polygon.length]!;
    if (y1 > row === y2 > row) return;
    found.push(x1 + ((row - y1) / (y2 - y1)) * (x2 - x1));
  });
  return found.sort((one, other) => one - other);
}

/** Rising offsets of voxels whose centre lies in the polygon (even-odd rule); none with fewer than three points. */
export function polygonOffsets(polygon: readonly Point[], drawn: DrawnSlice): number[] {
  const { shape, axes, normal, slice } = drawn;
  if (polygon.length < 3 || slice < 0 || slice >= shape[normal]!) return [];
  const strides: Triple = [1, shape[0], shape[0] * shape[1]];
  const rows = polygon.map(([, row]) => row);
  const first = Math.max(Math.ceil(Math.min(...rows)), 0);
  const last = Math.min(Math.floor(Math.max(...rows)), shape[axes[1]]! - 1);
  const offsets: number[] = [];
  for (let row = first; row <= last; row++) {
    const cuts = crossings(polygon, row);
    for (let n = 0; n + 1 < cuts.length; n += 2) {
      const from = Math.max(Math.ceil(cuts[n]!), 0);
      const to = Math.min(Math.floor(cuts[n + 1]!), shape[axes[0]]! - 1);
      for (let column = from; column <= to; column++) {
        offsets.push(column * strides[axes[0]]! + row * strides[axes[1]]! + slice * strides[normal]!);
      }
    }
  }
  return [...new Set(offsets)].sort((one, other) => one - other);
}
