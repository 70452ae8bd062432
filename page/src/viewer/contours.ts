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

/** For each value: from the start of a segment to its end. */
function segments(raster: Raster): Map<number, Map<number, number>> {
  const { values, columns, rows } = raster;
  const found = new Map<number, Map<number, number>>();
  const stride = strideOf(raster);
  for (let v = -1; v < rows; v++) {
    const above = v * columns;
    const below = above + columns;
    const [top, bottom] = [v >= 0, v < rows - 1];
    let a = 0;
    let d = 0;
    for (let u = -1; u < columns; u++) {
      const right = u < columns - 1;
      const b = top && right ? values[above + u + 1]! : 0;
      const c = bottom && right ? values[below + u + 1]! : 0;
      if (a !== b || b !== c || c !== d) {
        const corner = (2 * v + 2) * stride + 2 * u + 2;
        const corners = [a, b, c, d];
        for (let n = 0; n < 4; n++) {
          const value = corners[n]!;
          if (value === 0 || corners.indexOf(value) !== n) continue;
          let pattern = 0;
          for (let m = 0; m < 4; m++) if (corners[m] === value) pattern |= 1 << m;
          let next = found.get(value);
          if (!next) found.set(value, (next = new Map()));
          for (const [from, to] of LINES[pattern]!) {
            next.set(
              corner + MIDDLE_V[from]! * stride + MIDDLE_U[from]!,
              corner + MIDDLE_V[to]! * stride + MIDDLE_U[to]!,
            );
          }
        }
      }
      a = b;
      d = c;
    }
  }
  return found;
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
