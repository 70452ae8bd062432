/** Voxels of a case in the browser, filled slab by slab. */

import type { Geometry, LabelStore, Runs, VoxelStore } from "../contract";

type SliceListener = (kFirst: number, kLast: number) => void;

/** A store that slabs are put into. */
export interface FillableStore {
  readonly loaded: Uint8Array;
  /** Puts slices from <= k < to. Throws RangeError where the bytes are not of that many slices. */
  fill(from: number, to: number, bytes: ArrayBuffer): void;
}

function voxelsOf({ shape }: Geometry): number {
  return shape[0] * shape[1] * shape[2];
}

function checked(bytes: ArrayBuffer, expected: number, from: number, to: number): void {
  if (bytes.byteLength === expected) return;
  throw new RangeError(
    `Slices ${from} to ${to - 1} should have ${expected} bytes, but the server sent ${bytes.byteLength}.`,
  );
}

export interface ImageStore extends VoxelStore, FillableStore {
  readonly data: Int16Array;
}

/** Room for a scan: int16, all 0 until it arrives. */
export function imageStore(geometry: Geometry, slope: number, intercept: number): ImageStore {
  const data = new Int16Array(voxelsOf(geometry));
  const loaded = new Uint8Array(geometry.shape[2]);
  const plane = geometry.shape[0] * geometry.shape[1];
  return {
    geometry,
    data,
    slope,
    intercept,
    loaded,
    fill(from, to, bytes) {
      checked(bytes, (to - from) * plane * 2, from, to);
      data.set(new Int16Array(bytes), from * plane);
      loaded.fill(1, from, to);
    },
  };
}

export interface FillableLabels extends LabelStore, FillableStore {
  readonly data: Uint8Array | Uint16Array;
}

interface Write {
  start: number;
  stop: number;
  value: number;
}

/**
 * Room for one layer of labels. What is written before a slice has arrived is kept and put over it when it comes, so
 * that a slab that was on its way cannot undo an edit.
 */
export function labelStore(geometry: Geometry, type: "uint8" | "uint16"): FillableLabels {
  const size = voxelsOf(geometry);
  const data = type === "uint8" ? new Uint8Array(size) : new Uint16Array(size);
  const loaded = new Uint8Array(geometry.shape[2]);
  const plane = geometry.shape[0] * geometry.shape[1];
  const listeners = new Set<SliceListener>();
  let early: Write[] = [];

  const put = (write: Write): void => {
    data.fill(write.value, write.start, write.stop);
    const [first, last] = [Math.floor(write.start / plane), Math.floor((write.stop - 1) / plane)];
    for (let k = first; k <= last; k++) {
      if (loaded[k]) continue;
      early.push(write);
      return;
    }
  };
  const tell = (first: number, last: number): void => {
    for (const listener of listeners) listener(first, last);
  };

  return {
    geometry,
    data,
    slope: 1,
    intercept: 0,
    loaded,
    fill(from, to, bytes) {
      checked(bytes, (to - from) * plane * data.BYTES_PER_ELEMENT, from, to);
      data.set(type === "uint8" ? new Uint8Array(bytes) : new Uint16Array(bytes), from * plane);
      const [start, stop] = [from * plane, to * plane];
      for (const write of early) {
        if (write.stop > start && write.start < stop) {
          data.fill(write.value, Math.max(write.start, start), Math.min(write.stop, stop));
        }
      }
      loaded.fill(1, from, to);
      if (loaded.every(Boolean)) early = [];
      tell(from, to - 1);
    },
    apply(runs: Runs) {
      const count = runs.offsets.length;
      if (count === 0) return;
      let [low, high] = [size, 0];
      for (let n = 0; n < count; n++) {
        const start = runs.offsets[n]!;
        const stop = Math.min(start + runs.lengths[n]!, size);
        if (start >= stop) continue;
        put({ start, stop, value: runs.after[n]! });
        low = Math.min(low, start);
        high = Math.max(high, stop - 1);
      }
      if (low <= high) tell(Math.floor(low / plane), Math.floor(high / plane));
    },
    paint(offsets, value) {
      let [low, high] = [size, -1];
      for (const offset of offsets) {
        if (offset >= size) continue;
        if (loaded[Math.floor(offset / plane)]) data[offset] = value;
        else put({ start: offset, stop: offset + 1, value });
        low = Math.min(low, offset);
        high = Math.max(high, offset);
      }
      if (low <= high) tell(Math.floor(low / plane), Math.floor(high / plane));
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
