import type { Geometry, Overlay, Plane, SlicePointer, Triple } from "../contract";
import { voxelOf } from "../viewer/geometry";
import { voxelsBetween, withBox, withPoint, withScribble, type Prompts } from "./prompts";
import { planeAxes, type DrawingTool, type Workplace } from "./workplace";

export type PromptKind = "point" | "box" | "scribble";

export interface PromptHost {
  prompts(): Prompts;
  /** Takes new prompts and asks for a proposal. */
  prompt(prompts: Prompts): void;
}

const POSITIVE = "#7fd6a0";
const NEGATIVE = "#ff8f87";
const HALF = "#ffc46b";

/** Clicks, boxes and scribbles that a proposal is made from. Shift: what does not belong. */
export class PromptTool implements DrawingTool {
  readonly cursor = "crosshair";
  private drag: { plane: Plane; from: Triple; to: Triple; voxels: Triple[]; positive: boolean } | null = null;
  private corner: { plane: Plane; at: Triple } | null = null;

  constructor(
    readonly name: PromptKind,
    private readonly place: Workplace,
    private readonly host: PromptHost,
  ) {}

  handle(pointer: SlicePointer): boolean {
    const { phase, plane, index, voxel } = pointer;
    if (phase === "down") {
      if (!pointer.primary || pointer.control || pointer.alt || !pointer.inside || !this.place.active()) return false;
      this.drag = { plane, from: index, to: index, voxels: [voxel], positive: !pointer.shift };
      return true;
    }
    const drag = this.drag;
    if (!drag) return false;
    if (phase === "move" || phase === "up") {
      const way = voxelsBetween(drag.to, index).filter((at) => voxelOf(this.place.geometry.shape, at));
      drag.voxels.push(...way);
      drag.to = index;
    }
    if (phase === "up") this.finish(drag);
    this.place.redraw();
    return true;
  }

  /** A click; a corner of the box; a scribble of one voxel. */
  act(at: Triple, plane: Plane, other: boolean): void {
    if (!this.place.active()) return;
    const voxel = at.map(Math.round) as Triple;
    if (this.name === "box") {
      if (this.corner?.plane !== plane) {
        this.corner = { plane, at: voxel };
        this.place.say("First corner of the box set; go to the opposite one and press the key again.");
      } else {
        const from = this.corner.at;
        this.corner = null;
        this.host.prompt(withBox(this.host.prompts(), { from, to: voxel, plane }, this.place.geometry));
      }
    } else if (this.name === "point") {
      this.host.prompt(withPoint(this.host.prompts(), { index: voxel, positive: !other }));
    } else {
      this.host.prompt(withScribble(this.host.prompts(), { indices: [voxel], positive: !other }));
    }
    this.place.redraw();
  }

  cut(): void {}

  cancel(): boolean {
    const had = this.drag !== null || this.corner !== null;
    this.drag = null;
    this.corner = null;
    this.place.redraw();
    return had;
  }

  overlay(plane: Plane, slice: number): Overlay | null {
    const { geometry } = this.place;
    const { axes, normal } = planeAxes(geometry, plane);
    const at = (index: Triple): [number, number] => [index[axes[0]]!, index[axes[1]]!];
    const overlay: Overlay = { axes, lines: [], dots: [] };
    if (this.corner && Math.round(this.corner.at[normal]!) === slice) {
      overlay.dots.push({ at: at(this.corner.at), colour: HALF, radius: 4 });
    }
    const drag = this.drag;
    if (drag?.plane !== plane) return overlay;
    const colour = drag.positive ? POSITIVE : NEGATIVE;
    if (this.name === "box") {
      const [from, to] = [at(drag.from), at(drag.to)];
      overlay.lines.push({ points: [from, [to[0], from[1]], to, [from[0], to[1]]], closed: true, colour: HALF });
    } else if (this.name === "scribble") {
      overlay.lines.push({ points: drag.voxels.map(at), closed: false, colour, width: 3 });
    }
    return overlay;
  }

  private finish({ plane, from, to, voxels, positive }: NonNullable<PromptTool["drag"]>): void {
    this.drag = null;
    const prompts = this.host.prompts();
    if (this.name === "box") this.host.prompt(withBox(prompts, { from, to, plane }, this.place.geometry));
    else if (this.name === "scribble") {
      const indices = [...new Map(voxels.map((voxel) => [voxel.join(), voxel])).values()];
      this.host.prompt(withScribble(prompts, { indices, positive }));
    } else this.host.prompt(withPoint(prompts, { index: voxels[0]!, positive }));
  }
}

/** Prompts given so far, where a slice cuts them. */
export function promptOverlay(prompts: Prompts, geometry: Geometry, plane: Plane, slice: number): Overlay {
  const { axes, normal } = planeAxes(geometry, plane);
  const at = (index: Triple): [number, number] => [index[axes[0]]!, index[axes[1]]!];
  const tint = (positive: boolean) => (positive ? POSITIVE : NEGATIVE);
  const overlay: Overlay = { axes, lines: [], dots: [] };
  for (const { index, positive } of prompts.points) {
    if (index[normal] === slice) overlay.dots.push({ at: at(index), colour: tint(positive), radius: 5 });
  }
  for (const { indices, positive } of prompts.scribbles) {
    const points = indices.filter((index) => index[normal] === slice).map(at);
    if (points.length === 1) overlay.dots.push({ at: points[0]!, colour: tint(positive), radius: 3 });
    else if (points.length > 1) overlay.lines.push({ points, closed: false, colour: tint(positive), width: 3 });
  }
  const { box } = prompts;
  if (box && slice >= box.start[normal]! && slice < box.stop[normal]!) {
    const [left, top] = [box.start[axes[0]]! - 0.5, box.start[axes[1]]! - 0.5];
    const [right, bottom] = [box.stop[axes[0]]! - 0.5, box.stop[axes[1]]! - 0.5];
    const points: [number, number][] = [[left, top], [right, top], [right, bottom], [left, bottom]];
    overlay.lines.push({ points, closed: true, colour: HALF });
  }
  return overlay;
}
