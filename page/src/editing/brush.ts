import type { Geometry, Triple } from "../contract";

/** What a stroke covers: a disc in the slice, or a ball. */
export type BrushShape = "disc" | "ball";

/** Lengths that differ by less are equal: a voxel just at the edge belongs, whatever the rounding. */
const TIE = 1e-9;

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
function sweep(swept: Sweep): Uint32Array {
  const { geometry, from, to, radiusMm, normal } = swept;
  const { shape, spacingMm } = geometry;
  const under = to.map(Math.round) as Triple;
  if (normal !== null && (under[normal]! < 0 || under[normal]! >= shape[normal]!)) return new Uint32Array(0);

  const reach = (axis: number, side: 1 | -1): number => {
    if (axis === normal) return under[axis]!;
    const end = side > 0 ? Math.max(from[axis]!, to[axis]!) : Math.min(from[axis]!, to[axis]!);
    const edge = Math.round(end + (side * radiusMm) / spacingMm[axis]!) + side;
    return Math.min(Math.max(edge, 0), shape[axis]! - 1);
  };

  const row = rows(swept);
  const [first, last] = [reach(0, -1), reach(0, 1)];
  const within = under.every((at, axis) => at >= 0 && at < shape[axis]!);
  const pieces: [start: number, length: number][] = [];
  for (let k = reach(2, -1); k <= reach(2, 1); k++) {
    for (let j = reach(1, -1); j <= reach(1, 1); j++) {
      let [low, high] = normal === 0 ? rowAcross(row(j, k), under[0]) : row(j, k);
      if (within && j === under[1] && k === under[2]) [low, high] = [Math.min(low, under[0]), Math.max(high, under[0])];
      [low, high] = [Math.max(low, first), Math.min(high, last)];
      if (low <= high) pieces.push([low + shape[0] * (j + shape[1] * k), high - low + 1]);
    }
  }
  return filled(pieces);
}

function filled(pieces: readonly [start: number, length: number][]): Uint32Array {
  const offsets = new Uint32Array(pieces.reduce((sum, [, length]) => sum + length, 0));
  let at = 0;
  for (const [start, length] of pieces) {
    for (let n = 0; n < length; n++) offsets[at++] = start + n;
  }
  return offsets;
}

const NONE: [number, number] = [Infinity, -Infinity];

/** A disc across the first axis: every row holds the one voxel of its slice, or none. */
function rowAcross([low, high]: [number, number], i: number): [number, number] {
  return low <= high ? [i, i] : NONE;
}

/**
 * First and last index i of a row (j, k) that lies within the radius. What is swept is convex, so a row meets it in one
 * stretch: from the least to the greatest end of the stretches in the two balls at its ends and the tube between them.
 */
function rows({ geometry, from, to, radiusMm, normal }: Sweep): (j: number, k: number) => [number, number] {
  const mm = geometry.spacingMm.map((step, axis) => (axis === normal ? 0 : step)) as Triple;
  const [wayX, wayY, wayZ] = to.map((end, axis) => (end - from[axis]!) * mm[axis]!) as Triple;
  const long = wayX ** 2 + wayY ** 2 + wayZ ** 2;
  const limit = radiusMm ** 2 * (1 + TIE);
  const across = 1 - (long > 0 ? wayX ** 2 / long : 0);

  const ball = (x: number, y: number, z: number): [number, number] => {
    const left = limit - y ** 2 - z ** 2;
    return left < 0 ? NONE : [x - Math.sqrt(left), x + Math.sqrt(left)];
  };
  // x is within the tube where x^2 + y^2 + z^2 - (x wayX + along)^2 / long <= limit, and its foot between the ends.
  const tube = (y: number, z: number): [number, number] => {
    if (long === 0) return NONE;
    const along = y * wayY + z * wayZ;
    let [low, high] = [-Infinity, Infinity];
    const rest = y ** 2 + z ** 2 - along ** 2 / long - limit;
    if (across > TIE) {
      const middle = (wayX * along) / long / across;
      const left = middle ** 2 - rest / across;
      if (left < 0) return NONE;
      [low, high] = [middle - Math.sqrt(left), middle + Math.sqrt(left)];
    } else if (rest > 0) return NONE;
    if (Math.abs(wayX) < TIE) return along < 0 || along > long ? NONE : [low, high];
    const ends = [-along / wayX, (long - along) / wayX];
    return [Math.max(low, Math.min(...ends)), Math.min(high, Math.max(...ends))];
  };

  return (j, k) => {
    const [y, z] = [(j - from[1]) * mm[1], (k - from[2]) * mm[2]];
    const stretches = [ball(0, y, z), ball(wayX, y - wayY, z - wayZ), tube(y, z)].filter(([low, high]) => low <= high);
    if (stretches.length === 0) return NONE;
    const low = Math.min(...stretches.map(([end]) => end));
    const high = Math.max(...stretches.map(([, end]) => end));
    const step = mm[0] || 1;
    return [Math.ceil(from[0] + low / step - TIE), Math.floor(from[0] + high / step + TIE)];
  };
}

/** A disc of the slice across array axis `normal`, swept along the pointer's way: rising offsets. */
export function sweepDisc(geometry: Geometry, way: { from: Triple; to: Triple }, radiusMm: number, normal: number): Uint32Array {
  return sweep({ geometry, ...way, radiusMm, normal });
}

/** A ball, swept along the pointer's way: rising offsets. */
export function sweepBall(geometry: Geometry, way: { from: Triple; to: Triple }, radiusMm: number): Uint32Array {
  return sweep({ geometry, ...way, radiusMm, normal: null });
}

const RADII_MM = [0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40];

/** The next larger or smaller radius that the keys and the wheel reach. */
export function nextRadius(radiusMm: number, direction: 1 | -1): number {
  const found =
    direction > 0 ? RADII_MM.find((radius) => radius > radiusMm) : RADII_MM.findLast((radius) => radius < radiusMm);
  return found ?? radiusMm;
}
