import { describe, expect, it } from "vitest";

import type { Runs } from "../../src/contract";
import * as runs from "../../src/editing/runs";
import { SHAPE, offsetOf, put, someLabels } from "./shapes";

function between(before: Uint8Array, after: Uint8Array): Runs {
  const built = new runs.RunBuilder();
  before.forEach((value, offset) => built.add(offset, value, after[offset]!));
  return built.finish();
}

describe("runs", () => {
  it("join neighbours that change alike and leave out what does not change", () => {
    const change = between(Uint8Array.of(0, 0, 1, 1, 0), Uint8Array.of(2, 2, 2, 1, 3));
    expect([...change.offsets]).toEqual([0, 2, 4]);
    expect([...change.lengths]).toEqual([2, 1, 1]);
    expect(runs.changedVoxels(change)).toBe(4);
  });

  it("put and taken back give the same labels again", () => {
    for (let seed = 0; seed < 20; seed++) {
      const [before, after] = [someLabels(seed), someLabels(seed + 100)];
      const change = between(before, after);
      const labels = before.slice();
      put(labels, change);
      expect(labels).toEqual(after);
      put(labels, runs.inverse(change));
      expect(labels).toEqual(before);
    }
  });

  it("survive packing and base64, and pack as little-endian records of 12 bytes", () => {
    const change = between(someLabels(1), someLabels(2));
    expect(runs.sameRuns(runs.decodeRuns(runs.encodeRuns(change)), change)).toBe(true);
    const one: Runs = {
      offsets: Uint32Array.of(0x01020304),
      lengths: Uint32Array.of(5),
      before: Uint16Array.of(0),
      after: Uint16Array.of(0x0102),
    };
    expect([...runs.packRuns(one)]).toEqual([4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 2, 1]);
    expect(() => runs.unpackRuns(new Uint8Array(13))).toThrow(/multiple of 12/);
  });

  it("repainted on other labels set the same voxels to the same values", () => {
    const change = between(someLabels(3), someLabels(4));
    const other = someLabels(5);
    const again = runs.repaint(change, other);
    const labels = other.slice();
    put(labels, again);
    const wanted = other.slice();
    someLabels(4).forEach((value, offset) => {
      if (value !== someLabels(3)[offset]) wanted[offset] = value;
    });
    expect(labels).toEqual(wanted);
    expect(runs.isEmpty(runs.repaint(change, labels))).toBe(true);
  });

  it("know the box that they touch", () => {
    const [before, after] = [new Uint8Array(140), new Uint8Array(140)];
    after[offsetOf(2, 4, 1)] = 1;
    after[offsetOf(5, 1, 2)] = 1;
    const change = between(before, after);
    expect(runs.boxOf(change, SHAPE)).toEqual({ start: [2, 1, 1], stop: [6, 5, 3] });
    expect(runs.boxOf(between(before, before), SHAPE)).toBeNull();
  });

  it("that go on from row to row touch whole rows", () => {
    const change = runs.paintRuns([6, 7, 8], new Uint8Array(140), 1);
    expect(change.offsets.length).toBe(1);
    expect(runs.boxOf(change, SHAPE)).toEqual({ start: [0, 0, 0], stop: [7, 2, 1] });
  });

  it("count the voxels that two changes share", () => {
    const [empty, first, second] = [new Uint8Array(140), someLabels(6), someLabels(7)];
    const shared = first.filter((value, offset) => value > 0 && second[offset]! > 0).length;
    expect(runs.sharedVoxels(between(empty, first), between(empty, second))).toBe(shared);
  });
});
