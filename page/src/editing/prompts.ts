/** Hints to a proposal: clicks, a box, scribbles. Pure. */

import type { Geometry, Plane, Triple } from "../contract";
import { planeAxes } from "./workplace";
import type { Box } from "./runs";

export interface PointPrompt {
  index: Triple;
  positive: boolean;
}

export interface Scribble {
  indices: Triple[];
  positive: boolean;
}

export interface Prompts {
  points: readonly PointPrompt[];
  box: Box | null;
  scribbles: readonly Scribble[];
}

export const NO_PROMPTS: Prompts = { points: [], box: null, scribbles: [] };

export function anyPrompts({ points, box, scribbles }: Prompts): boolean {
  return points.length > 0 || box !== null || scribbles.length > 0;
}

export function withPoint(prompts: Prompts, point: PointPrompt): Prompts {
  return { ...prompts, points: [...prompts.points, point] };
}

export function withScribble(prompts: Prompts, scribble: Scribble): Prompts {
  return { ...prompts, scribbles: [...prompts.scribbles, scribble] };
}

/**
 * A box drawn from corner to corner in a plane. Across the plane it is as deep as its shorter side in mm, about the
 * slice that it is drawn in; a box that is there already, where the slice cuts it, keeps its depth: so a second drawing
 * in another plane sets the depth.
 */
export function withBox(prompts: Prompts, drawn: { from: Triple; to: Triple; plane: Plane }, geometry: Geometry): Prompts {
  const { axes, normal } = planeAxes(geometry, drawn.plane);
  const { shape, spacingMm } = geometry;
  const start: Triple = [0, 0, 0];
  const stop: Triple = [0, 0, 0];
  for (const axis of axes) {
    const ends = [drawn.from[axis]!, drawn.to[axis]!].map(Math.round);
    start[axis] = Math.max(Math.min(...ends), 0);
    stop[axis] = Math.min(Math.max(...ends) + 1, shape[axis]!);
  }
  const slice = Math.round(drawn.to[normal]!);
  const old = prompts.box;
  if (old && slice >= old.start[normal]! && slice < old.stop[normal]!) {
    [start[normal], stop[normal]] = [old.start[normal]!, old.stop[normal]!];
  } else {
    const side = Math.min(...axes.map((axis) => (stop[axis]! - start[axis]!) * spacingMm[axis]!));
    const half = Math.round(side / spacingMm[normal]! / 2);
    start[normal] = Math.max(slice - half, 0);
    stop[normal] = Math.min(slice + half + 1, shape[normal]!);
  }
  const empty = start.some((first, axis) => first >= stop[axis]!);
  return empty ? prompts : { ...prompts, box: { start, stop } };
}

/** Voxels on the straight way from one to another, both ends included, none twice. */
export function voxelsBetween(from: Triple, to: Triple): Triple[] {
  const steps = Math.max(...from.map((start, axis) => Math.abs(Math.round(to[axis]!) - Math.round(start))), 1);
  const found = new Map<string, Triple>();
  for (let step = 0; step <= steps; step++) {
    const voxel = from.map((start, axis) => Math.round(start + (step / steps) * (to[axis]! - start)) + 0) as Triple;
    found.set(voxel.join(), voxel);
  }
  return [...found.values()];
}
