/** Outlines of labels between voxel centres (marching squares), in the picture's voxels. */

export interface Raster {
  values: Uint16Array;
  columns: number;
  rows: number;
}

/** A closed line: u1, v1, u2, v2, ... */
export type Line = number[];

// Edges of a cell of four voxel centres: top 0, right 1, bottom 2, left 3. For each pattern of corners that hold the
// value (upper left 1, upper right 2, lower right 4, lower left 8), the lines through it with the value on their right.
// Opposite corners are kept apart, so that an outline never crosses itself.
const LINES: readonly (readonly [number, number][])[] = [
  [],
  [[0, 3]],
  [[1, 0]],
  [[1, 3]],
  [[2, 1]],
  [[0, 3], [2, 1]],
  [[2, 0]],
  [[2, 3]],
  [[3, 2]],
  [[0, 2]],
  [[1, 0], [3, 2]],
  [[1, 2]],
  [[3, 1]],
  [[0, 1]],
  [[3, 0]],
  [],
];
const MIDDLE_U = [1, 2, 1, 0];
const MIDDLE_V = [0, 1, 2, 1];

/** The outlines of each value other than 0, as closed lines; empty where there is none. */
export function contours(raster: Raster): Map<number, Line[]> {
  const starts = segments(raster);
  const stride = strideOf(raster);
  const lines = new Map<number, Line[]>();
  for (const [value, next] of starts) lines.set(value, chained(next, stride));
  return lines;
}

/** Positions are whole numbers in half voxels; one more voxel on each side lies outside and holds 0. */
function strideOf({ columns }: Raster): number {
  return 2 * columns + 4;
}

/** The raster with one more voxel of 0 on each side, so that the picture's edges need no asking. */
function framed({ values, columns, rows }: Raster): Uint16Array {
  const width = columns + 2;
  const wide = new Uint16Array(width * (rows + 2));
  for (let v = 0; v < rows; v++) wide.set(values.subarray(v * columns, (v + 1) * columns), (v + 1) * width + 1);
  return wide;
}

/** For each value: from the start of a segment to its end. */
function segments(raster: Raster): Map<number, Map<number, number>> {
  const found = new Map<number, Map<number, number>>();
  const wide = framed(raster);
  const width = raster.columns + 2;
  const stride = strideOf(raster);
  const corners = [0, 0, 0, 0];
  for (let v = 0; v <= raster.rows; v++) {
    for (let u = 0, at = v * width; u < width - 1; u++, at++) {
      const a = wide[at]!;
      // Nearly every cell is of one value.
      if (a === wide[at + 1] && a === wide[at + width] && a === wide[at + width + 1]) continue;
      corners[0] = a;
      corners[1] = wide[at + 1]!;
      corners[2] = wide[at + width + 1]!;
      corners[3] = wide[at + width]!;
      addCell(found, corners, 2 * v * stride + 2 * u, stride);
    }
  }
  return found;
}

function addCell(found: Map<number, Map<number, number>>, corners: readonly number[], corner: number, stride: number): void {
  for (let n = 0; n < 4; n++) {
    const value = corners[n]!;
    if (value === 0 || corners.indexOf(value) !== n) continue;
    let pattern = 0;
    for (let m = n; m < 4; m++) if (corners[m] === value) pattern |= 1 << m;
    let next = found.get(value);
    if (!next) found.set(value, (next = new Map()));
    for (const [from, to] of LINES[pattern]!) {
      next.set(corner + MIDDLE_V[from]! * stride + MIDDLE_U[from]!, corner + MIDDLE_V[to]! * stride + MIDDLE_U[to]!);
    }
  }
}

/** Joins segments to closed lines and leaves out points on the way of a straight line. */
function chained(next: Map<number, number>, stride: number): Line[] {
  const lines: Line[] = [];
  for (const first of [...next.keys()]) {
    if (!next.has(first)) continue;
    const points: number[] = [];
    for (let at: number | undefined = first; at !== undefined && next.has(at); ) {
      points.push(at);
      const to: number = next.get(at)!;
      next.delete(at);
      at = to;
    }
    lines.push(straightened(points, stride));
  }
  return lines;
}

function straightened(points: readonly number[], stride: number): Line {
  const line: Line = [];
  const count = points.length;
  for (let n = 0; n < count; n++) {
    const before = points[(n + count - 1) % count]!;
    const at = points[n]!;
    const after = points[(n + 1) % count]!;
    if (at - before === after - at) continue;
    line.push((at % stride) / 2 - 1, Math.floor(at / stride) / 2 - 1);
  }
  return line;
}
