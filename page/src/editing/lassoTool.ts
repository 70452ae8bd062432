import type { Overlay, Plane, SlicePointer, Triple } from "../contract";
import { polygonOffsets, type Point } from "./lasso";
import { allowed } from "./painting";
import { changedVoxels, isEmpty, paintRuns } from "./runs";
import { planeAxes, type DrawingTool, type Workplace } from "./workplace";

interface Loop {
  plane: Plane;
  slice: number;
  points: Point[];
  erases: boolean;
  /** Drawn corner by corner with the keyboard. */
  corners: boolean;
}

/** Fills what the pointer goes round in a slice; with Shift it erases. */
export class LassoTool implements DrawingTool {
  readonly name = "lasso";
  readonly cursor = "crosshair";
  private loop: Loop | null = null;

  constructor(private readonly place: Workplace) {}

  handle(pointer: SlicePointer): boolean {
    const { phase, plane, index } = pointer;
    if (phase === "down") {
      if (!pointer.primary || pointer.control || pointer.alt || !this.place.active()) return false;
      this.loop = { ...this.at(index, plane), erases: pointer.shift, corners: false };
      return true;
    }
    if (!this.loop || this.loop.corners) return false;
    if (phase === "move") {
      this.loop.points.push(...this.at(index, plane).points);
      this.place.redraw();
    } else if (phase === "up") this.close();
    return true;
  }

  /** Sets a corner; the same corner again closes the line. */
  act(at: Triple, plane: Plane, other: boolean): void {
    if (!this.place.active()) return;
    const here = this.at(at, plane);
    if (this.loop?.plane !== plane || this.loop.slice !== here.slice) {
      this.loop = { ...here, erases: other, corners: true };
      this.place.say("First corner set. Set more; the last corner once more closes the line.");
    } else if (String(this.loop.points.at(-1)) === String(here.points[0])) this.close();
    else {
      this.loop.points.push(...here.points);
      this.place.say(`Corner ${this.loop.points.length} set.`);
    }
    this.place.redraw();
  }

  cut(): void {}

  cancel(): boolean {
    const had = this.loop !== null;
    this.loop = null;
    this.place.redraw();
    return had;
  }

  overlay(plane: Plane, slice: number): Overlay | null {
    if (!this.loop || this.loop.plane !== plane || this.loop.slice !== slice) return null;
    const { axes } = planeAxes(this.place.geometry, plane);
    const colour = this.loop.erases ? "#ffffff" : (this.place.active()?.colour ?? "#ffffff");
    const dots = this.loop.corners ? this.loop.points.map((at) => ({ at, colour })) : [];
    return { axes, lines: [{ points: this.loop.points, closed: true, colour, width: 1.5 }], dots };
  }

  private at(index: Triple, plane: Plane): { plane: Plane; slice: number; points: Point[] } {
    const { axes, normal } = planeAxes(this.place.geometry, plane);
    return { plane, slice: Math.round(index[normal]!), points: [[index[axes[0]]!, index[axes[1]]!]] };
  }

  private close(): void {
    const { plane, slice, points, erases } = this.loop!;
    this.loop = null;
    const active = this.place.active();
    if (!active) return;
    const { geometry } = this.place;
    const labels = this.place.labels(active.layer);
    const inside = polygonOffsets(points, { shape: geometry.shape, ...planeAxes(geometry, plane), slice });
    const { offsets, value } = allowed(this.place, active, inside, { erases });
    const runs = paintRuns(offsets, labels.data, value);
    if (!isEmpty(runs)) {
      labels.apply(runs);
      const parameters = { structure: active.structure, plane, slice, erase: erases, over: this.place.settings().over };
      this.place.commit({ layer: active.layer, tool: "lasso", parameters, runs });
    }
    this.place.say(`${changedVoxels(runs)} voxels changed.`);
    this.place.redraw();
  }
}
