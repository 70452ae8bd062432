/** Distances and intensities that a person measures in a slice. */

import type { Measurement, Plane, Triple, VoxelStore } from "../contract";
import { distanceMm, type PlaneGeometry } from "./geometry";
import type { MeasureKind } from "./source";

/** A measurement and the slice it was made in. */
export interface Measured extends Measurement {
  plane: Plane;
  slice: number;
}

export interface IntensityStatistics {
  count: number;
  mean: number;
  /** Of a sample; 0 for one voxel. */
  deviation: number;
  areaMm2: number;
}

/** Length of the world line between two indices: "23.4 mm". */
export function distanceText(affine: readonly (readonly number[])[], from: Triple, to: Triple): string {
  return `${distanceMm(affine, from, to).toFixed(1)} mm`;
}

/**
 * Intensities of voxels whose centre lies in the ellipse between two corners of a slice; the voxel at `from` where the
 * ellipse holds no centre. Count 0 where nothing of it lies in the array or has arrived.
 */
export function intensityIn(store: VoxelStore, plane: PlaneGeometry, from: Triple, to: Triple): IntensityStatistics {
  const { shape } = store.geometry;
  const [column, row] = [plane.column, plane.row];
  const radii = [column, row].map((axis) => Math.abs(to[axis]! - from[axis]!) / 2);
  const centre = [column, row].map((axis) => (to[axis]! + from[axis]!) / 2);
  const values: number[] = [];
  const index = from.map(Math.round) as Triple;
  const add = (): void => {
    if (index.some((value, axis) => value < 0 || value >= shape[axis]!) || !store.loaded[index[2]]) return;
    const stored = store.data[index[0] + shape[0] * (index[1] + shape[1] * index[2])]!;
    values.push(stored * store.slope + store.intercept);
  };
  for (let u = Math.ceil(centre[0]! - radii[0]!); u <= centre[0]! + radii[0]!; u++) {
    for (let v = Math.ceil(centre[1]! - radii[1]!); v <= centre[1]! + radii[1]!; v++) {
      if (((u - centre[0]!) / radii[0]!) ** 2 + ((v - centre[1]!) / radii[1]!) ** 2 > 1) continue;
      [index[column], index[row]] = [u, v];
      add();
    }
  }
  if (values.length === 0) {
    from.forEach((value, axis) => (index[axis] = Math.round(value)));
    add();
  }
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {
    count: values.length,
    mean,
    deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0,
    areaMm2: Math.PI * radii[0]! * plane.width * radii[1]! * plane.height,
  };
}

/** "41.2 ± 12.0 HU, 1.52 cm²"; of one voxel "41 HU". */
export function intensityText({ count, mean, deviation, areaMm2 }: IntensityStatistics, unit: string): string {
  if (count === 0) return "no voxel";
  const after = unit === "" ? "" : ` ${unit}`;
  if (count === 1) return `${round(mean)}${after}`;
  return `${mean.toFixed(1)} ± ${deviation.toFixed(1)}${after}, ${(areaMm2 / 100).toFixed(2)} cm²`;
}

/** An intensity for people: whole where it is large, with two digits after the point where it is small. */
export function round(value: number): string {
  return Math.abs(value) >= 10 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(2);
}

export interface Measuring {
  kind: MeasureKind;
  plane: PlaneGeometry;
  from: Triple;
  to: Triple;
}

/** What a measurement says. */
export function measured(store: VoxelStore, unit: string, { kind, plane, from, to }: Measuring): string {
  if (kind === "distance") return distanceText(store.geometry.affine, from, to);
  return intensityText(intensityIn(store, plane, from, to), unit);
}
