import { describe, expect, test } from "vitest";

import type { Geometry, Plane, Triple } from "../../src/contract";
import {
  PLANES,
  closestAxes,
  describeWorld,
  distanceMm,
  forwardSign,
  indexOf,
  lettersOf,
  pictureOf,
  planeGeometry,
  worldOf,
} from "../../src/viewer/geometry";

const SPACING: Triple = [0.8, 1.7, 3.1];
const SHAPE: Triple = [7, 11, 5];

/** Array axis n runs along world axis order[n], in the direction of signs[n]. */
function oriented(order: readonly number[], signs: readonly number[], tilt: number[][] = []): Geometry {
  const affine = [0, 1, 2].map((row) => [
    ...[0, 1, 2].map((axis) => (order[axis] === row ? signs[axis]! * SPACING[axis]! : 0)),
    [-12.5, 31, 7][row]!,
  ]);
  const turned = tilt.length === 0 ? affine : product(tilt, affine);
  return { shape: SHAPE, affine: [...turned, [0, 0, 0, 1]], spacingMm: SPACING };
}

function product(one: number[][], other: number[][]): number[][] {
  return one.map((row) => other[0]!.map((_, column) => row.reduce((sum, a, n) => sum + a * other[n]![column]!, 0)));
}

const turn = (degrees: number): number[][] => {
  const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  return [
    [c, -s, 0],
    [s, c, 0],
    [0, 0, 1],
  ];
};

const ORDERS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
const SIGNS = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => [0, 1, 2].map((n) => (bits & (1 << n) ? -1 : 1)));
const ALL = ORDERS.flatMap((order) => SIGNS.map((signs) => ({ order, signs })));

/** World direction of a step to the right and down in the picture. */
function steps(geometry: Geometry, plane: Plane): { right: number[]; down: number[] } {
  const cut = planeGeometry(geometry, plane);
  const at = (picture: number[]): Triple => worldOf(geometry.affine, indexOf(cut, picture, 2));
  const origin = at([1, 1]);
  const less = (world: Triple): number[] => world.map((value, axis) => value - origin[axis]!);
  return { right: less(at([2, 1])), down: less(at([1, 2])) };
}

describe("radiological pictures", () => {
  // World axis and sign of a step to the right and of one down.
  const expected: Record<Plane, [number, number, number, number]> = {
    axial: [0, 1, 1, 1],
    coronal: [0, 1, 2, -1],
    sagittal: [1, 1, 2, -1],
  };

  test.each(ALL)("right and down are the patient's whatever the array: axes $order, signs $signs", ({ order, signs }) => {
    const geometry = oriented(order, signs);
    for (const plane of PLANES) {
      const { right, down } = steps(geometry, plane);
      const [across, acrossSign, along, alongSign] = expected[plane];
      const cut = planeGeometry(geometry, plane);
      expect(right[across]).toBeCloseTo(acrossSign * cut.width, 9);
      expect(down[along]).toBeCloseTo(alongSign * cut.height, 9);
    }
  });

  test.each(ALL)("edges have the letters of the convention: axes $order, signs $signs", ({ order, signs }) => {
    const edges = PLANES.map((plane) => Object.values(planeGeometry(oriented(order, signs), plane).edges).join(""));
    expect(edges).toEqual(["RLAP", "RLSI", "APSI"]);
  });

  test.each(ALL)("stepping forward goes to head, front and left: axes $order, signs $signs", ({ order, signs }) => {
    const geometry = oriented(order, signs);
    const moved = PLANES.map((plane) => {
      const cut = planeGeometry(geometry, plane);
      const from = worldOf(geometry.affine, indexOf(cut, [0, 0], 1));
      const to = worldOf(geometry.affine, indexOf(cut, [0, 0], 1 + forwardSign(geometry, cut)));
      return lettersOf(to.map((value, axis) => value - from[axis]!));
    });
    expect(moved).toEqual(["S", "A", "L"]);
  });
});

test.each(ALL)("index to picture and back: axes $order, signs $signs", ({ order, signs }) => {
  const geometry = oriented(order, signs, turn(17));
  const index: Triple = [1.25, 9.5, 3];
  for (const plane of PLANES) {
    const cut = planeGeometry(geometry, plane);
    expect(indexOf(cut, pictureOf(cut, index), index[cut.normal]!)).toEqual(index);
  }
});

test("no two planes are cut along one axis, though one array axis is closest to two of the patient's", () => {
  // Axis 0 is the best for both left-right and front-back; the whole assignment gives it to front-back.
  const affine = [
    [0.7, 0.69, 0.2, 0],
    [0.71, -0.1, 0.1, 0],
    [0.05, 0.2, 0.97, 0],
    [0, 0, 0, 1],
  ];
  expect(closestAxes(affine)).toEqual([1, 0, 2]);
});

test("an oblique edge has two letters, the stronger one first", () => {
  const cut = planeGeometry(oriented([0, 1, 2], [1, 1, 1], turn(30)), "axial");
  expect(cut.edges).toEqual({ left: "RA", right: "LP", top: "AL", bottom: "PR" });
});

test("ten degrees aside have one letter yet, eleven two", () => {
  const letters = [9.9, 11].map((degrees) => planeGeometry(oriented([0, 1, 2], [1, 1, 1], turn(degrees)), "axial").edges.top);
  expect(letters).toEqual(["A", "AL"]);
});

test("places are said in the patient's directions, 0 without a sign", () => {
  expect(describeWorld([12.34, -40.06, -0.01])).toBe("L 12.3, A 40.1, S 0.0 mm");
});

test("distances are along the world, where axes are not square to each other too", () => {
  const affine = [
    [1, 1, 0, 5],
    [0, 2, 0, 5],
    [0, 0, 3, 5],
    [0, 0, 0, 1],
  ];
  expect(distanceMm(affine, [0, 0, 0], [1, 1, 0])).toBeCloseTo(Math.sqrt(8), 12);
});
