import { expect, test } from "vitest";

import type { Geometry, Triple } from "../../src/contract";
import { contours } from "../../src/viewer/contours";
import { planeGeometry } from "../../src/viewer/geometry";
import { intensityIn, intensityText } from "../../src/viewer/measuring";
import { draggedWindow, wheelSlices } from "../../src/viewer/pointing";
import { compare, copySlice, tint } from "../../src/viewer/slices";
import { imageStore } from "../../src/viewer/stores";
import { colourTable, greyTable, shownTable, word } from "../../src/viewer/tables";
import { fitted, panned, pictureAt, resized, scaleBar, screenOf, zoomed } from "../../src/viewer/viewport";

const geometry: Geometry = {
  shape: [4, 3, 2],
  affine: [
    [-2, 0, 0, 0],
    [0, 5, 0, 0],
    [0, 0, 3, 0],
    [0, 0, 0, 1],
  ],
  spacingMm: [2, 5, 3],
};
const axial = planeGeometry(geometry, "axial");

function raster(rows: string[]): { values: Uint16Array; columns: number; rows: number } {
  return { values: Uint16Array.from(rows.join(""), Number), columns: rows[0]!.length, rows: rows.length };
}

function area(line: number[]): number {
  let twice = 0;
  for (let n = 0; n < line.length; n += 2) {
    const m = (n + 2) % line.length;
    twice += line[n]! * line[m + 1]! - line[m]! * line[n + 1]!;
  }
  return twice / 2;
}

test("a slice of a flipped axis is read from the picture's left", () => {
  const store = imageStore(geometry, 1, 0);
  store.data.forEach((_, offset) => (store.data[offset] = offset));
  const out = new Uint16Array(12);
  copySlice(store, axial, 1, shownTable(new Set(), 0), out);
  expect([...out.slice(0, 5)]).toEqual([15, 14, 13, 12, 19]);
});

test("one voxel's outline is a diamond through the middles of its edges, run with the voxel on the right", () => {
  const [line] = contours(raster(["000", "020", "000"])).get(2)!;
  expect(line).toHaveLength(8);
  expect(area(line!)).toBeCloseTo(0.5, 12);
});

test("outlines close at the picture's edge, where straight ways have no points between", () => {
  const [line] = contours(raster(["111", "111"])).get(1)!;
  // A rectangle of 3 x 2 without its four corners of 1/8 each.
  expect(line).toHaveLength(16);
  expect(area(line!)).toBeCloseTo(6 - 4 / 8, 12);
});

test("a hole has an outline of its own, and corners that touch are kept apart", () => {
  expect(contours(raster(["111", "101", "111"])).get(1)).toHaveLength(2);
  expect(contours(raster(["10", "01"])).get(1)).toHaveLength(2);
});

test("structures side by side each have their whole outline", () => {
  const found = contours(raster(["12", "12"]));
  expect([...found].map(([value, lines]) => [value, lines.length, area(lines[0]!)])).toEqual([
    [1, 1, 1.5],
    [2, 1, 1.5],
  ]);
});

test("the comparison tells the same, only one, only the other, and another structure", () => {
  const out = new Uint16Array(5);
  compare(Uint16Array.of(0, 1, 1, 0, 1), Uint16Array.of(0, 1, 0, 2, 2), out);
  expect([...out]).toEqual([0, 1, 2, 3, 4]);
});

test("a hidden structure is not shown; a layer's 1 is its structure's value", () => {
  expect([...shownTable(new Set([2]), 0).slice(0, 4)]).toEqual([0, 1, 0, 3]);
  expect([shownTable(new Set(), 7)[1], shownTable(new Set([7]), 7)[1]]).toEqual([7, 0]);
});

