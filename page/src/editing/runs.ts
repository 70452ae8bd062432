import { fromBase64, toBase64 } from "../api";
import type { Runs, Triple } from "../contract";

/** Bytes of one packed run: offset u32, length u32, before u16, after u16, little-endian. */
const RUN_BYTES = 12;

/** Collects changes voxel by voxel, in rising order of offsets, and joins neighbours that change alike. */
export class RunBuilder {
  private readonly offsets: number[] = [];
  private readonly lengths: number[] = [];
  private readonly before: number[] = [];
  private readonly after: number[] = [];

  /** Adds a voxel; one that does not change is left out. */
  add(offset: number, before: number, after: number): void {
    if (before === after) return;
    const last = this.offsets.length - 1;
    if (
      last >= 0 &&
      this.offsets[last]! + this.lengths[last]! === offset &&
      this.before[last] === before &&
      this.after[last] === after
    ) {
      this.lengths[last]!++;
      return;
    }
    this.offsets.push(offset);
    this.lengths.push(1);
    this.before.push(before);
    this.after.push(after);
  }

  finish(): Runs {
    return {
      offsets: Uint32Array.from(this.offsets),
      lengths: Uint32Array.from(this.lengths),
      before: Uint16Array.from(this.before),
      after: Uint16Array.from(this.after),
    };
  }
}

export function isEmpty(runs: Runs): boolean {
  return runs.offsets.length === 0;
}

export function changedVoxels(runs: Runs): number {
  return runs.lengths.reduce((sum, length) => sum + length, 0);
}

/** The change that takes this one back. */
export function inverse(runs: Runs): Runs {
  return { offsets: runs.offsets, lengths: runs.lengths, before: runs.after, after: runs.before };
}

/** The same voxels set to the same values, as a change of what `data` holds now. */
export function repaint(runs: Runs, data: ArrayLike<number>): Runs {
  const built = new RunBuilder();
  for (let n = 0; n < runs.offsets.length; n++) {
    const start = runs.offsets[n]!;
    const stop = Math.min(start + runs.lengths[n]!, data.length);
    for (let offset = start; offset < stop; offset++) built.add(offset, data[offset]!, runs.after[n]!);
  }
  return built.finish();
}

/** Changes of sorted offsets to one value. */
export function paintRuns(offsets: ArrayLike<number>, data: ArrayLike<number>, value: number): Runs {
  const built = new RunBuilder();
  for (let n = 0; n < offsets.length; n++) built.add(offsets[n]!, data[offsets[n]!]!, value);
  return built.finish();
}

export interface Box {
  start: Triple;
  /** One past the last index. */
  stop: Triple;
}

/** The smallest box with all changed voxels, null without any. */
export function boxOf(runs: Runs, shape: Triple): Box | null {
  if (isEmpty(runs)) return null;
  const [sizeI, sizeJ] = shape;
  const start: Triple = [...shape];
  const stop: Triple = [0, 0, 0];
  const see = (axis: number, first: number, last: number) => {
    start[axis] = Math.min(start[axis]!, first);
    stop[axis] = Math.max(stop[axis]!, last + 1);
  };
  for (let n = 0; n < runs.offsets.length; n++) {
    const first = runs.offsets[n]!;
    const last = first + runs.lengths[n]! - 1;
    const [rowFirst, rowLast] = [Math.floor(first / sizeI), Math.floor(last / sizeI)];
    const [kFirst, kLast] = [Math.floor(rowFirst / sizeJ), Math.floor(rowLast / sizeJ)];
    see(2, kFirst, kLast);
    if (kFirst === kLast) see(1, rowFirst % sizeJ, rowLast % sizeJ);
    else see(1, 0, sizeJ - 1);
    if (rowFirst === rowLast) see(0, first % sizeI, last % sizeI);
    else see(0, 0, sizeI - 1);
  }
  return { start, stop };
}

/** Voxels that both changes touch. */
export function sharedVoxels(one: Runs, other: Runs): number {
  let shared = 0;
  for (let n = 0, m = 0; n < one.offsets.length && m < other.offsets.length; ) {
    const [startN, startM] = [one.offsets[n]!, other.offsets[m]!];
    const [stopN, stopM] = [startN + one.lengths[n]!, startM + other.lengths[m]!];
    shared += Math.max(Math.min(stopN, stopM) - Math.max(startN, startM), 0);
    if (stopN < stopM) n++;
    else m++;
  }
  return shared;
}

export function sameRuns(one: Runs, other: Runs): boolean {
  const count = one.offsets.length;
  if (count !== other.offsets.length) return false;
  for (let n = 0; n < count; n++) {
    if (one.offsets[n] !== other.offsets[n] || one.lengths[n] !== other.lengths[n]) return false;
    if (one.before[n] !== other.before[n] || one.after[n] !== other.after[n]) return false;
  }
  return true;
}

export function packRuns(runs: Runs): Uint8Array {
  const bytes = new Uint8Array(runs.offsets.length * RUN_BYTES);
  const view = new DataView(bytes.buffer);
  for (let n = 0; n < runs.offsets.length; n++) {
    view.setUint32(n * RUN_BYTES, runs.offsets[n]!, true);
    view.setUint32(n * RUN_BYTES + 4, runs.lengths[n]!, true);
    view.setUint16(n * RUN_BYTES + 8, runs.before[n]!, true);
    view.setUint16(n * RUN_BYTES + 10, runs.after[n]!, true);
  }
  return bytes;
}

/** Throws a RangeError where the bytes are no whole number of runs. */
export function unpackRuns(bytes: Uint8Array): Runs {
  if (bytes.length % RUN_BYTES !== 0) {
    throw new RangeError(`Expected a multiple of ${RUN_BYTES} bytes of changes, got ${bytes.length}.`);
  }
  const count = bytes.length / RUN_BYTES;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const runs: Runs = {
    offsets: new Uint32Array(count),
    lengths: new Uint32Array(count),
    before: new Uint16Array(count),
    after: new Uint16Array(count),
  };
  for (let n = 0; n < count; n++) {
    runs.offsets[n] = view.getUint32(n * RUN_BYTES, true);
    runs.lengths[n] = view.getUint32(n * RUN_BYTES + 4, true);
    runs.before[n] = view.getUint16(n * RUN_BYTES + 8, true);
    runs.after[n] = view.getUint16(n * RUN_BYTES + 10, true);
  }
  return runs;
}

export function encodeRuns(runs: Runs): string {
  return toBase64(packRuns(runs));
}

export function decodeRuns(text: string): Runs {
  return unpackRuns(fromBase64(text));
}
