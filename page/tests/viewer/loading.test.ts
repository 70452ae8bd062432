import { expect, test } from "vitest";

import type { Geometry } from "../../src/contract";
import { load, nearestSlab, slabsOf, type Slab } from "../../src/viewer/loading";
import { imageStore, labelStore } from "../../src/viewer/stores";

const geometry: Geometry = {
  shape: [3, 2, 10],
  affine: [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 0, 1],
  ],
  spacingMm: [1, 1, 1],
};
const MEGABYTE = 1024 * 1024;

const bytesOf = ({ from, to }: Slab): ArrayBuffer => {
  const all = new Int16Array((to - from) * 6);
  for (let n = 0; n < all.length; n++) all[n] = from + Math.floor(n / 6);
  return all.buffer;
};

test.each([[1, 0], [10, 9], [300, 150], [7, 3]])("slabs cover %i slices once, the one around %i first and small", (slices, focus) => {
  const slabs = slabsOf(slices, MEGABYTE / 2, focus);
  const covered = slabs.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, n) => from + n));
  expect(covered.sort((a, b) => a - b)).toEqual(Array.from({ length: slices }, (_, n) => n));
  const [first] = slabs;
  expect(first!.from <= focus && focus < first!.to && first!.to - first!.from <= 2).toBe(true);
});

test("the slab nearest to what is looked at comes next", () => {
  const slabs = [{ from: 0, to: 4 }, { from: 20, to: 24 }];
  expect([nearestSlab(slabs, 11), nearestSlab(slabs, 12)]).toEqual([slabs[0], slabs[1]]);
});

test("a store is filled from the middle outward, and the way turns to where one looks", async () => {
  const store = imageStore(geometry, 1, 0);
  const asked: number[] = [];
  let focus = 5;
  await load({
    store,
    sliceBytes: 2 * MEGABYTE,
    parallel: 1,
    focus: () => focus,
    signal: new AbortController().signal,
    fetch: async (slab) => {
      asked.push(slab.from);
      focus = 0;
      return bytesOf(slab);
    },
    arrived: () => {},
  });
  expect(asked.slice(0, 3)).toEqual([5, 0, 1]);
  expect([...store.data].filter((_, n) => n % 6 === 0)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("what fails once is asked for again, and a no is not", async () => {
  let calls = 0;
  const options = {
    sliceBytes: MEGABYTE,
    parallel: 1,
    focus: () => 0,
    signal: new AbortController().signal,
    arrived: () => {},
  };
  const once = async (slab: Slab): Promise<ArrayBuffer> => {
    if (calls++ === 0) throw new Error("the network");
    return bytesOf(slab);
  };
  const store = imageStore(geometry, 1, 0);
  await load({ ...options, store, fetch: once });
  expect(store.loaded.every(Boolean)).toBe(true);
  const refused = Object.assign(new Error("You may not see this."), { status: 403 });
  const no = load({ ...options, store: imageStore(geometry, 1, 0), fetch: () => Promise.reject(refused) });
  await expect(no).rejects.toThrow("You may not see this");
});

test("nothing is put after the view has gone", async () => {
  const ending = new AbortController();
  const store = imageStore(geometry, 1, 0);
  await load({
    store,
    sliceBytes: MEGABYTE,
    parallel: 2,
    focus: () => 5,
    signal: ending.signal,
    fetch: async (slab) => {
      ending.abort();
      return bytesOf(slab);
    },
    arrived: () => {},
  });
  expect(store.loaded.some(Boolean)).toBe(false);
});

test("a slab of the wrong size is refused with both sizes", () => {
  expect(() => imageStore(geometry, 1, 0).fill(2, 4, new ArrayBuffer(5))).toThrow("Slices 2 to 3 should have 24 bytes, but the server sent 5");
});

test("an edit made before its slice has arrived is not undone by the slab", () => {
  const labels = labelStore(geometry, "uint8");
  const told: [number, number][] = [];
  labels.onChange((first, last) => told.push([first, last]));
  labels.apply({
    offsets: Uint32Array.of(4),
    lengths: Uint32Array.of(4),
    before: Uint16Array.of(0),
    after: Uint16Array.of(7),
  });
  labels.paint(Uint32Array.of(13), 3);
  labels.fill(0, 3, new Uint8Array(18).fill(1).buffer);
  expect([...labels.data.slice(0, 18)]).toEqual([1, 1, 1, 1, 7, 7, 7, 7, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1]);
  expect(told).toEqual([[0, 1], [2, 2], [0, 2]]);
});

test("who listens no more is not told", () => {
  const labels = labelStore(geometry, "uint16");
  let told = 0;
  const off = labels.onChange(() => told++);
  labels.paint(Uint32Array.of(0), 300);
  off();
  labels.paint(Uint32Array.of(1), 300);
  expect([told, labels.data[1]]).toEqual([1, 300]);
});
