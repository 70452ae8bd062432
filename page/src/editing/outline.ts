import type { Runs, Triple } from "../contract";
import { boxOf, type Box } from "./runs";
import type { Point } from "./lasso";

/** Marked voxels of a box, i fastest. */
export interface Mask {
  box: Box;
  data: Uint8Array;
}

/** The voxels that a change gives a value other than 0 (or takes away, where it only erases); null where nothing changes. */
export function maskOf(runs: Runs, shape: Triple): Mask | null {
  const box = boxOf(runs, shape);
  if (!box) return null;
  const size = box.stop.map((stop, axis) => stop - box.start[axis]!) as Triple;
  const data = new Uint8Array(size[0] * size[1] * size[2]);
  for (let n = 0; n < runs.offsets.length; n++) {
    const stop = runs.offsets[n]! + runs.lengths[n]!;
    for (let offset = runs.offsets[n]!; offset < stop; offset++) {
      const i = offset % shape[0];
      const row = Math.floor(offset / shape[0]);
      const [j, k] = [row % shape[1], Math.floor(row / shape[1])];
      data[i - box.start[0] + size[0] * (j - box.start[1] + size[1] * (k - box.start[2]))] = 1;
    }
  }
  return { box, data };
}

/** Reads a mask at an index of the array; 0 outside its box. */
function reader({ box, data }: Mask): (index: Triple) => number {
  const [sizeI, sizeJ] = [box.stop[0] - box.start[0], box.stop[1] - box.start[1]];
  return (index) => {
    for (let axis = 0; axis < 3; axis++) {
      if (index[axis]! < box.start[axis]! || index[axis]! >= box.stop[axis]!) return 0;
    }
    const [i, j, k] = [index[0] - box.start[0], index[1] - box.start[1], index[2] - box.start[2]];
    return data[i + sizeI * (j + sizeJ * k)]!;
  };
}

/** Edges of the marked voxels in a slice, as closed lines along voxel borders, [along axes[0], along axes[1]]. */
export function sliceOutline(mask: Mask, axes: [number, number], slice: number): Point[][] {
  const normal = 3 - axes[0] - axes[1];
  const { start, stop } = mask.box;
  if (slice < start[normal]! || slice >= stop[normal]!) return [];
  const read = reader(mask);
  const at = (column: number, row: number): boolean => {
    const index: Triple = [0, 0, 0];
    [index[axes[0]], index[axes[1]], index[normal]] = [column, row, slice];
    return read(index) === 1;
  };
  // Every edge goes with the marked voxel on its right hand, so that edges join to loops head to tail.
  const next = new Map<number, Point[]>();
  const edge = (from: Point, to: Point) => {
    const known = next.get(cornerOf(from));
    if (known) known.push(to);
    else next.set(cornerOf(from), [to]);
  };
  for (let row = start[axes[1]]!; row < stop[axes[1]]!; row++) {
    for (let column = start[axes[0]]!; column < stop[axes[0]]!; column++) {
      if (!at(column, row)) continue;
      const [left, right, top, bottom] = [column - 0.5, column + 0.5, row - 0.5, row + 0.5];
      if (!at(column, row - 1)) edge([left, top], [right, top]);
      if (!at(column + 1, row)) edge([right, top], [right, bottom]);
      if (!at(column, row + 1)) edge([right, bottom], [left, bottom]);
      if (!at(column - 1, row)) edge([left, bottom], [left, top]);
    }
  }
  return joined(next);
}

/** A number for each corner of voxels; corners lie at halves, from -0.5. */
function cornerOf([x, y]: Point): number {
  return (x + 0.5) * 0x10000 + y + 0.5;
}

function joined(next: Map<number, Point[]>): Point[][] {
  const loops: Point[][] = [];
  for (const key of next.keys()) {
    while (next.get(key)!.length > 0) {
      const loop: Point[] = [];
      let at = key;
      for (let to = next.get(at)!.pop(); to; to = next.get(at)?.pop()) {
        loop.push(to);
        at = cornerOf(to);
      }
      loops.push(loop);
    }
  }
  return loops;
}

/** Cuts closed lines into every second piece of about `length` edges, so that they show dashed. */
export function dashes(loops: readonly Point[][], length: number): Point[][] {
  return loops.flatMap((loop) => {
    const pieces: Point[][] = [];
    for (let start = 0; start < loop.length; start += 2 * length) {
      const piece = loop.slice(start, start + length + 1);
      if (piece.length === 1) piece.push(loop[0]!);
      pieces.push(piece);
    }
    return pieces;
  });
}
