import type { Runs, Triple } from "../contract";
import { RunBuilder } from "./runs";

interface Touched {
  first: number;
  last: number;
  before: Uint16Array | Uint8Array;
}

/** What a stroke changes. It keeps each slice as it was at the first touch, so that its length costs nothing. */
export class Stroke {
  private readonly touched = new Map<number, Touched>();
  private readonly plane: number;

  constructor(
    private readonly data: Uint16Array | Uint8Array,
    shape: Triple,
  ) {
    this.plane = shape[0] * shape[1];
  }

  /** Must be called before the voxels (rising offsets) are painted. */
  touch(offsets: Uint32Array): void {
    for (let n = 0; n < offsets.length; ) {
      const k = Math.floor(offsets[n]! / this.plane);
      const start = k * this.plane;
      const first = offsets[n]! - start;
      while (n < offsets.length && offsets[n]! < start + this.plane) n++;
      const last = offsets[n - 1]! - start;
      const slice = this.touched.get(k);
      if (slice) {
        slice.first = Math.min(slice.first, first);
        slice.last = Math.max(slice.last, last);
      } else this.touched.set(k, { first, last, before: this.data.slice(start, start + this.plane) });
    }
  }

  /** The change since the beginning or the last cut; the stroke goes on from here. */
  cut(): Runs {
    const built = new RunBuilder();
    for (const k of [...this.touched.keys()].sort((one, other) => one - other)) {
      const { first, last, before } = this.touched.get(k)!;
      for (let within = first; within <= last; within++) {
        const offset = k * this.plane + within;
        built.add(offset, before[within]!, this.data[offset]!);
      }
    }
    this.touched.clear();
    return built.finish();
  }
}
