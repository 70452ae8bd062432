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

/** A centre this near to the line lies on it, whatever the rounding. */
const NEAR = 1e-9;

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

/** Columns of voxel centres that lie just on the polygon's line, in a row of centres. */
function onLine(polygon: readonly Point[], row: number): number[] {
  return polygon.flatMap(([x1, y1], n) => {
    const [x2, y2] = polygon[(n + 1) % polygon.length]!;
    if (Math.min(y1, y2) > row || Math.max(y1, y2) < row) return [];
    if (y1 === y2) {
      const [low, high] = [Math.ceil(Math.min(x1, x2)), Math.floor(Math.max(x1, x2))];
      return Array.from({ length: Math.max(high - low + 1, 0) }, (_, step) => low + step);
    }
    const at = x1 + ((row - y1) / (y2 - y1)) * (x2 - x1);
    return Math.abs(at - Math.round(at)) < NEAR ? [Math.round(at)] : [];
  });
}

/** Rising offsets of voxels whose centre lies in the polygon (even-odd rule) or on its line; none of fewer points than three. */
export function polygonOffsets(polygon: readonly Point[], drawn: DrawnSlice): number[] {
  const { shape, axes, normal, slice } = drawn;
  if (polygon.length < 3 || slice < 0 || slice >= shape[normal]!) return [];
  const strides: Triple = [1, shape[0], shape[0] * shape[1]];
  const rows = polygon.map(([, row]) => row);
  const first = Math.max(Math.ceil(Math.min(...rows)), 0);
  const last = Math.min(Math.floor(Math.max(...rows)), shape[axes[1]]! - 1);
  const offsets = new Set<number>();
  const add = (column: number, row: number) => {
    if (column < 0 || column >= shape[axes[0]]!) return;
    offsets.add(column * strides[axes[0]]! + row * strides[axes[1]]! + slice * strides[normal]!);
  };
  for (let row = first; row <= last; row++) {
    const cuts = crossings(polygon, row);
    for (let n = 0; n + 1 < cuts.length; n += 2) {
      const to = Math.min(Math.floor(cuts[n + 1]!), shape[axes[0]]! - 1);
      for (let column = Math.max(Math.ceil(cuts[n]!), 0); column <= to; column++) add(column, row);
    }
    for (const column of onLine(polygon, row)) add(column, row);
  }
  return [...offsets].sort((one, other) => one - other);
}
