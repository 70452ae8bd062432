/** Which array axes a plane's picture shows, which way round, and what its edges are called. World is LPS in mm. */

import type { Geometry, Plane, Triple } from "../contract";

export const PLANES: readonly Plane[] = ["axial", "coronal", "sagittal"];

/**
 * How a plane is cut from the array. Picture positions are voxels from the left (u) and from the top (v), the centre of
 * the first one at 0.
 */
export interface PlaneGeometry {
  plane: Plane;
  /** Array axes of the picture's columns (left to right), rows (top to bottom), and across. */
  column: number;
  row: number;
  normal: number;
  /** True where the picture runs against the array's axis. */
  flipColumn: boolean;
  flipRow: boolean;
  columns: number;
  rows: number;
  slices: number;
  /** Of one voxel, in mm. */
  width: number;
  height: number;
  /** Letters of the patient's directions at the edges; two where an edge lies between two directions. */
  edges: { left: string; right: string; top: string; bottom: string };
}

type Vector = readonly number[];

/** Unit vector in the world of an array axis: column `axis` of the affine. Not finite where the column is 0. */
export function directionOf(affine: readonly Vector[], axis: number): Triple {
  const vector = [0, 1, 2].map((row) => affine[row]![axis]!) as Triple;
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length) as Triple;
}

const ORDERS: readonly Triple[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

/**
 * The array axis that runs most along each world axis (left-right, front-back, head-foot): of the six ways to give
 * each its own, the one whose directions agree best in all, so that no two planes are cut along one axis.
 */
export function closestAxes(affine: readonly Vector[]): Triple {
  const directions = [0, 1, 2].map((axis) => directionOf(affine, axis));
  const agreement = (order: Triple): number =>
    order.reduce((sum, axis, world) => sum + Math.abs(directions[axis]![world]!), 0);
  return ORDERS.reduce((best, order) => (agreement(order) > agreement(best) + 1e-9 ? order : best));
}

const LETTERS = ["RL", "AP", "IS"] as const;
/** sin 10 degrees: a smaller share of a second direction is not worth a letter. */
const SECOND_LETTER = 0.1736;

/** "L", "A", ...; "AR" where the direction lies more than 10 degrees aside, the stronger one first. */
export function lettersOf(direction: Vector): string {
  return [0, 1, 2]
    .filter((world) => Math.abs(direction[world]!) > SECOND_LETTER)
    .sort((one, other) => Math.abs(direction[other]!) - Math.abs(direction[one]!))
    .slice(0, 2)
    .map((world) => LETTERS[world]![direction[world]! > 0 ? 1 : 0]!)
    .join("");
}

// World axes of a picture's columns, rows and across, and the signs that columns and rows run along in a radiological
// picture: the patient's left on the right, the front above, the head above; the front on the left of a sagittal one.
const RADIOLOGICAL: Record<Plane, { worlds: Triple; signs: [1 | -1, 1 | -1] }> = {
  axial: { worlds: [0, 1, 2], signs: [1, 1] },
  coronal: { worlds: [0, 2, 1], signs: [1, -1] },
  sagittal: { worlds: [1, 2, 0], signs: [1, -1] },
};

/** How a plane's radiological picture is cut from a volume of any orientation, oblique or left-handed ones too. */
export function planeGeometry({ shape, affine, spacingMm }: Geometry, plane: Plane): PlaneGeometry {
  const axes = closestAxes(affine);
  const { worlds, signs } = RADIOLOGICAL[plane];
  const [column, row, normal] = worlds.map((world) => axes[world]!) as Triple;
  const along = directionOf(affine, column);
  const down = directionOf(affine, row);
  const flipColumn = along[worlds[0]]! * signs[0] < 0;
  const flipRow = down[worlds[1]]! * signs[1] < 0;
  const right = along.map((value) => (flipColumn ? -value : value));
  const bottom = down.map((value) => (flipRow ? -value : value));
  const opposite = (vector: Vector): Vector => vector.map((value) => -value);
  return {
    plane,
    column,
    row,
    normal,
    flipColumn,
    flipRow,
    columns: shape[column]!,
    rows: shape[row]!,
    slices: shape[normal]!,
    width: spacingMm[column]!,
    height: spacingMm[row]!,
    edges: {
      left: lettersOf(opposite(right)),
      right: lettersOf(right),
      top: lettersOf(opposite(bottom)),
      bottom: lettersOf(bottom),
    },
  };
}

/** Where an index lies in the picture, whatever its slice. */
export function pictureOf(plane: PlaneGeometry, index: Vector): [number, number] {
  const u = index[plane.column]!;
  const v = index[plane.row]!;
  return [plane.flipColumn ? plane.columns - 1 - u : u, plane.flipRow ? plane.rows - 1 - v : v];
}

/** The index of a picture's position on a slice. */
export function indexOf(plane: PlaneGeometry, picture: Vector, slice: number): Triple {
  const index: Triple = [0, 0, 0];
  const [u, v] = [picture[0]!, picture[1]!];
  index[plane.column] = plane.flipColumn ? plane.columns - 1 - u : u;
  index[plane.row] = plane.flipRow ? plane.rows - 1 - v : v;
  index[plane.normal] = slice;
  return index;
}

/** LPS mm of a continuous index. */
export function worldOf(affine: readonly Vector[], index: Vector): Triple {
  return [0, 1, 2].map((row) => {
    const [a, b, c, d] = affine[row]!;
    return a! * index[0]! + b! * index[1]! + c! * index[2]! + d!;
  }) as Triple;
}

/** Distance in mm between two indices. */
export function distanceMm(affine: readonly Vector[], from: Vector, to: Vector): number {
  const [start, end] = [worldOf(affine, from), worldOf(affine, to)];
  return Math.hypot(...start.map((value, axis) => value - end[axis]!));
}

/** "L 12.3, P 40.1, S 7.0 mm"; a 0 has the letter of its positive side. */
export function describeWorld(world: Vector): string {
  const part = (value: number, axis: number): string => {
    const text = Math.abs(value).toFixed(1);
    return `${LETTERS[axis]![value < 0 && text !== "0.0" ? 0 : 1]!} ${text}`;
  };
  return `${world.map(part).join(", ")} mm`;
}

/** The voxel under a continuous index; null outside the array. */
export function voxelOf(shape: Triple, index: Vector): Triple | null {
  const voxel = index.map((value) => Math.round(value) + 0) as Triple;
  return voxel.every((value, axis) => value >= 0 && value < shape[axis]!) ? voxel : null;
}

/** The nearest index within the array. */
export function clampIndex(shape: Triple, index: Vector): Triple {
  return index.map((value, axis) => Math.min(Math.max(value, 0), shape[axis]! - 1)) as Triple;
}

/** Which way stepping "forward" through a plane's slices goes: to the head, to the front, to the patient's left. */
export function forwardSign({ affine }: Geometry, plane: PlaneGeometry): 1 | -1 {
  const direction = directionOf(affine, plane.normal);
  const [world, sign] = { axial: [2, 1], coronal: [1, -1], sagittal: [0, 1] }[plane.plane] as [number, number];
  return direction[world]! * sign < 0 ? -1 : 1;
}
