/** A made-up patient, described in the world (LPS mm), so that every orientation must give the same pictures. */

import type { Geometry, Triple } from "../../../src/contract";
import type { CaseSource } from "../../../src/viewer";
import { worldOf } from "../../../src/viewer/geometry";

type Ball = { centre: Triple; radii: Triple };

const inside = (world: Triple, { centre, radii }: Ball): boolean =>
  ((world[0] - centre[0]) / radii[0]) ** 2 + ((world[1] - centre[1]) / radii[1]) ** 2 + ((world[2] - centre[2]) / radii[2]) ** 2 <= 1;

// Head-like and not symmetric: a nose in front, a large organ on the left, a small one on the right, behind and below.
const SKIN: Ball = { centre: [0, 0, 0], radii: [70, 85, 60] };
const SKULL: Ball = { centre: [0, 0, 0], radii: [66, 81, 56] };
const BRAIN: Ball = { centre: [0, 0, 0], radii: [61, 76, 51] };
const NOSE: Ball = { centre: [0, -86, -8], radii: [9, 14, 12] };
export const LEFT: Ball = { centre: [28, -14, 10], radii: [18, 26, 16] };
export const RIGHT: Ball = { centre: [-32, 32, -18], radii: [9, 9, 9] };
/** The middle of a bright spot that fades within a few mm: where a click is aimed at. */
export const MARK: Triple = [21.5, -37.2, 13.4];

export function intensityAt(world: Triple): number {
  const wave = 14 * Math.sin(world[0] / 9) * Math.cos(world[1] / 13) + 8 * Math.sin(world[2] / 5);
  const away = (world[0] - MARK[0]) ** 2 + (world[1] - MARK[1]) ** 2 + (world[2] - MARK[2]) ** 2;
  if (away < 15 ** 2) return Math.max(900 * Math.exp(-away / 40), 95);
  if (inside(world, LEFT)) return 95 + wave / 2;
  if (inside(world, RIGHT)) return 160;
  if (inside(world, BRAIN)) return 35 + wave;
  if (inside(world, SKULL)) return 260;
  if (inside(world, SKIN) || inside(world, NOSE)) return 20;
  return -1000;
}

export function labelAt(world: Triple, shift = 0): number {
  const moved: Triple = [world[0] - shift, world[1], world[2]];
  return inside(moved, LEFT) ? 1 : inside(world, RIGHT) ? 2 : 0;
}

function fill<T extends Int16Array | Uint8Array>(geometry: Geometry, data: T, at: (world: Triple) => number): T {
  const [I, J, K] = geometry.shape;
  let offset = 0;
  for (let k = 0; k < K; k++)
    for (let j = 0; j < J; j++)
      for (let i = 0; i < I; i++) data[offset++] = Math.round(at(worldOf(geometry.affine, [i, j, k])));
  return data;
}

const slab = (data: Int16Array | Uint8Array, { shape }: Geometry, from: number, to: number): ArrayBuffer => {
  const plane = shape[0] * shape[1];
  return data.slice(from * plane, to * plane).buffer as ArrayBuffer;
};

/** `refusals`: so many requests for the scan are answered with a no. `surfaces`: bytes of an MZ3 for each structure. */
export function makeSource(geometry: Geometry, refusals: number, surfaces: ReadonlyMap<number, ArrayBuffer>): CaseSource {
  const image = fill(geometry, new Int16Array(geometry.shape[0] * geometry.shape[1] * geometry.shape[2]), intensityAt);
  const size = image.length;
  const maps = {
    labels: fill(geometry, new Uint8Array(size), (world) => labelAt(world)),
    model: fill(geometry, new Uint8Array(size), (world) => labelAt(world, 5)),
    reference: fill(geometry, new Uint8Array(size), (world) => labelAt(world, -4)),
  };
  let left = refusals;
  return {
    geometry,
    structures: [
      { value: 1, name: "left organ", colour: [230, 90, 80] },
      { value: 2, name: "right nodule", colour: [90, 200, 120] },
    ],
    windows: [{ name: "Soft tissue", lower: -120, upper: 240 }],
    image: { slope: 1, intercept: 0, unit: "HU" },
    layers: [0],
    labelType: "uint8",
    hasReference: true,
    hasModel: true,
    async imageSlab(from, to) {
      if (left-- > 0) throw Object.assign(new Error("You may not see this."), { status: 403 });
      return slab(image, geometry, from, to);
    },
    async labelSlab({ kind, from, to }) {
      return slab(maps[kind], geometry, from, to);
    },
    ...(surfaces.size > 0 && { surface: async (value: number) => surfaces.get(value) ?? new ArrayBuffer(0) }),
  };
}
