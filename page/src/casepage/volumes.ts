import type { Geometry, LabelStore, Runs } from "../contract";

/** Voxels of each value. */
export type Counts = ReadonlyMap<number, number>;

/** Voxels counted at once: a few milliseconds. */
const PIECE = 1 << 22;

/** Counts in pieces, between which the page stays awake. */
export async function countVoxels(data: Uint8Array | Uint16Array): Promise<Counts> {
  const histogram = new Float64Array(data instanceof Uint8Array ? 256 : 65536);
  for (let start = 0; start < data.length; start += PIECE) {
    const stop = Math.min(start + PIECE, data.length);
    for (let offset = start; offset < stop; offset++) histogram[data[offset]!]!++;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return new Map([...histogram.entries()].filter(([value, count]) => value > 0 && count > 0));
}

/** The counts after a change. */
export function countsAfter(counts: Counts, runs: Runs): Counts {
  const next = new Map(counts);
  const add = (value: number, voxels: number) => {
    if (value > 0) next.set(value, (next.get(value) ?? 0) + voxels);
  };
  for (let n = 0; n < runs.offsets.length; n++) {
    add(runs.before[n]!, -runs.lengths[n]!);
    add(runs.after[n]!, runs.lengths[n]!);
  }
  return next;
}

/** Of one voxel. The determinant also holds for axes that are not at right angles. */
export function voxelMl({ affine }: Geometry): number {
  const [[a, b, c], [d, e, f], [g, h, i]] = affine.map((row) => row.slice(0, 3)) as [number[], number[], number[]];
  const volume = a! * (e! * i! - f! * h!) - b! * (d! * i! - f! * g!) + c! * (d! * h! - e! * g!);
  return Math.abs(volume) / 1000;
}

const AGAIN_MS = 1000;

/** Voxels of each structure, counted once and then kept up with every change. */
export class StructureVolumes {
  private voxels: Counts | null = null;
  private changes = 0;

  /** `layers`: layer 0 holds values, any other one 1 for the structure that it is named after. */
  constructor(
    private readonly layers: ReadonlyMap<number, Pick<LabelStore, "data">>,
    private readonly tell: (voxels: Counts) => void,
  ) {}

  /** Counts all, and once more where something changed meanwhile. */
  async count(): Promise<void> {
    const turn = this.changes;
    const all = new Map<number, number>();
    for (const [layer, { data }] of this.layers) {
      const counts = await countVoxels(data);
      if (layer === 0) counts.forEach((voxels, value) => all.set(value, voxels));
      else all.set(layer, counts.get(1) ?? 0);
    }
    if (turn === this.changes) this.become(all);
    else setTimeout(() => void this.count(), AGAIN_MS);
  }

  changed(layer: number, runs: Runs): void {
    this.changes++;
    if (!this.voxels) return;
    if (layer === 0) return this.become(countsAfter(this.voxels, runs));
    const own = countsAfter(new Map([[1, this.voxels.get(layer) ?? 0]]), runs).get(1) ?? 0;
    this.become(new Map(this.voxels).set(layer, own));
  }

  private become(voxels: Counts): void {
    this.voxels = voxels;
    this.tell(voxels);
  }
}
