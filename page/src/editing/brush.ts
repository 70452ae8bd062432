import type { Geometry, Triple } from "../contract";

/** What a stroke covers: a disc in the slice, or a ball. */
export type BrushShape = "disc" | "ball";

interface Sweep {
  geometry: Geometry;
  from: Triple;
  to: Triple;
  radiusMm: number;
  /** Array axis across the slice: a disc stays in the slice of `to`. None for a ball. */
  normal: number | null;
}

/**
 * Offsets (rising) of voxels whose centre is within `radiusMm` of the way from `from` to `to`, in mm along the array's
 * axes. The voxel under `to` always belongs, so that a brush smaller than a voxel still paints.
 */
function sweep({ geometry, from, to, radiusMm, normal }: Sweep): number[] {
  const { shape, spacingMm } = geometry;
  const under = to.map(Math.round) as Triple;
  const start = [0, 1, 2].map((axis) => reach(axis, -1)) as Triple;
  const stop = [0, 1, 2].map((axis) => reach(axis, 1)) as Triple;

  function reach(axis: number, side: 1 | -1): number {
    if (axis === normal) return under[axis]!;
    const end = side > 0 ? Math.max(from[axis]!, to[axis]!) : Math.min(from[axis]!, to[axis]!);
    const edge = Math.round(end + (side * radiusMm) / spacingMm[axis]!) + side;
    return Math.min(Math.max(edge, 0), shape[axis]! - 1);
  }

  const inside = capsule({ from, to, spacingMm, radiusMm, normal });
  const offsets: number[] = [];
  const within = under.every((at, axis) => at >= 0 && at < shape[axis]!);
  if (normal !== null && (under[normal]! < 0 || under[normal]! >= shape[normal]!)) return offsets;
  for (let k = start[2]; k <= stop[2]; k++) {
    for (let j = start[1]; j <= stop[1]; j++) {
      for (let i = start[0]; i <= stop[0]; i++) {
        const hit = within && i === under[0] && j === under[1] && k === under[2];
        if (hit || inside(i, j, k)) offsets.push(i + shape[0] * (j + shape[1] * k));
      }
    }
  }
  return offsets;
}

interface Capsule {
  from: Triple;
  to: Triple;
  spacingMm: Triple;
  radiusMm: number;
  normal: number | null;
}

/** Whether a voxel's centre is within the radius of a line between two points. */
function capsule({ from, to, spacingMm, radiusMm, normal }: Capsule): (i: number, j: number, k: number) => boolean {
  const mm = spacingMm.map((step, axis) => (axis === normal ? 0 : step)) as Triple;
  const way = to.map((end, axis) => (end - from[axis]!) * mm[axis]!) as Triple;
  const long = way[0] ** 2 + way[1] ** 2 + way[2] ** 2;
  const limit = radiusMm ** 2 * (1 + 1e-9);
  return (i, j, k) => {
    const x = (i - from[0]) * mm[0];
    const y = (j - from[1]) * mm[1];
    const z = (k - from[2]) * mm[2];
    const part = long > 0 ? Math.min(Math.max((x * way[0] + y * way[1] + z * way[2]) / long, 0), 1) : 0;
    return (x - part * way[0]) ** 2 + (y - part * way[1]) ** 2 + (z - part * way[2]) ** 2 <= limit;
  };
}

/** A disc of the slice across array axis `normal`, swept along the pointer's way: rising offsets. */
export function sweepDisc(geometry: Geometry, way: { from: Triple; to: Triple }, radiusMm: number, normal: number): number[] {
  return sweep({ geometry, ...way, radiusMm, normal });
}

/** A ball, swept along the pointer's way: rising offsets. */
export function sweepBall(geometry: Geometry, way: { from: Triple; to: Triple }, radiusMm: number): number[] {
  return sweep({ geometry, ...way, radiusMm, normal: null });
}

/** What may be painted over: only what has no label yet, or everything. */
export type PaintOver = "background" | "all";

export interface PaintRule {
  value: number;
  over: PaintOver;
  /** Erasing takes away this value only; null: any. */
  erases: number | null;
  /** Intensities that may be painted, in stored values; null: any. */
  stored: { lower: number; upper: number } | null;
}

export interface Voxels {
  labels: ArrayLike<number>;
  image: ArrayLike<number>;
  /** Slices k that have arrived, of the labels and of the image. */
  labelsLoaded: ArrayLike<number>;
  imageLoaded: ArrayLike<number>;
  /** Voxels of one slice k. */
  plane: number;
}

/** Those of the offsets that the rule lets change. Nothing is painted where labels have not arrived. */
export function paintable(offsets: readonly number[], voxels: Voxels, rule: PaintRule): Uint32Array {
  const kept = offsets.filter((offset) => {
    const k = Math.floor(offset / voxels.plane);
    const now = voxels.labels[offset]!;
    if (!voxels.labelsLoaded[k] || now === rule.value) return false;
    if (rule.value === 0) {
      if (rule.erases !== null && now !== rule.erases) return false;
    } else if (rule.over === "background" && now !== 0) return false;
    if (rule.stored === null) return true;
    const intensity = voxels.image[offset]!;
    return Boolean(voxels.imageLoaded[k]) && intensity >= rule.stored.lower && intensity <= rule.stored.upper;
  });
  return Uint32Array.from(kept);
}

const RADII_MM = [0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40];

/** The next larger or smaller radius that the keys and the wheel reach. */
export function nextRadius(radiusMm: number, direction: 1 | -1): number {
  const found =
    direction > 0 ? RADII_MM.find((radius) => radius > radiusMm) : RADII_MM.findLast((radius) => radius < radiusMm);
  return found ?? radiusMm;
}
