/** What painting may change: the person's choices as a rule for voxels. One for all tools that draw. */

import type { VoxelStore } from "../contract";
import type { ActiveStructure, Workplace } from "./workplace";

/** What may be painted over: only what has no label yet, or everything that is shown. */
export type PaintOver = "background" | "all";

export interface PaintRule {
  value: number;
  over: PaintOver;
  /** Erasing takes away this value only; null: any. */
  erases: number | null;
  /** Values that stay, whatever is chosen: what cannot be seen is not changed. */
  hidden: ReadonlySet<number>;
  /** Intensities that may be painted, in stored values; null: any. */
  stored: Limits | null;
}

export interface Limits {
  lower: number;
  upper: number;
}

export interface Voxels {
  labels: ArrayLike<number>;
  image: ArrayLike<number>;
  /** Slices k that have arrived, of the labels and of the image. */
  labelsLoaded: ArrayLike<number>;
  imageLoaded: ArrayLike<number>;
  /** Voxels of one slice k. */
  plane: number;
}

/** Of a step between stored values: a limit this near to one of them is that value, whatever the rounding. */
const NEAR = 1e-3;

/** A window of intensities as one of stored values, both ends included. */
export function storedLimits({ lower, upper }: Limits, { slope, intercept }: Pick<VoxelStore, "slope" | "intercept">): Limits {
  const ends = [(lower - intercept) / slope, (upper - intercept) / slope];
  return { lower: Math.min(...ends) - NEAR, upper: Math.max(...ends) + NEAR };
}

/** Those of the offsets that a tool may change as the person has chosen, and the value that they get. */
export function allowed(
  place: Workplace,
  { layer, value }: ActiveStructure,
  offsets: ArrayLike<number>,
  { erases, limited = false }: { erases: boolean; limited?: boolean },
): { offsets: Uint32Array; value: number } {
  const { geometry, image } = place;
  const labels = place.labels(layer);
  const { over, erases: what, limits } = place.settings();
  const rule: PaintRule = {
    value: erases ? 0 : value,
    over,
    erases: what === "active" ? value : null,
    // Layers of their own hold one structure, which is not drawn while it is hidden.
    hidden: layer === 0 ? place.hidden() : new Set(),
    stored: limited ? storedLimits(limits, image) : null,
  };
  const loaded = { labelsLoaded: labels.loaded, imageLoaded: image.loaded };
  const voxels = { labels: labels.data, image: image.data, ...loaded, plane: geometry.shape[0] * geometry.shape[1] };
  return { offsets: paintable(offsets, voxels, rule), value: rule.value };
}

/** Those of the offsets that the rule lets change. Nothing is painted where labels have not arrived. */
export function paintable(offsets: ArrayLike<number>, voxels: Voxels, rule: PaintRule): Uint32Array {
  const kept = new Uint32Array(offsets.length);
  let count = 0;
  for (let n = 0; n < offsets.length; n++) {
    const offset = offsets[n]!;
    const k = Math.floor(offset / voxels.plane);
    if (voxels.labelsLoaded[k] && mayChange(voxels.labels[offset]!, rule)) {
      const { stored } = rule;
      if (stored) {
        const intensity = voxels.image[offset]!;
        if (!voxels.imageLoaded[k] || intensity < stored.lower || intensity > stored.upper) continue;
      }
      kept[count++] = offset;
    }
  }
  return kept.slice(0, count);
}

function mayChange(now: number, { value, over, erases, hidden }: PaintRule): boolean {
  if (now === value || hidden.has(now)) return false;
  if (value === 0) return erases === null || now === erases;
  return over === "all" || now === 0;
}
