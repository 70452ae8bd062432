import { describe, expect, it } from "vitest";

import type { Triple } from "../../src/contract";
import { nextRadius, sweepBall, sweepDisc } from "../../src/editing/brush";
import { polygonOffsets } from "../../src/editing/lasso";
import { paintable, type PaintRule } from "../../src/editing/painting";
import { dashes, maskOf, sliceOutline } from "../../src/editing/outline";
import { paintRuns } from "../../src/editing/runs";
import { Stroke } from "../../src/editing/stroke";
import { GEOMETRY, SHAPE, VOXELS, indexOf, offsetOf, random, someLabels } from "./shapes";

/** Distance in mm of a voxel's centre from a line, by trying many points of it. */
function farMm(at: Triple, from: Triple, to: Triple): number {
  let least = Infinity;
  for (let step = 0; step <= 400; step++) {
    const apart = at.map((index, axis) => {
      const on = from[axis]! + (step / 400) * (to[axis]! - from[axis]!);
      return (index - on) * GEOMETRY.spacingMm[axis]!;
    });
    least = Math.min(least, Math.hypot(...apart));
  }
  return least;
}

describe("the brush", () => {
  it("is round in mm, not in voxels", () => {
    const at: Triple = [3, 2, 1];
    const disc = [...sweepDisc(GEOMETRY, { from: at, to: at }, 1, 2)].map((offset) => indexOf(offset));
    expect(disc).toEqual([
      [3, 1, 1],
      [1, 2, 1],
      [2, 2, 1],
      [3, 2, 1],
      [4, 2, 1],
      [5, 2, 1],
      [3, 3, 1],
    ]);
  });

  it("stays in the slice that it is drawn in, whichever axis is across", () => {
    const at: Triple = [3, 2, 1];
    for (const normal of [0, 1, 2]) {
      const indices = [...sweepDisc(GEOMETRY, { from: at, to: at }, 3, normal)].map((offset) => indexOf(offset));
      expect(new Set(indices.map((index) => index[normal]))).toEqual(new Set([at[normal]]));
      expect(indices.length).toBeGreaterThan(3);
    }
  });

  it("as a ball takes the voxels within the radius of the pointer's way", () => {
    const draw = random(1);
    for (let round = 0; round < 15; round++) {
      const [from, to] = [0, 1].map(() => SHAPE.map((size) => draw() * (size - 1)) as Triple) as [Triple, Triple];
      const radius = 0.6 + 2.5 * draw();
      const offsets = new Set(sweepBall(GEOMETRY, { from, to }, radius));
      for (let offset = 0; offset < VOXELS; offset++) {
        const far = farMm(indexOf(offset), from, to);
        if (far < radius - 0.03) expect(offsets.has(offset)).toBe(true);
        if (far > radius + 0.03 && offset !== offsetOf(...(to.map(Math.round) as Triple))) {
          expect(offsets.has(offset)).toBe(false);
        }
      }
    }
  });

  it("as a disc takes what its ball would take of its slice, whichever axis is across", () => {
    const draw = random(2);
    for (let round = 0; round < 30; round++) {
      const normal = round % 3;
      const slice = Math.floor(draw() * SHAPE[normal]!);
      const end = () => SHAPE.map((size, axis) => (axis === normal ? slice : draw() * (size - 1))) as Triple;
      const way = { from: end(), to: end() };
      if (round % 5 === 0) way.to = [...way.from];
      const radius = 0.3 + 3 * draw();
      const ball = [...sweepBall(GEOMETRY, way, radius)].filter((offset) => indexOf(offset)[normal] === slice);
      expect([...sweepDisc(GEOMETRY, way, radius, normal)]).toEqual(ball);
    }
  });

  it("smaller than a voxel paints the voxel under it, and nothing outside the scan", () => {
    const dab = (at: Triple, radius: number) => [...sweepDisc(GEOMETRY, { from: at, to: at }, radius, 2)];
    expect(dab([3.4, 1.6, 2], 0.01)).toEqual([offsetOf(3, 2, 2)]);
    expect([dab([-9, 2, 2], 1), dab([3, 2, 9], 1)]).toEqual([[], []]);
  });

  it("follows its rule: over what, of which intensity, and only where labels have arrived", () => {
    const voxels = {
      labels: Uint8Array.of(0, 1, 2, 0, 0, 0),
      image: Int16Array.of(10, 20, 30, 40, 50, 60),
      labelsLoaded: Uint8Array.of(1, 0),
      imageLoaded: Uint8Array.of(1, 1),
      plane: 4,
    };
    const all = [0, 1, 2, 3, 4, 5];
    const rule: PaintRule = { value: 1, over: "background", erases: null, hidden: new Set(), stored: null };
    expect([...paintable(all, voxels, rule)]).toEqual([0, 3]);
    expect([...paintable(all, voxels, { ...rule, over: "all" })]).toEqual([0, 2, 3]);
    expect([...paintable(all, voxels, { ...rule, stored: { lower: 15, upper: 45 } })]).toEqual([3]);
    expect([...paintable(all, voxels, { ...rule, value: 0, erases: 2 })]).toEqual([2]);
    expect([...paintable(all, voxels, { ...rule, value: 0 })]).toEqual([1, 2]);
  });

  it("changes nothing of a structure that is hidden", () => {
    const voxels = { image: [0, 0, 0], labelsLoaded: [1], imageLoaded: [1], plane: 3, labels: [0, 2, 3] };
    const rule: PaintRule = { value: 1, over: "all", erases: null, hidden: new Set([3]), stored: null };
    expect([...paintable([0, 1, 2], voxels, rule)]).toEqual([0, 1]);
    expect([...paintable([0, 1, 2], voxels, { ...rule, value: 0 })]).toEqual([1]);
  });

  it("has sizes that end at both sides", () => {
    expect(nextRadius(5, 1)).toBe(6);
    expect(nextRadius(5.5, -1)).toBe(5);
    expect([nextRadius(0.5, -1), nextRadius(40, 1)]).toEqual([0.5, 40]);
  });
});