test("where structures overlap their colours are mixed, and values without a name are white", () => {
  const out = new Uint32Array(2);
  const table = colourTable(new Map([[1, [200, 0, 0]], [2, [0, 100, 0]]]), 1);
  tint(Uint16Array.of(1, 9), table, out);
  tint(Uint16Array.of(2, 0), table, out);
  expect([...out]).toEqual([word([100, 50, 0], 254 / 255), word([255, 255, 255], 1)]);
});

test("the window is black at its lower end, white at its upper, of negative intensities too", () => {
  const table = greyTable({ lower: -160, upper: 240 }, 2, -1000);
  const grey = (hounsfield: number): number => table[((hounsfield + 1000) / 2) & 0xffff]! & 255;
  expect([-1000, -160, 40, 240, 3000].map(grey)).toEqual([0, 0, 128, 255, 255]);
  expect(greyTable({ lower: -100, upper: 100 }, 1, 0)[-50 & 0xffff]! & 255).toBe(64);
});

test("mm are square on the screen, and a point goes there and back", () => {
  const viewport = zoomed(axial, fitted(axial, 640, 400), 1.7, [100, 50]);
  const [x1, y1] = screenOf(axial, viewport, [1, 1]);
  const [x2, y2] = screenOf(axial, viewport, [2, 2]);
  expect((x2 - x1) / (y2 - y1)).toBeCloseTo(2 / 5, 12);
  const [u, v] = pictureAt(axial, viewport, [x1, y1]);
  expect([u, v].map((value) => Math.round(value * 1e9) / 1e9)).toEqual([1, 1]);
});

test("what lies under the pointer stays there while zooming", () => {
  const before = fitted(axial, 640, 400);
  const under = [330, 220];
  const after = zoomed(axial, before, 2, under);
  pictureAt(axial, after, under).forEach((value, n) => expect(value).toBeCloseTo(pictureAt(axial, before, under)[n]!, 9));
});

test("a picture cannot be moved out of sight, and stays fitted when the screen changes", () => {
  const away = panned(axial, fitted(axial, 640, 400), 1e6, -1e6);
  expect(away.centre).toEqual([0, 15]);
  const wider = resized(axial, fitted(axial, 640, 400), 1280, 800);
  expect(wider.scale).toBeCloseTo(fitted(axial, 1280, 800).scale, 12);
});

test("the scale bar has a round length that fits", () => {
  expect(scaleBar({ width: 500, height: 500, scale: 3, centre: [0, 0] }, 160)).toEqual({ mm: 50, pixels: 150 });
});

test("intensities under an ellipse, of a click, and outside", () => {
  const store = imageStore(geometry, 2, -10);
  store.data.fill(5);
  store.data[0] = 20;
  store.data[5] = 15;
  store.loaded.fill(1);
  const at = (from: Triple, to: Triple): string => intensityText(intensityIn(store, axial, from, to), "HU");
  expect(at([0, 0, 0], [0, 0, 0])).toBe("30 HU");
  // Only the four voxels of the middle row lie in the ellipse: 0, 20, 0, 0 HU.
  expect(at([0, 0, 0], [3, 2, 0])).toBe("5.0 ± 10.0 HU, 0.47 cm²");
  expect(at([9, 9, 0], [9, 9, 0])).toBe("no voxel");
});

test("a notch of a wheel is a slice, a trackpad's small turns add up", () => {
  expect(wheelSlices(100, 0, 0)).toEqual({ slices: 1, left: 0 });
  expect(wheelSlices(3, 1, 0)).toEqual({ slices: 1, left: 0 });
  expect(wheelSlices(-20, 0, -15)).toEqual({ slices: -1, left: -5 });
});

test("dragging right widens the window around its level, dragging up brightens", () => {
  const wider = draggedWindow({ lower: 0, upper: 100 }, 250 * Math.log(2), 0);
  expect(wider.lower).toBeCloseTo(-50, 9);
  expect(draggedWindow({ lower: 0, upper: 100 }, 0, -40)).toEqual({ lower: -10, upper: 90 });
});
