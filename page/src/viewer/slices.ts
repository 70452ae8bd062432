/** Slices of an array as rasters in the picture's order: left to right, then top to bottom. */

import type { Triple, VoxelStore } from "../contract";
import type { PlaneGeometry } from "./geometry";

interface Walk {
  start: number;
  right: number;
  down: number;
}

/** Where the picture's first voxel of a slice lies in memory (i fastest), and the steps to the next ones. */
function walkOf(plane: PlaneGeometry, shape: Triple, slice: number): Walk {
  const strides: Triple = [1, shape[0], shape[0] * shape[1]];
  const right = strides[plane.column]! * (plane.flipColumn ? -1 : 1);
  const down = strides[plane.row]! * (plane.flipRow ? -1 : 1);
  const start =
    slice * strides[plane.normal]! +
    (plane.flipColumn ? (plane.columns - 1) * strides[plane.column]! : 0) +
    (plane.flipRow ? (plane.rows - 1) * strides[plane.row]! : 0);
  return { start, right, down };
}

/** Colours a slice of stored values through a table of 65,536 colours, one for each 16-bit pattern. */
export function paintSlice(store: VoxelStore, plane: PlaneGeometry, slice: number, table: Uint32Array, out: Uint32Array): void {
  const { data, geometry } = store;
  const bits = data instanceof Int16Array ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data;
  const { start, right, down } = walkOf(plane, geometry.shape, slice);
  let at = 0;
  for (let row = 0; row < plane.rows; row++) {
    let from = start + row * down;
    for (let column = 0; column < plane.columns; column++, from += right) out[at++] = table[bits[from]!]!;
  }
}

/** Copies a slice of labels through a table (stored value -> value to show); false where all of it is 0. */
export function copySlice(store: VoxelStore, plane: PlaneGeometry, slice: number, table: Uint16Array, out: Uint16Array): boolean {
  const { data, geometry } = store;
  const { start, right, down } = walkOf(plane, geometry.shape, slice);
  let at = 0;
  let any = 0;
  for (let row = 0; row < plane.rows; row++) {
    let from = start + row * down;
    for (let column = 0; column < plane.columns; column++, from += right) {
      const value = table[data[from]!]!;
      out[at++] = value;
      any |= value;
    }
  }
  return any !== 0;
}

/** True for each of the picture's rows or columns that has arrived; all of it where the slice is one of the array's k. */
export function arrived(loaded: Uint8Array, plane: PlaneGeometry, slice: number): "all" | "some" | "none" {
  if (plane.normal === 2) return loaded[slice] ? "all" : "none";
  if (loaded.every(Boolean)) return "all";
  return loaded.some(Boolean) ? "some" : "none";
}

/** What two labels of one voxel say: 1 the same structure, 2 only the first, 3 only the second, 4 two structures. */
export function compare(first: Uint16Array, second: Uint16Array, out: Uint16Array): boolean {
  let any = 0;
  for (let at = 0; at < out.length; at++) {
    const [a, b] = [first[at]!, second[at]!];
    const kind = a === b ? (a === 0 ? 0 : 1) : b === 0 ? 2 : a === 0 ? 3 : 4;
    out[at] = kind;
    any |= kind;
  }
  return any !== 0;
}

/** Colours labels over what is there already; where both have a colour, they are mixed in equal parts. */
export function tint(labels: Uint16Array, table: Uint32Array, out: Uint32Array): void {
  for (let at = 0; at < labels.length; at++) {
    const value = labels[at]!;
    if (value === 0) continue;
    const colour = table[value]!;
    if (colour === 0) continue;
    const below = out[at]!;
    out[at] = below === 0 ? colour : ((colour & 0xfefefefe) >>> 1) + ((below & 0xfefefefe) >>> 1);
  }
}
