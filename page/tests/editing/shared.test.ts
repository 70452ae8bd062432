/** Cases worked by hand that Python answers too: tests/test_editing_shared.py. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

import type { Geometry, Triple } from "../../src/contract";
import { sweepBall, sweepDisc } from "../../src/editing/brush";
import { polygonOffsets, type Point } from "../../src/editing/lasso";
import { storedLimits } from "../../src/editing/painting";
import { RunBuilder, changedVoxels, decodeRuns, encodeRuns } from "../../src/editing/runs";
import { seenDigest } from "../../src/editing/seen";

interface Cases {
  shape: Triple;
  spacingMm: Triple;
  strokes: { name: string; path: Triple[]; radiusMm: number; axis: number | null; offsets: number[] }[];
  lassos: { name: string; polygon: Point[]; axis: number; slice: number; offsets: number[] }[];
  thresholds: { name: string; stored: number[]; slope: number; intercept: number; lower: number; upper: number; chosen: number[] }[];
  changes: { name: string; before: Values; after: Values; packed: string; voxels: number }[];
}
type Values = Record<string, number>;

const CASES = JSON.parse(readFileSync("../tests/review_fixtures/drawing.json", "utf8")) as Cases;
const { shape, spacingMm } = CASES;
const AFFINE = [0, 1, 2, 3].map((row) => [0, 1, 2, 3].map((column) => (row === column ? (spacingMm[row] ?? 1) : 0)));
const GEOMETRY: Geometry = { shape, spacingMm, affine: AFFINE };

interface SeenCases {
  shape: Triple;
  affine: number[][];
  scan: string;
  cases: { name: string; layers: Record<string, { type: "uint8" | "uint16"; values: Values }>; seen: string }[];
}

const SEEN = JSON.parse(readFileSync("../tests/review_fixtures/seen.json", "utf8")) as SeenCases;

describe("the page, as the server,", () => {
  it.each(CASES.strokes)("draws strokes: $name", ({ path, radiusMm, axis, offsets }) => {
    const covered = new Set<number>();
    path.forEach((to, n) => {
      const way = { from: path[Math.max(n - 1, 0)]!, to };
      const some = axis === null ? sweepBall(GEOMETRY, way, radiusMm) : sweepDisc(GEOMETRY, way, radiusMm, axis);
      some.forEach((offset) => covered.add(offset));
    });
    expect([...covered].sort((one, other) => one - other)).toEqual(offsets);
  });

  it.each(CASES.lassos)("draws lassos: $name", ({ polygon, axis, slice, offsets }) => {
    const axes = [0, 1, 2].filter((other) => other !== axis) as [number, number];
    expect(polygonOffsets(polygon, { shape, axes, normal: axis, slice })).toEqual(offsets);
    const turned = polygon.map(([x, y]): Point => [y, x]);
    expect(polygonOffsets(turned, { shape, axes: [axes[1], axes[0]], normal: axis, slice })).toEqual(offsets);
  });

  it.each(CASES.thresholds)("chooses by intensity: $name", ({ stored, slope, intercept, lower, upper, chosen }) => {
    const limits = storedLimits({ lower, upper }, { slope, intercept });
    const inside = [...stored.keys()].filter((n) => stored[n]! >= limits.lower && stored[n]! <= limits.upper);
    expect(inside).toEqual(chosen);
  });

  it.each(CASES.changes)("packs changes: $name", ({ before, after, packed, voxels }) => {
    const built = new RunBuilder();
    for (let at = 0; at < shape[0] * shape[1] * shape[2]; at++) built.add(at, before[at] ?? 0, after[at] ?? 0);
    const runs = built.finish();
    expect(encodeRuns(runs)).toBe(packed);
    expect(decodeRuns(packed)).toEqual(runs);
    expect(changedVoxels(runs)).toBe(voxels);
  });

  it.each(SEEN.cases)("tells what is seen: $name", async ({ layers, seen }) => {
    const { shape, affine, scan } = SEEN;
    const stores = Object.entries(layers).map(([layer, { type, values }]) => {
      const data = type === "uint8" ? new Uint8Array(60) : new Uint16Array(60);
      for (const [offset, value] of Object.entries(values)) data[Number(offset)] = value;
      return [Number(layer), { data }] as const;
    });
    const geometry = { shape, affine, spacingMm };
    expect(await seenDigest({ scan, geometry, layers: new Map(stores) })).toBe(seen);
  });
});