describe("a stroke", () => {
  it("is what changed since it began, and goes on after a cut", () => {
    const data = someLabels(3);
    const before = data.slice();
    const stroke = new Stroke(data, SHAPE);
    const paint = (offsets: number[], value: number) => {
      stroke.touch(Uint32Array.from(offsets));
      for (const offset of offsets) data[offset] = value;
    };
    paint([3, 50, 51], 2);
    paint([2, 50], 1);
    const first = stroke.cut();
    expect(first).toEqual(changes(before, data));
    const middle = data.slice();
    paint([50, 139], 0);
    expect(stroke.cut()).toEqual(changes(middle, data));
  });

  function changes(before: Uint8Array, after: Uint8Array) {
    const touched = [...after.keys()].filter((offset) => before[offset] !== after[offset]);
    const parts = touched.map((offset) => paintRuns([offset], before, after[offset]!));
    return {
      offsets: Uint32Array.from(parts, (part) => part.offsets[0]!),
      lengths: Uint32Array.from(parts, () => 1),
      before: Uint16Array.from(parts, (part) => part.before[0]!),
      after: Uint16Array.from(parts, (part) => part.after[0]!),
    };
  }
});

describe("the lasso", () => {
  const drawn = { shape: SHAPE, axes: [0, 2] as [number, number], normal: 1, slice: 3 };

  it("takes the voxels whose centre is inside, in the slice that it is drawn in", () => {
    const offsets = polygonOffsets([[0.5, 0.5], [4.4, 0.5], [0.5, 3.9]], drawn);
    expect(offsets.map((offset) => indexOf(offset))).toEqual([
      [1, 3, 1],
      [2, 3, 1],
      [3, 3, 1],
      [1, 3, 2],
      [2, 3, 2],
      [1, 3, 3],
    ]);
  });

  it("leaves out what a line that crosses itself goes round twice", () => {
    const frame: [number, number][] = [[0.2, -1], [3.8, -1], [3.8, 4], [0.2, 4]];
    expect(polygonOffsets(frame, drawn).length).toBe(3 * SHAPE[2]);
    expect(polygonOffsets([...frame, ...frame], drawn)).toEqual([]);
  });

  it("is nothing with two points, and is cut at the scan's border", () => {
    expect(polygonOffsets([[0, 0], [5, 3]], drawn)).toEqual([]);
    expect(polygonOffsets([[-9, -9], [99, -9], [99, 99], [-9, 99]], drawn).length).toBe(SHAPE[0] * SHAPE[2]);
  });
});

describe("an outline", () => {
  it("goes round every piece and every hole along voxel borders", () => {
    const ring = [1, 2, 3].flatMap((i) => [0, 1, 2].map((k) => [i, k])).filter(([i, k]) => i !== 2 || k !== 1);
    const offsets = ring.map(([i, k]) => offsetOf(i!, 2, k!)).sort((one, other) => one - other);
    const mask = maskOf(paintRuns(offsets, new Uint8Array(VOXELS), 1), SHAPE)!;
    const loops = sliceOutline(mask, [0, 2], 2);
    expect(loops.map((loop) => loop.length).sort()).toEqual([12, 4].sort());
    expect(loops.flat().every(([x, y]) => x % 1 !== 0 && y % 1 !== 0)).toBe(true);
    expect(sliceOutline(mask, [0, 2], 1)).toEqual([]);
  });

  it("of one voxel is its four corners, whichever the plane", () => {
    const mask = maskOf(paintRuns([offsetOf(4, 3, 2)], new Uint8Array(VOXELS), 1), SHAPE)!;
    const corners = (at: [number, number][]) => at.map(String).sort();
    expect(corners(sliceOutline(mask, [1, 2], 4)[0]!)).toEqual(corners([[2.5, 1.5], [3.5, 1.5], [2.5, 2.5], [3.5, 2.5]]));
    expect(corners(sliceOutline(mask, [0, 1], 2)[0]!)).toEqual(corners([[3.5, 2.5], [4.5, 2.5], [3.5, 3.5], [4.5, 3.5]]));
  });

  it("is dashed by leaving out every second piece", () => {
    const square: [number, number][] = [[0, 0], [1, 0], [1, 1], [0, 1]];
    expect(dashes([square], 1)).toEqual([[[0, 0], [1, 0]], [[1, 1], [0, 1]]]);
  });
});
